// What ComfyUI keeps of the open workflows: the graph of each as it stands, and those that undo and redo bring back. No page, no
// ComfyUI; tested with `node --test`.

/** Let undo know of a change that was just made in the open workflow, as if a person had made it. */
export function remember(workflow) {
  const tracker = workflow?.changeTracker
  if (tracker?.captureCanvasState) tracker.captureCanvasState()
  else tracker?.checkState?.() // as it was called before
}

const nodesOf = (graph) => [...(graph?.nodes ?? []), ...(graph?.definitions?.subgraphs ?? []).flatMap(nodesOf)]

/** What is called `from` is `to` now, wherever it is the value of the widget `widget`, the `index`-th, of a node of that `kind`: an
 * undo, and another tab, would bring back a name that nothing has any more. */
export function renameInHistory(workflows, { kind, widget, index, from, to }) {
  for (const { changeTracker: tracker } of workflows) {
    if (!tracker) continue
    if (tracker.activeState === tracker.initialState) tracker.activeState = structuredClone(tracker.activeState) // the file's
    const graphs = [...(tracker.undoQueue ?? []), ...(tracker.redoQueue ?? []), tracker.activeState]
    for (const { type, widgets_values: values, widgets_values_named: named } of graphs.flatMap(nodesOf)) {
      if (type !== kind) continue
      if (values?.[index] === from) values[index] = to
      if (named?.[widget] === from) named[widget] = to
    }
  }
}
