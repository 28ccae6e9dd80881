// The runs of the workflow that is open, told from those of the others of this page. What ComfyUI or the pack sends during a run of
// another workflow is not for the nodes that are shown: one mechanism for reports, notes, panels and pictures.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { keptMap } from "./kept.mjs"
import { isSame, makeRuns } from "./runs.mjs"

const KEY = "slider_lora.runs"
const MOST = 64
const ENDS = ["execution_success", "execution_error", "execution_interrupted"]
export const REFUSED = "slider_lora.refused" // the event that brings what was refused
const runs = makeRuns(keptMap(window.sessionStorage, KEY, MOST)) // ComfyUI sends a run's events to the tab that has queued it, by a name that is kept there
const queue = api.queuePrompt
let running = "" // the prompt that runs
let queued = "" // the prompt that this page queued last
let shown = "" // the prompt whose output was shown last
let asked = "" // the graph of a run that is being queued: its first events may come before the answer that names it

const graphNow = () => (app.rootGraph ?? app.graph)?.id

api.queuePrompt = async function (number, prompt, ...more) {
  asked = prompt?.workflow?.id
  try {
    const answer = await queue.call(this, number, prompt, ...more)
    queued = answer?.prompt_id ?? queued
    runs.add(answer?.prompt_id, prompt?.workflow?.id)
    tellRefused(answer?.node_errors)
    return answer
  } catch (fault) {
    tellRefused(fault?.response?.node_errors)
    throw fault
  } finally {
    asked = ""
  }
}

/** What ComfyUI refuses of a prompt before it runs, by the ids of nodes: of the whole, or of a part while the rest runs. */
function tellRefused(errors) {
  if (errors && Object.keys(errors).length) api.dispatchCustomEvent(REFUSED, errors)
}

api.addEventListener("execution_start", ({ detail }) => (running = detail.prompt_id))
api.addEventListener("executed", ({ detail }) => (shown = detail.prompt_id)) // before ComfyUI gives it to a node

/** The prompt of this page that began last, or "". */
export const beganLast = () => running

/** Queue what is open; gives the id of its prompt, "" where none was queued. */
export async function queueOpen() {
  const before = queued
  await app.queuePrompt(0, 1)
  return queued === before ? "" : queued
}

/** Whether a run is of the workflow that is open: false only where it is known to be of another. */
export function isOwn(prompt = running) {
  return (runs.isOf(prompt, graphNow()) ?? (asked ? isSame(asked, graphNow()) : null)) !== false
}

/** Whether the output that a node is given just now is known to be of a run of the workflow that is open. */
export function isGivenByOwn() {
  return runs.isOf(shown, graphNow()) === true
}

/** Whether a message of the server is for the workflow that is open; `graph`: the id of the workflow that it is about, or "". */
export function isForOpen({ graph }) {
  return isSame(graph, graphNow()) !== false
}

/** Call `listener` at an event of ComfyUI, where it is of a run of the workflow that is open. */
export function onOwn(event, listener) {
  api.addEventListener(event, (sent) => isOwn(sent.detail?.prompt_id) && listener(sent))
}

/** Call `listener` when a run of the open workflow has ended, or ComfyUI has with it: then no event tells of it. */
export function onEnd(listener) {
  for (const end of ENDS) onOwn(end, listener)
  api.addEventListener("reconnected", async () => {
    if (!(await runsHere())) listener()
  })
}

/** Whether the server has a run that may be of the open workflow. */
async function runsHere() {
  const reply = await api.fetchApi("/queue")
  if (!reply.ok) return true
  const { queue_running } = await reply.json()
  return queue_running.some(([, prompt]) => isOwn(prompt))
}
