// What a sentence advises to change and an App does not show: where that is found. No page, no ComfyUI; tested with `node --test`.

const INPUTS = { // of the nodes, as sentences name them
  "learning rate": /\blearning[ _]rate\b|\bany_rate\b/i,
  rank: /\brank\b/i,
  layers: /\b(add|other) layers\b|\bpreset\b/i,
  objective: /\bobjective\b/i,
  steps: /\bset steps\b|\btrain less\b/i,
  old_name: /\bold_name\b|\btrain anew\b/i,
  name: /\b(a new|another|under a new) name\b/i,
  format: /\bchoose native\b|\banother format\b/i,
  strict: /\bstrict\b/i,
  force: /\bforce\b/i,
}
const OPTIONS = /\bSlider [A-Z][a-z]+ Options\b/g

/** Where to change what a sentence names: "" where it names nothing. `here`: names of inputs that the App shows, or has a button for. */
export function inGraph(sentence, here = []) {
  const inputs = Object.keys(INPUTS).filter((name) => INPUTS[name].test(sentence) && !here.includes(name.replace(" ", "_")))
  const named = [...inputs, ...new Set(sentence.match(OPTIONS))]
  return named.length ? `Open the graph, at the top left, to change: ${named.join(", ")}.` : ""
}

/** What advises something in a verdict: its first line, and of the details the sentences that name a node of options. */
export function adviceIn(text) {
  const [first, ...rest] = text.split("\n")
  return [first, ...rest.flatMap((line) => line.split(/(?<=\.) /)).filter((sentence) => sentence.search(OPTIONS) >= 0)].join(" ")
}

/** The names of the inputs that a graph's App shows. */
export function shownInApp(root) {
  return (root?.extra?.linearData?.inputs ?? []).map(([, name]) => name)
}
