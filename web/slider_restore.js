// What a node of the pack showed last stands in it again after a reload, another tab and an undo: ComfyUI makes the nodes anew and
// keeps their pictures at most. The pictures are files that the server holds, and its history says which; a training and a
// dataset find their own again (slider_train.js, slider_dataset.js).

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { FAILED, allNodes, lastError, lastOutputs, locatorOf, missing, restoring } from "./last_output.mjs"

const OWN_WAY = ["SliderTrainStep", "LoadSliderDataset"]
const RUNS = 64 // of the history
const all = new Set() // kinds of the pack's nodes
const kinds = new Set() // of those that are given their output again
let opened = 0 // the newest graph; an answer that is about an older one is late

const rootOf = () => app.rootGraph ?? app.graph

/** What the page keeps of the nodes that are there: their previews come by themselves, what the pack adds does not. */
function giveKept(outputs) {
  const root = rootOf()
  for (const node of allNodes(root)) {
    const output = kinds.has(node.comfyClass) && outputs?.[locatorOf(node, root)]
    if (output) restoring(() => node.onExecuted?.(output))
  }
}

async function giveFromHistory() {
  const number = ++opened
  if (!allNodes(rootOf()).some((node) => all.has(node.comfyClass))) return
  const answer = await api.fetchApi(`/history?max_items=${RUNS}`)
  if (!answer.ok || number !== opened) return
  const history = await answer.json()
  if (number !== opened) return
  const root = rootOf()
  const error = lastError(history, root)
  if (error) restoring(() => api.dispatchCustomEvent(FAILED, error))
  const found = lastOutputs(history, root)
  for (const [, id, output] of missing(root, app.nodeOutputs, found, kinds))
    // as if the server had just sent it, so that the page shows its pictures, in Vue nodes too
    restoring(() => api.dispatchCustomEvent("executed", { node: id, display_node: id, prompt_id: "", output }))
}

app.registerExtension({
  name: "sliderlora.restore",
  beforeRegisterNodeDef(_nodeType, { name, category }) {
    if (!category?.startsWith("Slider/")) return
    all.add(name)
    if (!OWN_WAY.includes(name)) kinds.add(name)
  },
  onNodeOutputsUpdated: giveKept,
  afterConfigureGraph() {
    giveKept(app.nodeOutputs)
    giveFromHistory().catch((fault) => console.warn("Slider LoRA: what the nodes showed last was not found.", fault))
  },
})
