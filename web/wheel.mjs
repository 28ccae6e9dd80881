// The wheel over a panel, on the classic canvas: it zooms, as it does over ComfyUI's own fields and everywhere in Nodes 2.0.

const CLASSIC = ".dom-widget" // what a panel stands in there

/** Whether something from an element up to `top` scrolls by itself. */
function scrolls(element, top) {
  for (let at = element; at; at = at === top ? null : at.parentElement)
    if (at.scrollHeight > at.clientHeight && /auto|scroll/.test(getComputedStyle(at).overflowY)) return true
  return false
}

/** Hand the wheel over a panel on to `zoom(event)`, but for what scrolls in it. */
export function passWheel(panel, zoom) {
  panel.addEventListener(
    "wheel",
    (event) => {
      if (panel.closest(CLASSIC) && (event.ctrlKey || !scrolls(event.target, panel))) zoom(event)
    },
    { passive: false },
  )
}
