// What an empty field of one line stands for, written in it, pale: "as trained". ComfyUI shows a placeholder in fields of
// several lines alone.

import { app } from "../../scripts/app.js"
import { isDefinedHere } from "./of_pack.mjs"

const hints = new Map() // kind of a node -> { name of an input: its placeholder }

function hintsOf({ required = {}, optional = {} } = {}) {
  const found = Object.entries({ ...required, ...optional }).filter(([, [kind, options]]) => kind === "STRING" && options?.placeholder && !options.multiline)
  return Object.fromEntries(found.map(([name, [, { placeholder }]]) => [name, placeholder]))
}

/** A getter of an object, however far up in its classes. */
function getterOf(object, name) {
  for (let at = object; at; at = Object.getPrototypeOf(at)) {
    const getter = Object.getOwnPropertyDescriptor(at, name)?.get
    if (getter) return () => getter.call(object)
  }
  return null
}

/** On the canvas the hint stands where the value would, in the colour of the labels; Vue nodes hand it to their field. */
function hint(widget, text) {
  const isEmpty = () => widget.value === "" && !widget.computedDisabled
  if (widget.options) widget.options.placeholder = text
  const value = getterOf(widget, "_displayValue")
  const colour = getterOf(widget, "text_color")
  if (!value || !colour) return // another frontend
  Object.defineProperty(widget, "_displayValue", { configurable: true, get: () => (isEmpty() ? text : value()) })
  Object.defineProperty(widget, "text_color", { configurable: true, get: () => (isEmpty() ? widget.secondary_text_color : colour()) })
}

app.registerExtension({
  name: "sliderlora.hints",
  beforeRegisterNodeDef(_nodeType, definition) {
    if (isDefinedHere(definition)) hints.set(definition.name, hintsOf(definition.input))
  },
  nodeCreated(node) {
    for (const [name, text] of Object.entries(hints.get(node.comfyClass) ?? {})) {
      const widget = node.widgets?.find((candidate) => candidate.name === name)
      if (widget) hint(widget, text)
    }
  },
})
