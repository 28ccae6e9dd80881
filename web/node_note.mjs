// A sentence on a node. It has a room of its own there, which covers nothing that a person must change: in the node's panel, where it
// has one that takes notes, else below its widgets, as high as there is room for; longer text scrolls. An App shows no nodes: there it
// stands above a panel.

import { inGraph, nodeTypes, shownInApp } from "./app_advice.mjs"
import { IN_APP } from "./app_list.mjs"
import { allNodes } from "./last_output.mjs"
import { styleOnce } from "./style_once.mjs"
import { freshType } from "./widget_type.mjs"

const LEAST = 46 // pixels: two lines
const ROW = 30 // of buttons
const MOST = 190
const MARGIN = 5 // around it in its node
const VUE_ROW = 20 // that Vue nodes add to it at most
const TITLE = 40 // of the node below, and a gap
const WITH_BUTTONS = ["old_name", "name", "force"] // what a note's buttons change
const LAID_MS = 100 // until the page has laid it out
const SEEN_MS = 300 // until the canvas has laid it out
const STYLE = `
.slider-note { position: relative; width: 100%; height: 100%; min-height: 0; box-sizing: border-box; display: flex; flex-direction: column; overflow: hidden;
  border-radius: 6px; background: #2b1d1d; border: 1px solid #a05050; color: #f4b4b4; font: 12px/1.35 sans-serif; user-select: text; }
.slider-note.warning { background: #2b2617; border-color: #a08a40; color: #f0dc9c; }
.slider-note .sentence { flex: 1 1 auto; min-height: 0; overflow-y: auto; overscroll-behavior: contain; padding: 4px 24px 4px 8px; white-space: pre-line;
  overflow-wrap: anywhere; }
.slider-note .elsewhere { display: none; margin-top: 4px; color: #f0dc9c; }
.slider-note.in-app .elsewhere, ${IN_APP} .slider-note .elsewhere { display: block; }
.slider-note .choices { flex: none; padding: 0 8px 5px; }
.slider-note .close { position: absolute; top: 0; right: 2px; padding: 2px 5px; background: none; border: none; color: inherit; cursor: pointer; font-size: 13px; }
.slider-note .do { margin-right: 6px; padding: 2px 10px; border-radius: 5px; border: 1px solid currentColor; background: none; color: inherit;
  cursor: pointer; font: inherit; }
.slider-note.in-app { height: auto; max-height: ${MOST}px; flex: none !important; margin-bottom: 6px; }
`

function button(document, className, text, onClick) {
  const made = document.createElement("button")
  made.type = "button"
  made.className = className
  made.textContent = text
  made.addEventListener("click", onClick)
  return made
}

function noteElement(document, node, text, { kind, actions }, close) {
  const element = document.createElement("div")
  element.className = `slider-note slider-${kind} ${kind}`
  element.setAttribute("role", "alert")
  const sentence = document.createElement("span")
  sentence.className = "sentence"
  sentence.dataset.captureWheel = "true"
  sentence.textContent = text
  const elsewhere = document.createElement("div")
  elsewhere.className = "elsewhere"
  const root = node.graph?.rootGraph ?? node.graph
  elsewhere.textContent = inGraph(text, [...shownInApp(root), ...(actions.length ? WITH_BUTTONS : [])], nodeTypes(root))
  sentence.append(elsewhere)
  element.append(sentence)
  if (actions.length) {
    const row = document.createElement("div")
    row.className = "choices"
    for (const [label, act] of actions) row.append(button(document, "do", label, () => (close(), act())))
    element.append(row)
  }
  const cross = button(document, "close", "\u2715", close)
  cross.setAttribute("aria-label", "Close the note")
  element.append(cross)
  return element
}

/** Whether a sentence names a widget, as "learning_rate" or as "learning rate". */
export function isNamed(sentence, name) {
  const words = (text) => ` ${text.replace(/[^\p{L}\p{N}]+/gu, " ").trim()} `
  return words(sentence).includes(words(name))
}

const isSeen = (element) => element.getBoundingClientRect().width > 0

/** The height in pixels that a note wants at a width. */
function wanted(document, element, width) {
  const copy = element.cloneNode(true)
  copy.removeAttribute("role")
  Object.assign(copy.style, { position: "fixed", left: "-9999px", visibility: "hidden", width: `${width}px`, height: "auto" })
  document.body.append(copy)
  const height = copy.offsetHeight
  copy.remove()
  return height
}

