// Which nodes are the pack's own.

const MENU = "Slider/"

/** Whether a node's definition, as the server gives it, is of this pack. */
export const isDefinedHere = (definition) => Boolean(definition?.category?.startsWith(MENU))

/** Whether a node in a graph is of this pack. */
export const isOfPack = (node) => isDefinedHere(node?.constructor?.nodeData)
