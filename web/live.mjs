// What a training node shows, without a page: text, the picture's address, the curve of the learned share as SVG.
// A state is what nodes/live.py sends.

import { isSame, tells } from "./runs.mjs"

const WIDTH = 300
const HEIGHT = 112
const FRAME = { left: 38, right: 10, top: 20, bottom: 16 }
const LOWEST = -1 // twice the error of the base model; below that a curve would hide all that is above
const FIRST_AXIS = 180 // steps: few trainings are shorter
const ROUND = 30
const SIDES = ["plus", "minus"]
const RUNNING = ["training", "drawing", "calibrating"]

/** The node with the id of an execution: "6", or "12:6" for node 6 in the subgraph that node 12 stands for. */
export function nodeAt(graph, id) {
  const path = String(id).split(":")
  const last = path.pop()
  const inner = path.reduce((at, step) => at?.getNodeById(step)?.subgraph, graph)
  return inner?.getNodeById(last) ?? null
}

/** Whether a node is about the slider of this state: in its workflow, or by its name; a name that is left to the folder, or comes
 * over a link, says nothing where the workflow is another. */
export function isAbout(node, state, graph = "") {
  if (isSame(state.graph, graph)) return true
  const name = node.widgets?.find((widget) => widget.name === "name")?.value
  const open = name === "" || node.inputs?.some((input) => input.name === "name" && input.link != null)
  return open ? !tells(state.graph) : name === state.name
}

