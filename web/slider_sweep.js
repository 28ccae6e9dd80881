// The scrubber on Slider Strength Sweep: drag from - to + and the picture follows; a button hands the strength to Slider LoRA Apply.
// The pictures are files that the server holds; slider_restore.js finds those again that the node showed last.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"
import { remember } from "./graph_history.mjs"
import { onEnd, onOwn } from "./own_runs.mjs"
import { applyTargets, label, readSweep } from "./scrubber.mjs"
import { STYLE, makeScrubber } from "./scrubber_view.mjs"
import { setWidget } from "./set_widget.mjs"
import { styleOnce } from "./style_once.mjs"
import { passWheel } from "./wheel.mjs"
import { freshType } from "./widget_type.mjs"

const NODE = "SliderStrengthSweep"
const APPLY = "SliderLoRAApply"
const EMPTY_HEIGHT = 36
const HEIGHT = 300
const WIDTH = 330
const NOTE = 120 // an error above the scrubber
const NOTED_STYLE = `
.slider-scrubber > .slider-note { flex: none; height: auto; max-height: ${NOTE}px; }
.slider-scrubber:has(> .slider-note) .scene { flex-basis: 70px; min-height: 70px; }
`
const OLD = 0.35 // opacity of pictures of the run before
const places = new Map() // workflow and node -> where its handle stands: an undo makes the node anew

function placeOf(node) {
  const key = `${(app.rootGraph ?? app.graph)?.id} ${node.graph?.id} ${node.id}`
  if (!places.has(key)) places.set(key, {})
  return places.get(key)
}

function say(severity, detail) {
  app.extensionManager.toast.add({ severity, summary: "Slider Strength Sweep", detail, life: 4000 })
}

function urlOf(file) {
  return api.apiURL(`/view?${new URLSearchParams({ filename: file.filename, subfolder: file.subfolder ?? "", type: file.type })}`)
}

/** What feeds an input, as "node:output"; empty when nothing does. */
function fedBy(node, name) {
  const link = node.inputs?.find((input) => input.name === name)?.link
  const from = link == null ? null : (node.graph.getLink?.(link) ?? node.graph.links?.[link])
  return from ? `${from.origin_id}:${from.origin_slot}` : ""
}

function isSelected(node) {
  const items = app.canvas.selectedItems
  return items?.has ? items.has(node) : Boolean(app.canvas.selected_nodes?.[node.id])
}

async function toClipboard(strength, why) {
  try {
    await navigator.clipboard.writeText(String(strength))
    say("info", `${why}Copied ${label(strength)} to the clipboard.`)
  } catch {
    say("warn", `${why}The strength is ${label(strength)}; the browser does not let it be copied.`)
  }
}

function handOver(node, strength) {
  const nodes = node.graph.nodes ?? node.graph._nodes
  const applies = nodes
    .filter((other) => other.comfyClass === APPLY)
    .map((other) => ({ id: other.id, node: other, selected: isSelected(other), slider: fedBy(other, "slider") }))
  const { targets, why } = applyTargets(applies, fedBy(node, "slider"))
  if (why === "many") return toClipboard(strength, "Several Slider LoRA Apply nodes use this slider: select one. ")
  if (why === "none") return toClipboard(strength, "")
  const open = targets.filter((target) => !fedBy(target.node, "strength"))
  if (!open.length) return toClipboard(strength, "The strength of Slider LoRA Apply comes from another node. ")
  for (const target of open) {
    const widget = target.node.widgets.find((candidate) => candidate.name === "strength")
    setWidget(app, target.node, widget, strength)
  }
  node.graph.setDirtyCanvas(true, true)
  remember(app.extensionManager.workflow?.activeWorkflow)
  say("success", `Strength ${label(strength)} set in ${open.map((target) => target.node.title).join(", ")}.`)
}

/** Room for what is in the node, at least so wide; a node is never made smaller. */
function grow(node, least = 0) {
  const [width, height] = node.computeSize()
  node.setSize([Math.max(node.size[0], width, least), Math.max(node.size[1], height)])
  node.graph?.setDirtyCanvas(true, true)
}

