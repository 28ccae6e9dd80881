// The text of a node's report, and whose run it is of. Needs an element's text and classes alone; tested with `node --test`.

/**
 * {say, dim, fail} for an element. `say(text, again)`: the node's report; one that was shown before (`again`) takes neither the place
 * of what a run is still to bring nor of what has failed. `dim(waiting)`: a run has begun, or has left the node out. `fail()`: the node
 * has failed, so that no older report stands under its error.
 */
export function makeReport(element) {
  let failed = false
  const isWaiting = () => element.classList.contains("waiting")
  const dim = (waiting) => element.classList.toggle("waiting", waiting)
  const put = (text) => {
    dim(false)
    element.textContent = text
  }
  const say = (text, again = false) => {
    if (again && (failed || isWaiting())) return
    failed = false
    put(text)
  }
  const fail = () => {
    failed = true
    put("")
  }
  return { say, dim, fail }
}