/** How much higher a node may be without lying over the one below it; all that a note can want where none is. */
function roomBelow(node) {
  const [x, y] = node.pos
  const [width, height] = node.size
  const others = (node.graph?.nodes ?? node.graph?._nodes ?? []).filter((other) => other !== node)
  const below = others.filter((other) => other.pos[0] < x + width && other.pos[0] + other.size[0] > x && other.pos[1] > y + height / 2)
  return Math.min(MOST, ...below.map((other) => other.pos[1] - TITLE - (y + height)))
}

/** How high a note may be: what the node has to spare, and what is free below it; `least` in any case. */
function roomFor(node, least) {
  const slack = node.size[1] - node.computeSize()[1]
  return Math.max(least, slack + Math.max(0, roomBelow(node)))
}

/** A widget of its own for an element, and a function that takes it away. */
function addWidget(document, node, element, least) {
  const before = node.size[1]
  const slack = before - node.computeSize()[1]
  const below = Math.max(0, roomBelow(node))
  const most = Math.min(MOST, Math.max(least, slack + below))
  let height = Math.min(wanted(document, element, node.size[0] - 2 * MARGIN), most)
  const widget = node.addDOMWidget("note", freshType("slider_note"), element, { serialize: false, hideOnZoom: false, margin: MARGIN })
  widget.serialize = false
  widget.computeLayoutSize = undefined // it takes no more than its height of a node with room
  widget.computeSize = () => [0, height + 2 * MARGIN - 4]
  const lay = () => {
    element.style.minHeight = element.style.maxHeight = `${height}px`
    node.setSize([node.size[0], Math.max(before, node.computeSize()[1])])
  }
  lay()
  const grown = node.size[1] - before
  const shrink = () => {
    const over = Math.min(node.size[1] - before - below, height - least) // Vue nodes are higher than they compute
    if (over <= 0 || widget.hidden) return
    height -= over
    lay()
  }
  setTimeout(() => {
    const { scrollHeight, clientHeight } = element.querySelector(".sentence")
    const missing = Math.min(scrollHeight - clientHeight, most - height) // Vue nodes are narrower inside
    if (widget.hidden || missing <= 0) return shrink()
    height += missing
    lay()
    setTimeout(shrink, LAID_MS)
  }, LAID_MS)
  return () => {
    widget.hidden = true
    if (node.widgets?.includes(widget)) node.removeWidget(widget)
    const more = node.size[1] - before
    const after = more <= height + VUE_ROW ? Math.min(before, node.size[1]) : node.size[1] - grown // somebody has made it higher
    node.setSize([node.size[0], Math.max(after, node.computeSize()[1])])
  }
}

/** Above a panel that an App shows, best that of the node itself: whether there is one. */
function placeInApp(node, element) {
  const panelsOf = (one) => (one.widgets ?? []).map((widget) => widget.element).filter((panel) => panel && panel !== element && isSeen(panel))
  const own = panelsOf(node)[0]
  const panel = own ?? allNodes(node.graph?.rootGraph ?? node.graph).flatMap(panelsOf)[0]
  if (!panel) return false
  if (!own) element.querySelector(".sentence").prepend(`${node.title}: `)
  element.classList.add("in-app")
  Object.assign(element.style, { minHeight: "", maxHeight: "" })
  panel.before(element)
  return true
}

/** Whether a note is seen, in an App too. */
function isShown(document, node, element) {
  const inApp = document.querySelector('[data-testid="linear-widgets"]')
  if (!isSeen(element) && !(inApp && placeInApp(node, element))) return false
  if (inApp) element.scrollIntoView({ block: "nearest" }) // of a long list
  return true
}

/**
 * Put `text` on a node, in place of what stood there: a function that takes it away again. `kind`: "error" or "warning".
 * `actions`: [[label, function], ...], a button for each. `closed()` when the note is taken away, `unseen()` where it is not seen: in a
 * subgraph that is not open, in a node that is folded.
 */
export function noteOn(document, node, text, { kind = "error", actions = [], closed = null, unseen = null } = {}) {
  if (node.sliderNote?.text === text) return node.sliderNote
  styleOnce(document, "slider-note-style", STYLE)
  node.sliderNote?.()
  const remove = () => {
    if (node.sliderNote !== remove) return
    node.sliderNote = null
    takeAway()
    element.remove()
    closed?.()
    node.setDirtyCanvas?.(true, true)
  }
  remove.text = text
  const element = noteElement(document, node, text, { kind, actions }, remove)
  const least = actions.length ? LEAST + ROW : LEAST
  const takeAway = node.sliderPlace?.(element, text, roomFor(node, least)) ?? addWidget(document, node, element, least)
  node.sliderNote = remove
  node.setDirtyCanvas?.(true, true)
  setTimeout(() => node.sliderNote === remove && !isShown(document, node, element) && unseen?.(), SEEN_MS)
  return remove
}
