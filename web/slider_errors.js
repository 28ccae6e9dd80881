// The pack's own error message, in the node where it went wrong: ComfyUI says only that the node failed, and keeps the
// sentence that names the cause and the fix in a log. It goes when the next run begins.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt } from "./live.mjs"

const OURS = /(^|\.)SliderError$/
const LINE = 15 // pixels, of 11 px letters that are 6 px wide on average
const STYLE = `box-sizing: border-box; width: 100%; overflow-y: auto; white-space: pre-line; font: 11px/${LINE}px sans-serif; color: #f0a0a0;`
let shown = null // { node, widget, before, after: heights of the node }

function forget() {
  if (!shown) return
  const { node, widget, before, after } = shown
  shown = null
  if (!node.widgets?.includes(widget)) return
  node.removeWidget(widget)
  if (node.size[1] === after) node.setSize([node.size[0], before]) // the user has not sized it meanwhile
  node.setDirtyCanvas(true, true)
}

function show(node, sentence) {
  if (node.widgets?.some((widget) => widget.element?.textContent?.includes(sentence))) return // a training's panel says it
  const element = document.createElement("div")
  element.className = "slider-error"
  element.style.cssText = STYLE
  element.textContent = sentence
  const before = node.size[1]
  const rows = sentence.split("\n").map((line) => Math.max(1, Math.ceil((6 * line.length) / (node.size[0] - 30))))
  const lines = Math.min(8, rows.reduce((sum, count) => sum + count))
  const widget = node.addDOMWidget("error", "slider_error", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LINE * lines + 6,
  })
  widget.serialize = false
  node.setSize([node.size[0], Math.max(before, node.computeSize()[1])])
  shown = { node, widget, before, after: node.size[1] }
  node.setDirtyCanvas(true, true)
}

app.registerExtension({
  name: "slider_lora.errors",
  setup() {
    api.addEventListener("execution_start", forget)
    api.addEventListener("execution_error", ({ detail }) => {
      if (!OURS.test(detail.exception_type ?? "")) return
      forget()
      const node = nodeAt(app.rootGraph ?? app.graph, detail.node_id)
      if (node?.comfyClass === detail.node_type) show(node, detail.exception_message.trim())
    })
  },
})
