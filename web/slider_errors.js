// What went wrong in the pack's own words, where it is seen at once: ComfyUI says only that a node failed, and keeps the sentence
// that names the cause and the fix at the end of a log.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt } from "./live.mjs"

const OURS = /(^|\.)SliderError$/
let shown = null // the message of the last run that failed

function forget() {
  if (shown) app.extensionManager.toast.remove(shown)
  shown = null
}

app.registerExtension({
  name: "slider_lora.errors",
  setup() {
    api.addEventListener("execution_start", forget)
    api.addEventListener("execution_error", ({ detail }) => {
      if (!OURS.test(detail.exception_type ?? "")) return
      forget()
      const node = nodeAt(app.rootGraph ?? app.graph, detail.node_id)
      shown = { severity: "error", summary: node?.title ?? detail.node_type, detail: detail.exception_message.trim() }
      app.extensionManager.toast.add(shown)
    })
  },
})
