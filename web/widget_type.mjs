// The type of a widget that is an element of the pack's own.

const OURS = /^slider_/
const NUMBER = /_\d+$/
let count = 0

/**
 * A type that no widget had before. Vue nodes keep showing the element that they have while name and type stay the same: after an
 * undo, which makes every node anew, they would show that of the node that is gone, and what is done in it would change nothing.
 * `kind`: what it is, or the type that it has now.
 */
export function freshType(kind) {
  return `${kind.replace(NUMBER, "")}_${++count}`
}

/** Whether a widget is an element of the pack's own. */
export const isPanel = ({ element, type }) => Boolean(element) && OURS.test(type)
