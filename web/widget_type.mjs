// The type of a widget that is an element of the pack's own.

let count = 0

/**
 * A type that no widget had before. Vue nodes keep showing the element that they have while name and type stay the same: after an
 * undo, which makes every node anew, they would show that of the node that is gone, and what is done in it would change nothing.
 */
export function freshType(kind) {
  return `${kind}_${++count}`
}
