// The nodes of the pack show nothing of another workflow's run: ComfyUI gives what a node has shown to the node of the same id in
// whichever workflow is open, and keeps it there.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt } from "./live.mjs"
import { isOfPack } from "./of_pack.mjs"
import { isOwn } from "./own_runs.mjs"

const NOWHERE = "another_workflow:" // in front of an id: a node of a subgraph that no graph has
let sent = null // the event, and the id that it had

/** Before ComfyUI hears of it: extensions are loaded before it listens. The workflow that it is of still gets it, by `node`. */
function lead({ detail }) {
  const id = detail.display_node ?? detail.node
  if (isOwn(detail.prompt_id) || !isOfPack(nodeAt(app.rootGraph ?? app.graph, id))) return
  sent = { detail, id: detail.display_node }
  detail.display_node = NOWHERE + id
}

function leadBack() {
  if (sent) sent.detail.display_node = sent.id
  sent = null
}

api.addEventListener("executed", lead)

app.registerExtension({
  name: "sliderlora.runs",
  init() {
    api.addEventListener("executed", leadBack)
  },
})
