// What a node of the pack showed last stands in it again after a reload, another tab and an undo: ComfyUI makes the nodes anew and
// keeps their pictures at most. The pictures are files that the server holds, and its history says which; a training and a
// dataset find their own again (slider_train.js, slider_dataset.js).

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { showInApp } from "./app_list.mjs"
import { FAILED, allNodes, lastError, lastOutputs, locatorOf, missing, restoring } from "./last_output.mjs"
import { isOfPack } from "./of_pack.mjs"

const OWN_WAY = ["SliderTrainStep", "LoadSliderDataset"]
const RUNS = 64 // of the history
let opened = 0 // the newest graph; an answer that is about an older one is late

const rootOf = () => app.rootGraph ?? app.graph
const isGivenAgain = (node) => isOfPack(node) && !OWN_WAY.includes(node.comfyClass)

/** What the page keeps of the nodes that are there: their previews come by themselves, what the pack adds does not. */
function giveKept(outputs) {
  const root = rootOf()
  for (const node of allNodes(root)) {
    const output = isGivenAgain(node) && outputs?.[locatorOf(node, root)]
    if (output) restoring(() => node.onExecuted?.(output))
  }
}

async function giveFromHistory() {
  const number = ++opened
  if (!allNodes(rootOf()).some(isOfPack)) return
  const answer = await api.fetchApi(`/history?max_items=${RUNS}`)
  if (!answer.ok || number !== opened) return
  const history = await answer.json()
  if (number !== opened) return
  const root = rootOf()
  const error = lastError(history, root)
  if (error) restoring(() => api.dispatchCustomEvent(FAILED, error))
  const found = lastOutputs(history, root)
  for (const [, id, output] of missing(root, app.nodeOutputs, found, isGivenAgain))
    // as if the server had just sent it, so that the page shows its pictures, in Vue nodes too
    restoring(() => api.dispatchCustomEvent("executed", { node: id, display_node: id, prompt_id: "", output }))
}

app.registerExtension({
  name: "sliderlora.restore",
  onNodeOutputsUpdated: giveKept,
  afterConfigureGraph() {
    giveKept(app.nodeOutputs)
    setTimeout(() => showInApp(document, allNodes(rootOf()).filter(isOfPack))) // when both canvas and App have laid out the nodes
    giveFromHistory().catch((fault) => console.warn("Slider LoRA: what the nodes showed last was not found.", fault))
  },
})
