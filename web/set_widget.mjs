/** Set a widget as a person would: the node hears of it too, and ComfyUI takes an error back that was about the old value. */
export function setWidget(app, node, widget, value) {
  const before = widget.value
  widget.value = value
  widget.callback?.(value, app.canvas, node)
  node.onWidgetChanged?.(widget.name, value, before, widget)
}
