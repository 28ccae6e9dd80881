// Load Slider Dataset in the browser: images are dropped, chosen or pasted on it, shown in pairs, and looked at by the pair doctor.
// A panel outlives its node, which ComfyUI makes anew at every undo and when another tab was opened: what is half done in it, and what
// can be taken back, stays.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { choicesOf } from "./dataset_choices.mjs"
import { bringsFiles, filesOf, typed } from "./dataset_files.mjs"
import { makePanel } from "./dataset_panel.mjs"
import { cellOf } from "./dataset_rows_view.mjs"
import { part } from "./dataset_style.mjs"
import { remember, renameInHistory } from "./graph_history.mjs"
import { locatorOf } from "./last_output.mjs"
import { renewLists } from "./lists.mjs"
import { onOwn } from "./own_runs.mjs"
import { tells } from "./runs.mjs"
import { setWidget } from "./set_widget.mjs"
import { passWheel } from "./wheel.mjs"
import { freshType } from "./widget_type.mjs"

const NODE = "LoadSliderDataset"
const ROUTE = "/slider_lora/dataset"
const HEIGHT = 250
const WIDTH = 330
const MOST = 32 // panels that are kept
const panels = new Map() // node -> its panel
const seats = new Map() // workflow and id of a node -> what stands there
const renames = new Map() // name of a set -> the one that it was given
const listed = new Set() // sets that came while the page was open, and were listed anew for
let definition = null // of the node, as the server sent it

async function answered(reply) {
  const answer = await reply.json().catch(() => ({}))
  if (!reply.ok) throw new Error(answer.error ?? `The server answered ${reply.status}.`)
  return answer
}

async function ask(path, body) {
  const post = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }
  return answered(await api.fetchApi(ROUTE + path, body && post))
}

/** The name under which the server keeps the file: another where that is taken by another picture. */
async function upload(file, name, subfolder) {
  const form = new FormData()
  form.append("image", file, name)
  form.append("type", "input")
  form.append("subfolder", subfolder)
  const reply = await api.fetchApi("/upload/image", { method: "POST", body: form })
  if (reply.ok) return (await reply.json()).name
  throw new Error(`${file.name} was not taken: the server answered ${reply.status}${reply.status === 413 ? ", the file is too large" : ""}. Try it again.`)
}

