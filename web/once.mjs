// Choices that hold for one run: they go along with its prompt, and neither the workflow nor its draft keeps them. No page, no ComfyUI;
// tested with `node --test`.

/** Give `value` for a widget to the prompts that `queue` makes; the widget itself, and what the workflow saves, stays as it is. */
export async function onceWith(widget, value, queue) {
  const before = widget.serializeValue
  widget.serializeValue = () => value
  try {
    return await queue()
  } finally {
    if (before) widget.serializeValue = before
    else delete widget.serializeValue
  }
}

/** A widget that goes from `once` back to `usual` when a run is queued, before ComfyUI keeps the workflow: however the run ends, and
 * whichever workflow is open then. `set(widget, value)` sets it. */
export function backWhenQueued(widget, once, usual, set) {
  const before = widget.afterQueued
  widget.afterQueued = function () {
    before?.apply(this, arguments)
    if (widget.value === once) set(widget, usual)
  }
}
