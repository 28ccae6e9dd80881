// Slider Train Step in the browser: a panel that shows how a training goes, with a button that ends it with the step it is at, and one
// that trains on when it has ended, which an App has no other way to.
// ComfyUI's own stop button ends the whole run; what was learned is kept in both cases.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { nodeTypes, shownInApp } from "./app_advice.mjs"
import { inQueue, makeQueued } from "./asked.mjs"
import { keptMap } from "./kept.mjs"
import { allNodes } from "./last_output.mjs"
import { isAbout, isRunning, lost, nextName, nodeAt, remembered, stillPreparing } from "./live.mjs"
import { backWhenQueued } from "./once.mjs"
import { beganLast, isForOpen, isGivenByOwn, onEnd, onOwn, queueOpen } from "./own_runs.mjs"
import { makePanel } from "./panel.mjs"
import { setWidget } from "./set_widget.mjs"
import { passWheel } from "./wheel.mjs"
import { freshType } from "./widget_type.mjs"

const NODE = "SliderTrainStep"
const FINISH = "/slider_lora/finish"
const TRAIN_ON = "/slider_lora/train_on"
const PROGRESS = "/slider_lora/progress"
const EVENT = "slider_lora.progress"
const MOST_ASKED = 64
const panels = new WeakMap() // node -> its panel
const states = new Map() // id of a node and name of a slider -> the last state that this page has heard, the newest last
const queued = makeQueued(keptMap(window.sessionStorage, "slider_lora.queued", MOST_ASKED)) // trainings that wait to go on
const ending = keptMap(window.sessionStorage, "slider_lora.ending", MOST_ASKED) // runs that were asked to finish

function say(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "Slider Train Step", detail, life: 4000 })
}

function send(method, path, body) {
  const request = { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }
  return api.fetchApi(path, request).catch((fault) => ({ ok: false, status: fault.message }))
}

/** The training of that state, in that node, is to finish with the step it is at. */
async function finish(node, { run }) {
  ending.set(run, true)
  const reply = await send("POST", FINISH, { node: String(node.id) })
  if (!reply.ok) ending.delete(run)
  if (reply.ok) say("info", "Finishing with this step; the graph goes on with what was learned.")
  else if (reply.status === 409) {
    say("warn", "This node is not training now.")
    await restore()
  } else say("error", `The server answered ${reply.status}.`)
}

/** A slider in a node of a workflow. */
const askedKey = ({ node, name }, graph) => `${graph} ${node} ${name}`
const openKey = (state) => askedKey(state, rootOf()?.id)

/** The training of that key is not to be trained on, unless another workflow waits for the same. */
async function withdraw(key) {
  const asked = key.slice(key.indexOf(" ") + 1)
  if (queued.keys().some((other) => other !== key && other.endsWith(` ${asked}`))) return
  const [node, ...name] = asked.split(" ")
  await send("DELETE", TRAIN_ON, { node, name: name.join(" ") })
}

/** Queue the graph to train the slider of that state on. */
function trainOn(state) {
  return queued.ask(openKey(state), async () => {
    const reply = await send("POST", TRAIN_ON, { node: state.node, name: state.name, steps: state.more })
    const prompt = reply.ok && (await queueOpen())
    if (!reply.ok) say("error", `The server answered ${reply.status}.`)
    else if (!prompt) await withdraw(openKey(state)) // the graph was refused
    return prompt
  })
}

/** A training that waits for a prompt that is no longer in the queue (it was cancelled, or ComfyUI has ended) waits no more, and the
 * next run does not make up for it. */
async function checkQueue() {
  const waited = queued.prompts()
  const reply = waited.length && (await api.fetchApi("/queue").catch(() => null))
  if (!reply?.ok) return
  const there = inQueue(await reply.json())
  if (await queued.left(waited.filter((prompt) => !there.includes(prompt)), withdraw)) panelsHere().forEach((panel) => panel.settle())
}

const rootOf = () => app.rootGraph ?? app.graph
const panelsHere = () => allNodes(rootOf()).map((node) => panels.get(node)).filter(Boolean)

/** What the run before has shown is dimmed until this run has its own, or has left the node out. */
function dim(waiting) {
  for (const panel of panelsHere()) panel.dim(waiting)
}

const keyOf = (state) => `${state.node} ${state.name}`