function fileUrl({ filename, subfolder, type, stamp = "" }) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type, v: stamp })}`)
}

const server = {
  list: (folder) => ask(`?${new URLSearchParams({ folder })}`),
  findings: (folder, wanted, choices) => ask(`/findings?${new URLSearchParams({ folder, asked: wanted ? "1" : "", choices })}`),
  move: (folder, moves) => ask("/move", { folder, moves }),
  async rename(folder, name) {
    const answer = await ask("/rename", { folder, name })
    renames.set(folder, answer.folder)
    return answer
  },
  upload,
  fileUrl,
  decode: (file) => createImageBitmap(file),
  open: (url) => window.open(url, "_blank", "noopener"),
  /** Other nodes that show the same folder show it anew. */
  changed(folder, but) {
    for (const panel of panels.values()) if (panel !== but && panel.folder() === folder) panel.show()
  },
  /** Other nodes that show a folder follow it to its new name. */
  renamed(folder, name, but) {
    for (const [node, panel] of panels) if (panel !== but && panel.folder() === folder) choose(node, name)
  },
}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)

/** The folders that there are, into the list of every such node, and of those that are made later. */
function setChoices(choices) {
  if (!choices) return
  const options = definition?.input?.required?.folder?.[1]?.options
  const fresh = choices.filter((choice) => !options?.includes(choice) && !listed.has(choice))
  for (const choice of fresh) listed.add(choice)
  if (fresh.length) renewLists(app) // ComfyUI marks a value in red that it has not listed
  if (Array.isArray(options)) options.splice(0, options.length, ...choices)
  for (const node of panels.keys()) {
    const widget = widgetOf(node, "folder")
    if (widget?.options) widget.options.values = [...choices]
  }
}

function choose(node, folder) {
  const widget = widgetOf(node, "folder")
  if (!widget || widget.value === folder) return
  const { openWorkflows = [], activeWorkflow } = app.extensionManager.workflow ?? {}
  const from = widget.value
  const isRename = renames.get(from) === folder
  if (isRename) renameInHistory(openWorkflows, { kind: NODE, widget: widget.name, index: node.widgets.indexOf(widget), from, to: folder })
  setWidget(app, node, widget, folder)
  node.graph?.setDirtyCanvas(true, true)
  if (isRename) activeWorkflow?.changeTracker?.updateModified?.()
  else remember(activeWorkflow)
}

/** Call `act(value)` when a widget was changed. */
function onChange(widget, act) {
  if (!widget) return
  const before = widget.callback
  widget.callback = function (value, ...more) {
    const result = before?.call(this, value, ...more)
    act(value)
    return result
  }
}

const folderOf = (node) => String(widgetOf(node, "folder")?.value ?? "")

/** A panel with the node in which it stands, or stood: `late` is the choice that was made for it while it is gone. */
function makeSeat(node) {
  const seat = { node, late: null }
  let choices = {}
  const choicesNow = () => (panels.has(seat.node) ? (choices = choicesOf(seat.node)) : choices)
  seat.panel = makePanel(document, server, {
    folder: () => folderOf(seat.node),
    frames: () => Number(choicesNow().frames ?? 1),
    reading: () => JSON.stringify(choicesNow()),
    choices: setChoices,
    choose(name, before) {
      if (panels.has(seat.node)) choose(seat.node, name)
      else seat.late = { name, before }
    },
    mended: () => seat.node.sliderNote?.(), // what a run said of the images before
  })
  const { element } = seat.panel
  element.addEventListener("drop", () => (app.dragOverNode = null)) // the canvas marked the node on the way
  element.style.minHeight = `${HEIGHT - 10}px`
  return seat
}

/** The seat of a node in the open workflow, which the node before it may have left. */
function seatOf(node) {
  const root = app.rootGraph ?? app.graph
  if (!tells(root?.id)) return makeSeat(node)
  const place = `${root.id} ${locatorOf(node, root)}`
  const seat = seats.get(place) ?? makeSeat(node)
  seats.delete(place)
  seats.set(place, seat)
  if (seats.size > MOST) seats.delete(seats.keys().next().value)
  return seat
}

/** Put the panel of its seat into a node that has come into a graph. */
function sit(node, home) {
  const seat = seatOf(node)
  const { panel } = seat
  panels.delete(seat.node) // nothing tells of those that go with a subgraph
  seat.node = node
  panels.set(node, panel)
  panel.moved()
  home.replaceChildren(panel.element)
  node.sliderPlace = panel.note
  node.sliderIsChanged = panel.isChanged
  setTimeout(() => {
    if (!panels.has(node)) return
    const { late } = seat
    seat.late = null
    if (late?.before === folderOf(node)) choose(node, late.name)
    panel.show() // a loaded node has its folder only then
  })
}

/** The element that a panel stands in. */
function addHome(node) {
  const home = part(document, "div", { class: "slider-dataset-node" })
  const widget = node.addDOMWidget("pairs", freshType("slider_pairs"), home, { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT })
  passWheel(home)
  widget.label = "images" // as an App names it
  widget.serialize = false
  onChange(widgetOf(node, "folder"), (value) => {
    const panel = panels.get(node)
    if (!panel || value === panel.wanted()) return
    node.sliderNote?.()
    panel.show()
  })
  onChange(widgetOf(node, "caption"), () => panels.get(node)?.check())
  node.setSize([Math.max(node.size[0], WIDTH), Math.max(node.size[1], node.computeSize()[1])])
  return home
}

/** Hang `more` behind a method that the node may have already. */
function after(node, method, more) {
  const before = node[method]
  node[method] = function () {
    const result = before?.apply(this, arguments)
    return more.apply(this, arguments) ?? result
  }
}

/** The panel, the side and the cell under the focus, else under the pointer, for what is pasted. */
function pasteTarget() {
  const focused = document.activeElement?.closest?.(".slider-dataset [data-side]")
  const place = focused ?? document.querySelector(".slider-dataset [data-side]:hover")
  const panel = place && [...panels.values()].find((one) => one.element.contains(place))
  return panel ? { panel, side: place.dataset.side, cell: cellOf(place) } : null
}

function onPaste(event) {
  const files = [...(event.clipboardData?.files ?? [])].map(typed)
  const target = files.length ? pasteTarget() : null
  if (!target) return
  event.preventDefault()
  event.stopImmediatePropagation() // ComfyUI would put a Load Image node beside it
  target.panel.paste(target.side, files, target.cell)
}

app.registerExtension({
  name: "sliderlora.dataset",
  setup() {
    document.addEventListener("paste", onPaste, { capture: true })
    const all = (act) => [...panels.values()].forEach(act)
    onOwn("execution_start", () => all((panel) => panel.runs()))
    api.addEventListener("graphChanged", () => all((panel) => panel.check())) // another caption, other options
  },
  beforeRegisterNodeDef(_nodeType, nodeData) {
    if (nodeData.name === NODE) definition = nodeData
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const home = addHome(node)
    node.onDragOver = (event) => bringsFiles(event.dataTransfer)
    node.onDragDrop = async (event) => {
      if (!bringsFiles(event.dataTransfer)) return false
      panels.get(node)?.take(null, filesOf(event.dataTransfer))
      return true
    }
    after(node, "onExecuted", (output) => {
      if (output?.slider_dataset?.[0]) panels.get(node)?.ran(output.slider_dataset[0])
    })
    after(node, "onAdded", () => sit(node, home))
    after(node, "onRemoved", () => {
      panels.delete(node)
    })
  },
  refreshComboInNodes() {
    for (const panel of panels.values()) panel.show()
  },
})
