// A button on Slider Train Step that ends the training with the step it is at and lets the graph go on.
// ComfyUI's own stop button ends the whole run; what was learned is kept in both cases.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const NODE = "SliderTrainStep"
const ROUTE = "/slider_lora/finish"

function say(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "Slider Train Step", detail, life: 4000 })
}

async function finish(node) {
  const reply = await api.fetchApi(ROUTE, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ node: String(node.id) }),
  })
  if (reply.ok) say("info", "Finishing with this step; the graph goes on with what was learned.")
  else if (reply.status === 409) say("warn", "This node is not training now.")
  else say("error", `The server answered ${reply.status}.`)
}

app.registerExtension({
  name: "slider_lora.train",
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const button = node.addWidget("button", "finish now", null, () => finish(node), { serialize: false })
    button.tooltip = "End the training with the step it is at, and go on to the preview."
  },
})
