// What a node of the pack says: its report in a field of its own, which never grows; of a training in its panel; else as a note.
// The report of the run before is dimmed until this run has its own, or has left the node out; it goes where the node has failed.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { IN_APP, bringIntoView } from "./app_list.mjs"
import { FAILED, allNodes, isRestoring } from "./last_output.mjs"
import { nodeAt } from "./live.mjs"
import { noteOn } from "./node_note.mjs"
import { isForOpen, onEnd, onOwn } from "./own_runs.mjs"
import { makeReport } from "./report_text.mjs"
import { styleOnce } from "./style_once.mjs"
import { passWheel } from "./wheel.mjs"
import { freshType } from "./widget_type.mjs"

const EVENT = "slider_lora.message"
const REPORTING = ["SaveSliderLoRA", "SliderTargetInjector", "SliderCalibrate", "SliderProbe", "LoadSliderLoRA"]
const HEIGHT = 50
const STYLE = `box-sizing: border-box; width: 100%; min-height: ${HEIGHT}px; overflow-y: auto; white-space: pre-line; overflow-wrap: anywhere; padding: 2px 4px;
  font: 11px/1.35 sans-serif; color: #bbb; user-select: text;`
const SHEET = `
.slider-report.waiting { opacity: 0.35; }
/* seen with the verdict above it (app_list.mjs) */
${IN_APP} .slider-report { max-height: 114px; }
${IN_APP} .slider-report:empty::before { content: "Where the saved file lies shows here."; }`

const reports = new WeakMap() // node -> its report

const rootOf = () => app.rootGraph ?? app.graph
const reportAt = (id) => reports.get(nodeAt(rootOf(), id))

function dimAll(waiting) {
  for (const node of allNodes(rootOf())) reports.get(node)?.dim(waiting)
}

function addReport(node) {
  const element = document.createElement("div")
  element.className = "slider-report"
  element.style.cssText = STYLE
  const widget = node.addDOMWidget("report", freshType("slider_report"), element, {
    serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT,
  })
  passWheel(element)
  widget.label = "file" // as an App names it
  widget.serialize = false
  const report = makeReport(element)
  reports.set(node, report)
  node.sliderSays = (text) => report.say(text, isRestoring())
  return widget
}

app.registerExtension({
  name: "sliderlora.report",
  setup() {
    styleOnce(document, "slider-report-style", SHEET)
    api.addEventListener(EVENT, ({ detail }) => {
      if (!isForOpen(detail)) return
      const node = nodeAt(rootOf(), detail.node)
      if (node?.sliderSays) node.sliderSays(detail.text)
      else if (node) noteOn(document, node, detail.text, { kind: "warning" })
    })
    onOwn("execution_start", () => dimAll(true))
    onOwn("execution_cached", ({ detail }) => detail.nodes?.forEach((id) => reportAt(id)?.dim(false)))
    onEnd(() => dimAll(false))
    onOwn("execution_error", ({ detail }) => reportAt(detail.node_id)?.fail())
    api.addEventListener(FAILED, ({ detail }) => reportAt(detail.node_id)?.fail())
  },
  nodeCreated(node) {
    if (!REPORTING.includes(node.comfyClass)) return
    const widget = addReport(node)
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      const text = output?.text?.[0]
      if (!text) return
      node.sliderSays(text)
      if (isRestoring()) return
      bringIntoView(widget.element)
    }
  },
})