export function timeWords(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s left`
  return seconds < 6000 ? `${Math.round(seconds / 60)} min left` : `${(seconds / 3600).toFixed(1)} h left`
}

/** Step of total, and what goes on. */
export function stepWords({ phase, step, until, at_most, seconds }) {
  const most = at_most ? "at most " : "" // it ends when the slider is ready, mostly long before
  if (phase === "done") return step < until ? `step ${step} of ${most}${until}, finished early` : `step ${step}, done`
  const left = seconds === null ? "" : `${at_most ? "at least " : ""}${timeWords(seconds)}`
  const what = { training: left, drawing: "drawing the strip" }[phase] ?? phase
  return [`step ${step} of ${most}${until}`, what].filter(Boolean).join(", ")
}

export function isRunning(state) {
  return RUNNING.includes(state.phase)
}

/** What is shown of a training that ran when the page last heard of it and that the server, with these states, does not know: its
 * ComfyUI has ended. Null for every other one. */
export function lost(shown, states) {
  if (!shown || !isRunning(shown) || states.some(({ run }) => run === shown.run)) return null
  return { ...shown, phase: "stopped", seconds: 0, more: null, verdict: "Stopped: ComfyUI was restarted. Run again: it goes on from what was saved, once a minute." }
}

/** What is shown of a training whose panel is new, where the server, with these states, does not know it: as it was, or as lost. The
 * newest first; `kept`: the page's states, the newest last. */
export function remembered(kept, states) {
  const isKnown = (state) => states.some(({ node, name, graph }) => node === state.node && name === state.name && graph === state.graph)
  return [...kept].reverse().filter((state) => !isKnown(state)).map((state) => lost(state, states) ?? state)
}

/** Whether it can be asked to finish with the step it is at. */
export function canFinish(state) {
  return state.phase === "training" || state.phase === "drawing"
}

/** What lets an ended training go on: its words, and null where nothing would be gained, or where the node would train the slider
 * `next` now, if that is known. `more`: steps beyond its end, 0 to its end. */
export function trainOnWords({ phase, more, name }, next = null) {
  if ((phase !== "done" && phase !== "stopped") || more === null || more === undefined) return null
  if (next !== null && next !== name) return null
  const what = name ? `train on ${name}` : "train on"
  return more ? `${what}: ${more} steps` : what
}

/** What is said where the training that is shown has ended and the node would train the slider `next` now, another one; else "". */
export function otherWords({ phase, name }, next = null) {
  if ((phase !== "done" && phase !== "stopped") || !name || !next || next === name) return ""
  return `This is ${name}; a run trains ${next}.`
}

/** The name of the slider that a node would train now: its own, or that of the folder in front of it; null where the page cannot know. */
export function nextName(node) {
  const input = (name) => node.inputs?.find((one) => one.name === name)
  if (input("name")?.link != null) return null
  const own = valueOf(node, "name")
  if (typeof own !== "string") return null
  if (own.trim()) return own.trim()
  const slot = node.inputs?.findIndex((one) => one.name === "dataset") ?? -1
  const source = slot < 0 ? null : node.getInputNode?.(slot)
  if (source?.comfyClass !== "LoadSliderDataset" || source.inputs?.some((one) => one.name === "folder" && one.link != null)) return null
  const folder = valueOf(source, "folder")
  return typeof folder === "string" ? folderName(folder) : null
}

/** Whether it is known of all these training nodes that they would train a slider now, and none of them the slider `name`. */
export function trainsOther(nodes, name) {
  const next = nodes.map(nextName)
  return Boolean(name) && next.length > 0 && next.every((one) => one && one !== name)
}

function valueOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name)?.value
}

/** As nodes/dataset_places.py names a slider of a folder or dataset file: its last part, without the ending. */
function folderName(folder) {
  const last = folder.replace(/^demo: /, "").split("/").filter(Boolean).at(-1) ?? ""
  return last.replace(/(?<=.)\.[^.]+$/, "")
}

/** What the nodes that prepare a training have said last, without those whose training this page has heard of since: `before` and
 * `now` are its states by key, when it asked and when it was answered. */
export function stillPreparing(messages, before, now) {
  const begun = new Set([...now].filter(([key, state]) => before.get(key) !== state).map(([, state]) => state.node))
  return messages.filter(({ node }) => !begun.has(node))
}

/** Where the curve's axis ends: where the training does, or, while nobody knows that, a quarter beyond what is done. */
export function axisEnd({ step, until, at_most }) {
  if (!at_most) return until
  return Math.min(until, Math.max(FIRST_AXIS, Math.ceil((1.25 * step) / ROUND) * ROUND))
}

/** Where ComfyUI serves the strip; another address for another picture, so that no page shows an old one. */
export function stripPath({ strip, run }) {
  if (!strip) return ""
  const { filename, subfolder, type, step } = strip
  return `/view?${new URLSearchParams({ filename, subfolder, type, v: `${run}-${step}` })}`
}

/** The learned share of both signs over the steps, as the text of an SVG element; `latest`: of each sign as the verdict says it. */
export function curveSvg(explained, until, latest = []) {
  const readings = explained.map(([step, ...sides]) => [step, ...sides.map((g) => (g === null ? null : Math.max(LOWEST, g)))])
  const values = [0, ...readings.flatMap(([, ...sides]) => sides.filter((g) => g !== null))]
  const low = Math.min(...values)
  const high = Math.max(0.01, ...values)
  const last = Math.max(until, 1, ...readings.map(([step]) => step))
  const bottom = HEIGHT - FRAME.bottom
  const x = (step) => FRAME.left + (step / last) * (WIDTH - FRAME.left - FRAME.right)
  const y = (value) => FRAME.top + ((high - value) / (high - low)) * (bottom - FRAME.top)
  const tick = (value) => `${(100 * value).toFixed(high - low < 0.05 ? 1 : 0)} %`
  const at = (step, value) => `${x(step).toFixed(1)},${y(value).toFixed(1)}`
  const parts = [`<line class="axis" x1="${x(0)}" y1="${y(0)}" x2="${x(last)}" y2="${y(0)}"/>`]
  for (const value of [high, 0, low].filter((v, i, all) => all.indexOf(v) === i && (v === 0 || Math.abs(y(v) - y(0)) > 9)))
    parts.push(`<text class="tick" x="${FRAME.left - 5}" y="${y(value) + 3}" text-anchor="end">${tick(value)}</text>`)
  parts.push(`<text class="tick" x="${x(0)}" y="${HEIGHT - 3}">0</text>`)
  parts.push(`<text class="tick" x="${x(last)}" y="${HEIGHT - 3}" text-anchor="end">step ${Number(last)}</text>`)
  SIDES.forEach((side, i) => {
    const points = readings.filter((reading) => reading[i + 1] !== null).map((reading) => at(reading[0], reading[i + 1]))
    const end = points.at(-1)?.split(",")
    if (points.length > 1) parts.push(`<polyline class="${side}" points="${points.join(" ")}"/>`)
    if (end) parts.push(`<circle class="${side}" cx="${end[0]}" cy="${end[1]}" r="2.5"/>`)
    if (i < latest.length || !latest.length) parts.push(`<text class="${side}" x="${FRAME.left + 130 * i}" y="11">${side} ${latest[i] ?? ""}</text>`)
  })
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="learned share over the steps">${parts.join("")}</svg>`
}
