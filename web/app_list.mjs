// ComfyUI's app mode: its widgets stand in one list, which is shorter than they are and gives them no height.

import { released } from "./press.mjs"
import { freshType, isPanel } from "./widget_type.mjs"

export const IN_APP = '[data-testid="app-mode-widget-item"]' // a widget in that list
const BELOW = 156 // pixels, of the item below a panel: the report on the file
const GAP = 6
const WRITING_MS = 4000 // since the last key
const FIELDS = "input, textarea, select, [contenteditable]"

let pressed = -Infinity // when a key was

globalThis.document?.addEventListener("keydown", () => (pressed = performance.now()), { capture: true })

function listOf(item) {
  for (let at = item.parentElement; at; at = at.parentElement) if (/auto|scroll/.test(getComputedStyle(at).overflowY)) return at
  return null
}

function isWriting(list) {
  const at = list.ownerDocument.activeElement
  return at?.matches(FIELDS) && list.contains(at) && performance.now() - pressed < WRITING_MS
}

/** The height in pixels of a panel that an App's list shows whole, together with the item below it; null on a canvas. */
export function roomInApp(element) {
  const item = element.closest(IN_APP)
  const list = item && listOf(item)
  if (!list) return null
  const frame = item.offsetHeight - element.offsetHeight
  return list.clientHeight - frame - (item.nextElementSibling ? BELOW + GAP : 0)
}

/** Scroll an App's list no further than `element` needs to be seen whole. Not on a canvas, and not while somebody writes in the list. */
export function bringIntoView(element) {
  const item = element.closest(IN_APP)
  const list = item && listOf(item)
  if (list && !isWriting(list)) released(() => item.scrollIntoView({ block: "nearest" }))
}

/** Scroll an App's list until `element` stands at its top, or as near as the list's end lets it. Not on a canvas, and not while
 * somebody writes in the list. */
export function bringToTop(element) {
  const item = element.closest(IN_APP)
  const list = item && listOf(item)
  if (!list || isWriting(list)) return
  released(() => (list.scrollTop += item.getBoundingClientRect().top - list.getBoundingClientRect().top))
}

/** Let an App show the pack's panels of `nodes` where the classic canvas holds them: of nodes that are made anew it takes the elements
 * last. With another type their places in the list are made anew, and take them back. */
export function showInApp(document, nodes) {
  if (!document.querySelector(IN_APP)) return
  for (const node of nodes) {
    const held = (node.widgets ?? []).filter((widget) => isPanel(widget) && !widget.element.closest(IN_APP))
    for (const widget of held) widget.type = freshType(widget.type)
    if (held.length) node.widgets = [...node.widgets] // the page looks at the list, not at the types in it
  }
}
