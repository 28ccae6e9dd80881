// ComfyUI's app mode: its widgets stand in one list, which is shorter than they are and gives them no height.

export const IN_APP = '[data-testid="app-mode-widget-item"]' // a widget in that list
const FIELDS = "input, textarea, select, [contenteditable]"

function listOf(item) {
  for (let at = item.parentElement; at; at = at.parentElement)
    if (at.scrollHeight > at.clientHeight && /auto|scroll/.test(getComputedStyle(at).overflowY)) return at
  return null
}

/** Scroll an App's list until `element` stands at its top, or as near as the list's end lets it. Not on a canvas, and not while
 * somebody writes in the list. */
export function bringToTop(element) {
  const item = element.closest(IN_APP)
  const list = item && listOf(item)
  const at = element.ownerDocument.activeElement
  if (!list || (at?.matches(FIELDS) && list.contains(at))) return
  list.scrollTop += item.getBoundingClientRect().top - list.getBoundingClientRect().top
}
