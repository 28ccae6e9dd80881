// What a browser keeps over a reload. No page, no ComfyUI; tested with `node --test`.

/** A map of strings in a storage (localStorage: of the browser, sessionStorage: of this tab) under `key`, the newest `most` of them;
 * of this page alone where the browser lets nothing be stored. */
export function keptMap(storage, key, most) {
  let here = []
  let refused = false // the browser holds an older map than this page
  const read = () => {
    if (refused) return new Map(here)
    try {
      const entries = JSON.parse(storage.getItem(key) ?? "[]")
      return new Map(Array.isArray(entries) ? entries : [])
    } catch {
      return new Map(here)
    }
  }
  const write = (map) => {
    here = [...map].slice(-most)
    try {
      storage.setItem(key, JSON.stringify(here))
      refused = false
    } catch {
      refused = true // full, or forbidden
    }
  }
  const change = (name, ...value) => {
    const map = read()
    if (map.delete(name) || value.length) write(value.length ? map.set(name, value[0]) : map)
  }
  return {
    get: (name) => read().get(name),
    has: (name) => read().has(name),
    keys: () => [...read().keys()],
    values: () => [...read().values()],
    set: change,
    delete: (name) => change(name),
  }
}