function keepState(state) {
  states.delete(keyOf(state))
  states.set(keyOf(state), state)
}

function show(state) {
  const node = nodeAt(rootOf(), state.node)
  const panel = node && panels.get(node)
  if (panel && (panel.state()?.run === state.run || isAbout(node, state, rootOf()?.id))) showOn(node, panel, state)
}

function showOn(node, panel, state) {
  const before = panel.least()
  panel.show(state)
  if (panel.least() !== before) grow(node)
}

/** Room for what the panel needs: by how much the node is higher now. */
function grow(node) {
  const [width, height] = node.computeSize()
  const missing = Math.max(0, height - node.size[1])
  node.setSize([Math.max(node.size[0], width), node.size[1] + missing])
  node.setDirtyCanvas(true, true)
  return missing
}

/** A note in the panel, which covers nothing and leaves the node as high as it is where it can. */
function placeNote(node, panel, note, room) {
  const remove = panel.place(note, room)
  const more = grow(node)
  return () => {
    remove()
    if (more) node.setSize([node.size[0], Math.max(node.size[1] - more, node.computeSize()[1])])
  }
}

/** What the page knows of trainings that a ComfyUI before this one has done, where a panel shows nothing yet. */
function showRemembered(nodes) {
  for (const state of remembered(states.values(), nodes)) {
    const panel = panels.get(nodeAt(rootOf(), state.node))
    if (panel && !panel.state()) show(state)
  }
}

/** What trains or trained before this page, or this graph, was opened, or while the server was not heard. */
async function restore() {
  const before = new Map(states)
  checkQueue()
  const reply = await api.fetchApi(PROGRESS).catch(() => null)
  if (!reply?.ok) return
  const { nodes, preparing } = await reply.json()
  const isNews = (state) => states.get(keyOf(state)) !== before.get(keyOf(state)) // the page has heard of it meanwhile
  for (const state of nodes) if (!isNews(state)) show(state)
  for (const panel of panelsHere()) {
    const stopped = lost(panel.state(), nodes)
    if (stopped && !isNews(stopped)) panel.show(stopped)
  }
  showRemembered(nodes)
  const messages = stillPreparing(preparing, before, states)
  nodes.filter((state) => !isNews(state)).forEach(keepState)
  for (const message of messages) if (isForOpen(message)) showMessage(message)
}

/** What a training in preparation has said; an older one that is shown is dimmed, as when the run began. */
function showMessage({ node, text }) {
  const panel = panels.get(nodeAt(rootOf(), node))
  panel?.dim(true)
  panel?.say(text)
}

app.registerExtension({
  name: "sliderlora.train",
  setup() {
    api.addEventListener(EVENT, ({ detail }) => {
      keepState(detail)
      if (isRunning(detail)) queued.begun(askedKey(detail, detail.graph || rootOf()?.id), beganLast())
      show(detail)
    })
    api.addEventListener("status", checkQueue)
    api.addEventListener("reconnected", restore)
    api.addEventListener("graphChanged", () => panelsHere().forEach((panel) => panel.check())) // another name, another folder
    onOwn("execution_start", () => dim(true))
    onEnd(() => dim(false))
  },
  afterConfigureGraph: restore,
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const panel = makePanel(document, {
      address: (path) => api.apiURL(path),
      end: (state) => finish(node, state),
      isEnding: ({ run }) => ending.has(run),
      trainOn,
      isQueued: (state) => queued.has(openKey(state)),
      next: () => nextName(node),
      here: () => shownInApp(rootOf()),
      nodes: () => nodeTypes(rootOf()),
    })
    const widget = node.addDOMWidget("live", freshType("slider_live"), panel.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: panel.least,
    })
    widget.serialize = false
    passWheel(panel.element)
    widget.label = "training" // as an App names it
    panels.set(node, panel)
    const old = node.widgets.find((candidate) => candidate.name === "old_name")
    if (old) backWhenQueued(old, "restart", "continue", (_, value) => setWidget(app, node, old, value)) // once is what was meant
    node.sliderSays = panel.say
    node.sliderPlace = (note, _, room) => placeNote(node, panel, note, room)
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      const state = output?.slider_train?.[0]
      if (!state) return
      keepState(state)
      if (isGivenByOwn() || isAbout(node, state, rootOf()?.id)) showOn(node, panel, state) // also where nothing ran anew, in this workflow or another
    }
  },
})
