// What went wrong in the pack's own words, in the node where it went wrong: ComfyUI says only that the node failed, and keeps the
// sentence that names the cause and the fix in a log. It goes when the next run begins.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeAt } from "./live.mjs"

const OURS = /(^|\.)SliderError$/
const LINE = 15 // pixels, of 11 px letters that are 6 px wide on average
const STYLE = `box-sizing: border-box; width: 100%; overflow-y: auto; font: 11px/${LINE}px sans-serif; color: #f0a0a0;`
let shown = null // { node, widget, height: the node's, before }

function forget() {
  if (!shown) return
  const { node, widget, height } = shown
  shown = null
  if (!node.widgets?.includes(widget)) return
  node.removeWidget(widget)
  node.setSize([node.size[0], height])
  node.setDirtyCanvas(true, true)
}

function show(node, sentence) {
  if (node.widgets?.some((widget) => widget.element?.textContent?.includes(sentence))) return // a training's panel says it
  const element = document.createElement("div")
  element.className = "slider-error"
  element.style.cssText = STYLE
  element.textContent = sentence
  const height = node.size[1]
  const lines = Math.min(8, Math.ceil((6 * sentence.length) / (node.size[0] - 30)))
  const widget = node.addDOMWidget("error", "slider_error", element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => LINE * lines + 6,
  })
  widget.serialize = false
  shown = { node, widget, height }
  node.setSize([node.size[0], Math.max(height, node.computeSize()[1])])
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
      if (node) show(node, detail.exception_message.trim())
    })
  },
})
