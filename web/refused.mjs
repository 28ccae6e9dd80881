// What ComfyUI answers where a node refuses its values before a graph runs. No page, no ComfyUI; tested with `node --test`.

const BY_THE_NODE = "custom_validation_failed" // what ComfyUI finds itself, such as a value that is not in a list, it says itself

/** The node's sentence and the inputs that it looked at, out of ComfyUI's errors of one node; null where it has said nothing. */
export function refusedOf(errors) {
  const own = errors.filter(({ type }) => type === BY_THE_NODE)
  const inputs = own.map((error) => error.extra_info?.input_name ?? "")
  if (!own.length || !own[0].details.startsWith(`${inputs[0]} - `)) return null
  return { sentence: own[0].details.slice(inputs[0].length + 3).trim(), inputs }
}
