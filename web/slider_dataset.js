// Load Slider Dataset in the browser: images are dropped, chosen or pasted on it, shown in pairs, and looked at by the pair doctor.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { choicesOf } from "./dataset_choices.mjs"
import { bringsFiles, filesOf, typed } from "./dataset_files.mjs"
import { makePanel } from "./dataset_panel.mjs"
import { onOwn } from "./own_runs.mjs"
import { setWidget } from "./set_widget.mjs"
import { freshType } from "./widget_type.mjs"

const NODE = "LoadSliderDataset"
const ROUTE = "/slider_lora/dataset"
const HEIGHT = 250
const WIDTH = 330
const WORK = ["click", "focusin", "dragenter"]
const panels = new Map() // node -> its panel
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
  rename: (folder, name) => ask("/rename", { folder, name }),
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
  if (Array.isArray(options)) options.splice(0, options.length, ...choices)
  for (const node of panels.keys()) {
    const widget = widgetOf(node, "folder")
    if (widget?.options) widget.options.values = [...choices]
  }
}

function choose(node, folder) {
  const widget = widgetOf(node, "folder")
  if (!widget || widget.value === folder) return
  setWidget(app, node, widget, folder)
  node.graph?.setDirtyCanvas(true, true)
  app.extensionManager.workflow?.activeWorkflow?.changeTracker?.checkState?.()
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

function add(node) {
  const folder = widgetOf(node, "folder")
  const panel = makePanel(document, server, {
    folder: () => String(folder?.value ?? ""),
    frames: () => Number(choicesOf(node).frames ?? 1),
    reading: () => JSON.stringify(choicesOf(node)),
    choices: setChoices,
    choose: (name) => choose(node, name),
    mended: () => node.sliderNote?.(), // what a run said of the images before
  })
  node.sliderPlace = panel.note
  node.sliderIsChanged = panel.isChanged
  panel.element.addEventListener("drop", () => (app.dragOverNode = null)) // the canvas marked the node on the way
  for (const event of WORK) panel.element.addEventListener(event, () => panel.element.classList.add("in-use"))
  panel.element.style.minHeight = `${HEIGHT - 10}px`
  const widget = node.addDOMWidget("pairs", freshType("slider_pairs"), panel.element, { serialize: false, hideOnZoom: false, getMinHeight: () => HEIGHT })
  widget.label = "images" // as an App names it
  widget.serialize = false
  onChange(folder, (value) => {
    if (value === panel.wanted()) return
    node.sliderNote?.()
    panel.show()
  })
  onChange(widgetOf(node, "caption"), panel.check)
  node.setSize([Math.max(node.size[0], WIDTH), Math.max(node.size[1], node.computeSize()[1])])
  return panel
}

/** Hang `more` behind a method that the node may have already. */
function after(node, method, more) {
  const before = node[method]
  node[method] = function () {
    const result = before?.apply(this, arguments)
    return more.apply(this, arguments) ?? result
  }
}

/** The panel and the side under the focus, else under the pointer, for what is pasted. */
function pasteTarget() {
  const focused = document.activeElement?.closest?.(".slider-dataset [data-side]")
  const place = focused ?? document.querySelector(".slider-dataset [data-side]:hover")
  const panel = place && [...panels.values()].find((one) => one.element.contains(place))
  return panel ? { panel, side: place.dataset.side } : null
}

function onPaste(event) {
  const files = [...(event.clipboardData?.files ?? [])].map(typed)
  const target = files.length ? pasteTarget() : null
  if (!target) return
  event.preventDefault()
  event.stopImmediatePropagation() // ComfyUI would put a Load Image node beside it
  target.panel.paste(target.side, files)
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
    const panel = add(node)
    node.onDragOver = (event) => bringsFiles(event.dataTransfer)
    node.onDragDrop = async (event) => {
      if (!bringsFiles(event.dataTransfer)) return false
      panel.take(null, filesOf(event.dataTransfer))
      return true
    }
    after(node, "onExecuted", (output) => {
      if (output?.slider_dataset?.[0]) panel.ran(output.slider_dataset[0])
    })
    after(node, "onAdded", () => {
      panels.set(node, panel)
      setTimeout(() => panels.has(node) && panel.show()) // a loaded node has its folder only then
    })
    after(node, "onRemoved", () => {
      panels.delete(node)
    })
  },
  refreshComboInNodes() {
    for (const panel of panels.values()) panel.show()
  },
})