function addScrubber(node) {
  const scrubber = makeScrubber(document, {
    use: "copy strength",
    onUse: (strength) => handOver(node, strength),
    empty: "Run the graph, then slide from - to + here.",
  })
  scrubber.element.style.maxHeight = "640px"
  let height = EMPTY_HEIGHT
  let noteRoom = 0
  const widget = node.addDOMWidget("scrubber", freshType("slider_scrubber"), scrubber.element, {
    serialize: false,
    hideOnZoom: false,
    getMinHeight: () => height + (height === EMPTY_HEIGHT ? noteRoom : 0),
    getValue: () => "",
    setValue: () => {},
  })
  widget.serialize = false
  passWheel(scrubber.element)
  widget.label = "slide from - to +" // as an App names it

  node.sliderPlace = (note, _, room) => {
    const before = node.size[1]
    scrubber.element.prepend(note)
    noteRoom = Math.min(NOTE, room)
    if (height === EMPTY_HEIGHT) note.style.maxHeight = `${noteRoom}px`
    grow(node)
    const more = node.size[1] - before
    return () => {
      noteRoom = 0
      if (more > 0) node.setSize([node.size[0], Math.max(node.size[1] - more, node.computeSize()[1])])
    }
  }

  function show(data) {
    const sweep = readSweep(data)
    if (!sweep) return
    scrubber.show(sweep, urlOf, placeOf(node))
    height = HEIGHT
    grow(node, WIDTH)
  }
  return show
}

const scrubberOf = (node) => node.widgets?.find((widget) => widget.name === "scrubber")?.element

const paled = new WeakMap()

/** A picture as a canvas of the same size, pale. ComfyUI draws its previews later than it is asked to, so an alpha set around the call
 * is lost. */
function pale(picture) {
  if (!picture.naturalWidth) return picture
  if (!paled.has(picture)) {
    const canvas = document.createElement("canvas")
    canvas.width = canvas.naturalWidth = picture.naturalWidth
    canvas.height = canvas.naturalHeight = picture.naturalHeight
    const context = canvas.getContext("2d")
    context.globalAlpha = OLD
    context.drawImage(picture, 0, 0)
    paled.set(picture, canvas)
  }
  return paled.get(picture)
}

/** ComfyUI's own preview of the strip, on the canvas and in Vue nodes. */
function dimPreview(node, waiting) {
  const preview = node.widgets?.find((widget) => widget.name?.startsWith("$$canvas-image-preview"))
  if (preview && !waiting) delete preview.drawWidget
  else if (preview)
    preview.drawWidget = function (context, options) {
      const previewImages = (options.previewImages ?? node.imgs ?? []).map(pale)
      Object.getPrototypeOf(this).drawWidget.call(this, context, { ...options, previewImages })
    }
  const moving = node.widgets?.find((widget) => widget.name === "$$comfy_animation_preview")?.element
  if (moving) moving.style.opacity = waiting ? OLD : ""
  const page = document.querySelector(`.lg-node[data-node-id="${node.id}"]`)
  for (const picture of page?.querySelectorAll("img") ?? [])
    if (!picture.closest(".slider-scrubber")) picture.style.opacity = waiting ? OLD : ""
}

/** Pictures of the run before are dimmed until this run has its own, or has left the node out. */
function dim(node, waiting) {
  scrubberOf(node)?.classList.toggle("waiting", waiting)
  dimPreview(node, waiting)
  app.canvas?.setDirty(true, true)
}

function dimAll(waiting) {
  for (const node of app.graph?._nodes ?? []) if (node.comfyClass === NODE) dim(node, waiting)
}

app.registerExtension({
  name: "sliderlora.sweep",
  init() {
    styleOnce(document, "slider-sweep-style", STYLE + NOTED_STYLE)
  },
  setup() {
    onOwn("execution_start", () => dimAll(true))
    onEnd(() => dimAll(false))
  },
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return
    const show = addScrubber(node)
    const before = node.onExecuted
    node.onExecuted = function (output) {
      before?.apply(this, arguments)
      dim(node, false)
      show(output?.slider_sweep?.[0])
    }
    grow(node)
  },
  loadedGraphNode(node) {
    if (node.comfyClass === NODE) grow(node) // a workflow of an earlier version has a lower node
  },
})
