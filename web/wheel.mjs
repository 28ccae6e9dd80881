// The wheel over a panel, on the classic canvas: the canvas takes it, as it does over ComfyUI's own fields and everywhere in Nodes 2.0.

import { app } from "../../scripts/app.js"

const CLASSIC = ".dom-widget" // what a panel stands in there

/** Whether something from an element up to `top` scrolls by itself. */
function scrolls(element, top) {
  for (let at = element; at; at = at === top ? null : at.parentElement)
    if (at.scrollHeight > at.clientHeight + 1 && /auto|scroll/.test(getComputedStyle(at).overflowY)) return true
  return false
}

/** Hand the wheel over a panel on to the canvas, but for what scrolls in it. */
export function passWheel(panel) {
  const pass = (event) => {
    const aside = Math.abs(event.deltaX) > Math.abs(event.deltaY)
    if (panel.closest(CLASSIC) && (event.ctrlKey || aside || !scrolls(event.target, panel))) app.canvas.processMouseWheel(event)
  }
  panel.addEventListener("wheel", pass, { passive: false })
}
