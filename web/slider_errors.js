// The pack's own sentences, in the node that they are about: errors, since ComfyUI says only that the node failed and keeps the
// cause and the fix in a log, and warnings of a node that ran. An error goes when the next run begins.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt } from "./live.mjs"
import { noteOn } from "./node_note.mjs"
import { setWidget } from "./set_widget.mjs"

const OURS = /(^|\.)SliderError$/
const OLD_NAME = "old_name" // the sentence names this widget where a name belongs to another training
let forget = () => {}

function setNamed(node, name, value) {
  const widget = node.widgets?.find((candidate) => candidate.name === name)
  if (widget) setWidget(app, node, widget, value)
}

/** What a training under an old name can do instead. */
function choices(node, sentence) {
  if (!sentence.includes(OLD_NAME) || !node.widgets?.some((widget) => widget.name === OLD_NAME)) return []
  const name = sentence.match(/"([^"]+)"/)?.[1] ?? ""
  const [, stem, number] = name.match(/^(.*?)(?:-(\d+))?$/)
  const run = () => app.queuePrompt(0, 1)
  return [
    ["restart", () => (setNamed(node, OLD_NAME, "restart"), run())],
    ["new name", () => (setNamed(node, "name", `${stem}-${Number(number ?? 1) + 1}`), run())],
  ]
}

app.registerExtension({
  name: "sliderlora.errors",
  setup() {
    api.addEventListener("execution_start", () => forget())
    api.addEventListener("execution_error", ({ detail }) => {
      if (!OURS.test(detail.exception_type ?? "")) return
      forget()
      const node = nodeAt(app.rootGraph ?? app.graph, detail.node_id)
      if (node?.comfyClass !== detail.node_type) return
      const sentence = detail.exception_message.trim()
      forget = noteOn(document, node, sentence, "error", choices(node, sentence))
    })
  },
  nodeCreated(node) {
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      const warning = output?.slider_note
      if (warning) warning[0] ? noteOn(document, node, warning[0], "warning") : node.sliderNote?.()
    }
  },
})
