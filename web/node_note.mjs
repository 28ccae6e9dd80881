// A sentence on a node, which takes one line of its height: the rest lies over the node itself and never over its neighbour. An App
// shows no nodes: there it stands above the node's panel.

import { styleOnce } from "./style_once.mjs"

const LINE = 18 // pixels
const SEEN_MS = 300 // until the canvas has laid it out
const STYLE = `
.slider-note { position: relative; height: ${LINE}px; min-height: ${LINE}px; width: 100%; box-sizing: border-box; }
.slider-note > div { position: absolute; left: 0; right: 0; bottom: 0; max-height: 190px; overflow-y: auto; box-sizing: border-box;
  padding: 5px 22px 5px 8px; border-radius: 6px; background: #2b1d1d; border: 1px solid #a05050; color: #f4b4b4; white-space: pre-line; overflow-wrap: anywhere;
  font: 12px/1.35 sans-serif; user-select: text; }
.slider-note.in-app { height: auto; }
.slider-note.in-app > div { position: static; }
.slider-note.warning > div { background: #2b2617; border-color: #a08a40; color: #f0dc9c; }
.slider-note .close { position: absolute; top: 2px; right: 4px; background: none; border: none; color: inherit; cursor: pointer; font-size: 13px; }
.slider-note .do { margin: 4px 6px 0 0; padding: 2px 10px; border-radius: 5px; border: 1px solid currentColor; background: none; color: inherit;
  cursor: pointer; font: inherit; }
`

function button(document, className, text, onClick) {
  const made = document.createElement("button")
  made.type = "button"
  made.className = className
  made.textContent = text
  made.addEventListener("click", onClick)
  return made
}

const isSeen = (element) => element.getBoundingClientRect().width > 0

/** Above the panel of the node that an App shows, if the node itself is not seen. */
function showInApp(node, element) {
  if (isSeen(element)) return
  const panel = node.widgets?.find((widget) => widget.element && widget.element !== element && isSeen(widget.element))?.element
  if (!panel) return
  element.classList.add("in-app")
  panel.before(element)
}

/**
 * Put `text` on a node, in place of what stood there: a function that takes it away again. `kind`: "error" or "warning".
 * `actions`: [[label, function], ...], a button for each.
 */
export function noteOn(document, node, text, kind = "error", actions = []) {
  styleOnce(document, "slider-note-style", STYLE)
  node.sliderNote?.()
  const element = document.createElement("div")
  element.className = `slider-note slider-${kind} ${kind}`
  const box = document.createElement("div")
  box.dataset.captureWheel = "true"
  const sentence = document.createElement("span")
  sentence.textContent = text
  box.append(sentence)
  const before = node.size[1]
  const widget = node.addDOMWidget("note", "slider_note", element, {
    serialize: false, hideOnZoom: false, getMinHeight: () => LINE, getMaxHeight: () => LINE,
  })
  widget.serialize = false
  const remove = () => {
    if (node.sliderNote !== remove) return
    node.sliderNote = null
    element.remove()
    if (node.widgets?.includes(widget)) node.removeWidget(widget)
    if (node.size[1] > before) node.setSize([node.size[0], before])
    node.setDirtyCanvas?.(true, true)
  }
  if (actions.length) {
    const row = document.createElement("div")
    for (const [label, act] of actions) row.append(button(document, "do", label, () => (remove(), act())))
    box.append(row)
  }
  box.append(button(document, "close", "\u2715", remove))
  element.append(box)
  node.sliderNote = remove
  node.setDirtyCanvas?.(true, true)
  setTimeout(() => node.sliderNote === remove && showInApp(node, element), SEEN_MS)
  return remove
}
