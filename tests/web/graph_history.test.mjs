// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { remember, renameInHistory } from "../../web/graph_history.mjs"

const node = (type, ...values) => ({ type, widgets_values: values, widgets_values_named: { folder: values[0] } })

test("a name that is gone is nowhere that undo, redo or another tab would bring back", () => {
  const inside = { nodes: [], definitions: { subgraphs: [{ nodes: [node("Load", "a", "kept")] }] } }
  const tracker = { undoQueue: [{ nodes: [node("Load", "a"), node("Other", "a")] }, { nodes: [node("Load", "b", "a")] }], redoQueue: [inside], activeState: { nodes: [node("Load", "a"), { type: "Load" }] } }
  renameInHistory([{ changeTracker: tracker }, { changeTracker: null }, {}], { kind: "Load", widget: "folder", index: 0, from: "a", to: "new" })
  assert.deepEqual(tracker.undoQueue[0].nodes.map(({ widgets_values }) => widgets_values[0]), ["new", "a"])
  assert.deepEqual(tracker.undoQueue[1].nodes[0].widgets_values, ["b", "a"])
  assert.deepEqual(tracker.redoQueue[0].definitions.subgraphs[0].nodes[0].widgets_values, ["new", "kept"])
  assert.equal(tracker.activeState.nodes[0].widgets_values[0], "new")
  assert.equal(tracker.activeState.nodes[0].widgets_values_named.folder, "new")
})

test("a change is told to undo, by whichever name it hears", () => {
  const heard = []
  remember({ changeTracker: { captureCanvasState: () => heard.push("new"), checkState: () => heard.push("both") } })
  remember({ changeTracker: { checkState: () => heard.push("old") } })
  remember(undefined)
  assert.deepEqual(heard, ["new", "old"])
})

test("the graph of the file stays as it was saved", () => {
  const saved = { nodes: [node("Load", "a")] }
  const tracker = { initialState: saved, activeState: saved }
  renameInHistory([{ changeTracker: tracker }], { kind: "Load", widget: "folder", index: 0, from: "a", to: "new" })
  assert.equal(saved.nodes[0].widgets_values[0], "a")
  assert.equal(tracker.activeState.nodes[0].widgets_values[0], "new")
})
