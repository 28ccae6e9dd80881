// The widget "preset" of Slider Train Step fills in the widgets that it sets; setting one of those by hand makes it "custom".
// The table of values comes from Python, in the input's own options.

import { app } from "../../scripts/app.js"
import { CUSTOM, afterEdit, values } from "./slider_presets.mjs"

const NODE = "SliderTrainStep"
let presets = {}

/** Call `then` with a widget's new value, after what it does already. */
function onChange(widget, then) {
  const before = widget.callback
  widget.callback = function (value, ...more) {
    const result = before?.call(this, value, ...more)
    then(value)
    return result
  }
}

function fill(node, preset) {
  for (const [name, value] of values(presets, preset)) {
    const widget = node.widgets.find((w) => w.name === name)
    if (widget) widget.value = value
  }
  node.setDirtyCanvas?.(true, true)
}

app.registerExtension({
  name: "slider_lora.presets",
  beforeRegisterNodeDef(_nodeType, nodeData) {
    if (nodeData.name === NODE) presets = nodeData.input?.optional?.preset?.[1]?.presets ?? {}
  },
  nodeCreated(node) {
    const chooser = node.comfyClass === NODE && node.widgets?.find((w) => w.name === "preset")
    if (!chooser) return
    onChange(chooser, (preset) => fill(node, preset))
    const filled = new Set(Object.values(presets).flatMap(Object.keys))
    for (const widget of node.widgets.filter((w) => filled.has(w.name)))
      onChange(widget, (value) => {
        chooser.value = afterEdit(presets, chooser.value ?? CUSTOM, widget.name, value)
      })
  },
})
