// The pack's own sentences, in the node that they are about: errors, since ComfyUI says only that the node failed and keeps the
// cause and the fix in a log, and warnings of a node that ran. An error goes when its node runs again, or when what it is about has
// changed: a widget that the sentence names, the images of a dataset.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { keptMap } from "./kept.mjs"
import { FAILED, allNodes, isRestoring } from "./last_output.mjs"
import { nodeAt, trainsOther } from "./live.mjs"
import { isNamed, noteOn } from "./node_note.mjs"
import { isOfPack } from "./of_pack.mjs"
import { onceWith } from "./once.mjs"
import { REFUSED, isOwn, onOwn, queueOpen } from "./own_runs.mjs"
import { refusedOf } from "./refused.mjs"
import { setWidget } from "./set_widget.mjs"

const OURS = /(^|\.)SliderError$/
const OLD_NAME = "old_name" // the sentence names this widget where a name belongs to another training
const FORCE = "force" // and this one where a slider was not saved
const closed = keptMap(window.localStorage, "slider_lora.closed", 200) // prompts whose error a person has closed or mended, and warnings likewise
const rootOf = () => app.rootGraph ?? app.graph

function setNamed(node, name, value) {
  const widget = node.widgets?.find((candidate) => candidate.name === name)
  if (widget) setWidget(app, node, widget, value)
}

/** Run the graph once with another value of a widget: the next run is as the widget says. */
function runOnceWith(node, name, value) {
  const widget = node.widgets.find((candidate) => candidate.name === name)
  return onceWith(widget, value, queueOpen)
}

const trainings = () => allNodes(rootOf()).filter(({ comfyClass }) => comfyClass === "SliderTrainStep")

/** Whether a sentence is of a slider that was not saved, and a run would train another one now. */
const isOfAnother = (sentence) => isNamed(sentence, FORCE) && trainsOther(trainings(), sentence.match(/"([^"]+)"/)?.[1])

/** In the next run, the trainings of the graph hand on what they have, also those that would train on; or do after all. */
function handOn(wanted) {
  const send = ({ id }) => api.fetchApi("/slider_lora/hand_on", { method: "POST", body: JSON.stringify({ node: String(id), wanted }) })
  return Promise.all(trainings().map(send))
}

/** Save what was trained, as it is. */
async function saveAnyway(node) {
  await handOn(true)
  if (!(await runOnceWith(node, FORCE, true))) await handOn(false) // the graph was refused
}

/** What a training under an old name can do instead, and a slider that was not saved. An App shows neither widget. */
function choices(node, sentence) {
  if (isNamed(sentence, FORCE) && node.widgets?.some((widget) => widget.name === FORCE)) return [["save anyway", () => saveAnyway(node)]]
  if (!sentence.includes(OLD_NAME) || !node.widgets?.some((widget) => widget.name === OLD_NAME)) return []
  const name = sentence.match(/"([^"]+)"/)?.[1] ?? ""
  const [, stem, number] = name.match(/^(.*?)(?:-(\d+))?$/)
  const another = `${stem}-${Number(number ?? 1) + 1}`
  return [
    ["restart and run", () => runOnceWith(node, OLD_NAME, "restart")],
    [`run as ${another}`, () => (setNamed(node, "name", another), app.queuePrompt(0, 1))],
  ]
}

/** [widget, its value] of those that a sentence names; `values` of the run that it is about, else as they are. */
function namedValues(node, sentence, values = {}) {
  const named = (node.widgets ?? []).filter((widget) => isNamed(sentence, widget.name))
  return named.map((widget) => [widget, values[widget.name] ?? widget.value])
}

const isStale = (named) => named.some(([widget, value]) => widget.value !== value)

function showError(detail, values) {
  if (!OURS.test(detail.exception_type ?? "")) return
  const node = nodeAt(rootOf(), detail.node_id)
  if (node?.comfyClass !== detail.node_type) return
  const sentence = detail.exception_message.trim()
  const named = namedValues(node, sentence, values)
  if (isRestoring() && (closed.has(detail.prompt_id) || isStale(named) || isOfAnother(sentence) || node.sliderIsChanged?.())) return
  putError(node, sentence, named, () => closed.set(detail.prompt_id, ""))
}

/** A sentence that goes when one of the `named` widgets has another value, and one of a slider when a run would train another one. */
function putError(node, sentence, named, whenClosed = null) {
  const again = isRestoring()
  const goes = isOfAnother(sentence) ? () => false : () => isOfAnother(sentence)
  const unseen = () => again || app.extensionManager.toast.add({ severity: "error", summary: node.title, detail: sentence, life: 20000 })
  const remove = noteOn(document, node, sentence, { actions: choices(node, sentence), closed: whenClosed, unseen })
  node.sliderError = { remove, isStale: () => isStale(named) || goes() }
}

/** What a node of the pack has refused of its values before the graph ran, said as it says it when it runs. */
function showRefused(errors) {
  for (const [id, { class_type: kind, errors: faults }] of Object.entries(errors)) {
    const node = nodeAt(rootOf(), id)
    const refused = refusedOf(faults)
    if (!refused || !isOfPack(node) || node.comfyClass !== kind) continue
    const inputs = (node.widgets ?? []).filter((widget) => refused.inputs.includes(widget.name))
    putError(node, refused.sentence, inputs.map((widget) => [widget, widget.value]))
  }
}

/** The error on a node goes away, if it stands there still. */
function forget(node) {
  node?.sliderError?.remove()
  if (node) node.sliderError = null
}

function forgetStale() {
  for (const node of allNodes(rootOf())) if (node.sliderError?.isStale()) forget(node)
}

app.registerExtension({
  name: "sliderlora.errors",
  setup() {
    api.addEventListener("graphChanged", forgetStale)
    onOwn("execution_start", forgetStale)
    api.addEventListener("executing", ({ detail }) => detail && isOwn() && forget(nodeAt(rootOf(), detail)))
    onOwn("execution_cached", ({ detail }) => detail.nodes?.forEach((id) => forget(nodeAt(rootOf(), id))))
    onOwn("execution_error", ({ detail }) => showError(detail))
    api.addEventListener(REFUSED, ({ detail }) => showRefused(detail))
    api.addEventListener(FAILED, ({ detail }) => showError(detail, detail.values))
  },
  nodeCreated(node) {
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      if (!output?.slider_note) return
      const [warning] = output.slider_note
      const key = `${node.graph?.id} ${node.id} ${warning}`
      if (!isRestoring()) closed.delete(key)
      if (!warning) node.sliderNote?.()
      else if (!closed.has(key)) noteOn(document, node, warning, { kind: "warning", closed: () => closed.set(key, "") })
    }
  },
})
