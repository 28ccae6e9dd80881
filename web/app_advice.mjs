// What a sentence advises to change and an App does not show: where that is found. No page, no ComfyUI; tested with `node --test`.

import { allNodes } from "./last_output.mjs"

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
const OWNERS = { // which node has the input for them
  "Slider Train Options": "Slider Train Step",
  "Slider Dataset Options": "Load Slider Dataset",
  "Slider Target Options": "Slider Target Injector",
  "Slider Text Options": "Slider Text Pair",
  "Slider File Options": "Save Slider LoRA",
}
const OPTIONS = /\bSlider [A-Z][a-z]+ Options\b/g

/** Where to change what a sentence names: "" where it names nothing. `here`: names of inputs that the App shows, or has a button for;
 * `nodes`: the types of the graph's nodes, where they are known: one of options that is not there is to be added. */
export function inGraph(sentence, here = [], nodes = null) {
  const inputs = Object.keys(INPUTS).filter((name) => INPUTS[name].test(sentence) && !here.includes(name.replace(" ", "_")))
  const options = [...new Set(sentence.match(OPTIONS))]
  const lacks = options.filter((title) => nodes && !nodes.includes(title.replaceAll(" ", "")))
  const named = [...inputs, ...options.filter((title) => !lacks.includes(title))]
  const change = named.length ? [`Open the graph, at the top left, to change: ${named.join(", ")}.`] : []
  const begin = change.length ? "There, drag" : "Open the graph, at the top left, drag"
  const add = lacks.map((title) => `${begin} from options of ${OWNERS[title] ?? "the node"} and add ${title}.`)
  return [...change, ...add].join(" ")
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

/** The types of a graph's nodes, for `inGraph`. */
export function nodeTypes(root) {
  return allNodes(root).map((node) => node.comfyClass ?? node.type)
}
