// What changes the layout of a panel waits while a pointer is pressed: a button that slides away between press and release gets no click.

/** {released}, for the pointers that are pressed on `target`, the page's document. */
export function makePress(target) {
  const waiting = new Set() // acts
  let isPressed = false
  const end = () => {
    isPressed = false
    const acts = [...waiting]
    waiting.clear()
    for (const act of acts) act()
  }
  const listen = (event, act) => target?.addEventListener(event, act, { capture: true })
  listen("pointerdown", ({ button }) => (isPressed ||= !button))
  listen("click", () => (isPressed = false)) // what the click does is not late
  for (const event of ["pointerup", "pointercancel"]) listen(event, () => setTimeout(end)) // once its click has come
  listen("pointermove", ({ buttons }) => !buttons && (isPressed || waiting.size) && end()) // the release was not told, as over a menu

  /** Call `act` now, or where a pointer is pressed once after it is released. */
  const released = (act) => {
    if (isPressed) waiting.add(act)
    else act()
  }
  return { released }
}

export const { released } = makePress(globalThis.document)
