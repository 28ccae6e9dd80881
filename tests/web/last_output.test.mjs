// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { isRestoring, lastError, lastOutputs, locatorOf, missing, restoring } from "../../web/last_output.mjs"

const ZEROS = "00000000-0000-0000-0000-000000000000"
const record = (number, id, shown, kind = "Sweep", workflow = "w") => ({
  prompt: [number, "prompt", { [id]: { class_type: kind } }, { extra_pnginfo: { workflow: { id: workflow } } }, []],
  outputs: { [id]: { text: [shown] } },
})
const inside = { getNodeById: (id) => (id === "4" ? { comfyClass: "Sweep" } : null) }
const graph = (id, kind = "Sweep") => ({ id, getNodeById: (node) => ({ 10: { comfyClass: kind }, 12: { subgraph: inside } })[node] ?? null })
const shown = (history, root) => Object.fromEntries([...lastOutputs(history, root)].map(([id, { output }]) => [id, output.text[0]]))

test("the newest output of every node of a workflow is found, and none of another workflow", () => {
  const history = {
    a: record(1, "10", "old"), b: record(3, "10", "new"), c: record(2, "12:4", "inside"), e: record(6, "10", "other", "Sweep", "v"),
    f: { prompt: [7, "prompt", {}, {}] },
  }
  assert.deepEqual(shown(history, graph("w")), { 10: "new", "12:4": "inside" })
  assert.deepEqual(shown(history, graph("v")), { 10: "other" })
  assert.deepEqual(shown(history, graph("template")), {})
})

test("a run of an API file, which names no workflow, is of a graph that holds all its nodes", () => {
  const unnamed = { a: record(1, "10", "of no workflow", "Sweep", ZEROS) }
  for (const id of [ZEROS, "", "w"]) assert.deepEqual(shown(unnamed, graph(id)), { 10: "of no workflow" })
  assert.deepEqual(shown(unnamed, graph("w", "Other")), {})
  assert.deepEqual(shown({ a: record(1, "11", "gone", "Sweep", ZEROS) }, graph("w")), {})
  assert.deepEqual(shown(null, graph("w")), {})
})

test("the error of a graph's newest run is found, with the values of its node", () => {
  const failed = (number, id) => ({
    prompt: [number, "", { 10: { class_type: "Sweep", inputs: { rows: 2 } } }, { extra_pnginfo: { workflow: { id } } }],
    status: { messages: [["execution_start", {}], ["execution_error", { node_id: "10", exception_message: `of ${number}` }]] },
  })
  assert.deepEqual(lastError({ a: failed(1, "w"), b: failed(2, "w"), c: failed(3, "other") }, graph("w")), {
    node_id: "10", exception_message: "of 2", values: { rows: 2 },
  })
  assert.equal(lastError({ a: failed(1, "w"), b: record(2, "10", "well", "Sweep", "w") }, graph("w")), null)
  assert.equal(lastError(null, graph("w")), null)
})

test("the error of a run that names no workflow is a node's only while it has the values that it ran with", () => {
  const inputs = { rows: 2, sampling: ["3", 0] }
  const failed = (id) => ({
    prompt: [1, "", { 10: { class_type: "Sweep", inputs } }, { extra_pnginfo: { workflow: { id } } }],
    status: { messages: [["execution_error", { node_id: "10" }]] },
  })
  const holding = (rows) => {
    const widgets = [{ name: "rows", value: rows }, { name: "sampling", value: "" }, { name: "newer", value: 1 }]
    return { id: "w", getNodeById: () => ({ comfyClass: "Sweep", widgets }) }
  }
  assert.deepEqual(lastError({ a: failed(ZEROS) }, holding(2)), { node_id: "10", values: inputs })
  assert.equal(lastError({ a: failed(ZEROS) }, holding(3)), null)
  assert.deepEqual(lastError({ a: failed("w") }, holding(3)), { node_id: "10", values: inputs })
})

test("a node gets its output where it is of that kind and the page keeps none", () => {
  const root = { getNodeById: (id) => root.nodes.find((node) => String(node.id) === id) ?? null, nodes: [] }
  const inner = { id: "inner", getNodeById: (id) => (id === "4" ? inside : null) }
  const inside = { id: 4, comfyClass: "Sweep", graph: inner }
  root.nodes = [{ id: 10, comfyClass: "Sweep", graph: root }, { id: 11, comfyClass: "Other", graph: root }, { id: 12, subgraph: inner, graph: root }]
  const found = new Map(["10", "11", "12:4", "99"].map((id) => [id, { kind: "Sweep", output: id }]))
  const ids = (kept) => missing(root, kept, found, ({ comfyClass }) => comfyClass === "Sweep").map(([, id]) => id)
  assert.deepEqual(ids({}), ["10", "12:4"])
  assert.deepEqual(ids({ 10: {} }), ["12:4"])
  assert.equal(locatorOf(inside, root), "inner:4")
  assert.deepEqual(ids({ "inner:4": {} }), ["10"])
  assert.deepEqual(missing(root, {}, found, () => false), [])
})

test("what is shown again is known as such, and only while it is given", () => {
  const seen = []
  restoring(() => seen.push(isRestoring()))
  assert.throws(() => restoring(() => { throw new Error("a node's own") }))
  assert.deepEqual([...seen, isRestoring()], [true, false])
})
