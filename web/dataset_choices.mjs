// How Load Slider Dataset reads its images now: what its own widgets say and those of the Slider Dataset Options at its input, by their
// names. No page, no network.

const OPTIONS = "SliderDatasetOptions"
const OFF = [2, 4] // muted and bypassed nodes are not run

const slotOf = (node, name) => node.inputs?.findIndex((input) => input.name === name) ?? -1

/** The node at an input, behind any reroutes; null where there is none. */
function sourceOf(node, slot) {
  const source = slot < 0 ? null : (node.getInputNode?.(slot) ?? null)
  return source?.type === "Reroute" ? sourceOf(source, 0) : source
}

const primitiveValue = (source) => (source?.type?.startsWith("Primitive") ? source.widgets?.[0]?.value : undefined)

/** [name, value] of a node's widgets; of one that is an input, the value of the primitive at it, and nothing of another node's output. */
function valuesOf(node) {
  const found = []
  for (const { name, value } of node.widgets ?? []) {
    const slot = slotOf(node, name)
    const now = node.inputs?.[slot]?.link == null ? value : primitiveValue(sourceOf(node, slot))
    if (["string", "number", "boolean"].includes(typeof now)) found.push([name, now])
  }
  return found
}

/** {name: value} of what says how the images are read. */
export function choicesOf(node) {
  const options = sourceOf(node, slotOf(node, "options"))
  const others = options?.comfyClass === OPTIONS && !OFF.includes(options.mode) ? valuesOf(options) : []
  return Object.fromEntries([...others, ...valuesOf(node).filter(([name]) => name === "caption")])
}
