// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { axisEnd, canFinish, curveSvg, isAbout, isRunning, lost, nextName, nodeAt, otherWords, remembered, stepWords, stillPreparing, stripPath, timeWords, trainOnWords, trainsOther } from "../../web/live.mjs"

const graph = (nodes) => ({ getNodeById: (id) => nodes[id] ?? null })
const state = { phase: "training", step: 12, until: 300, seconds: 35.2, run: 4, name: "smile" }
const points = (svg, side) => [...svg.matchAll(new RegExp(`<polyline class="${side}" points="([^"]*)"`, "g"))].map((m) => m[1])

test("a node is found by the id of its execution, through subgraphs", () => {
  const inner = { id: 6 }
  const root = graph({ 6: { id: "outer" }, 12: { subgraph: graph({ 3: { subgraph: graph({ 6: inner }) } }) } })
  assert.equal(nodeAt(root, "12:3:6"), inner)
  assert.equal(nodeAt(root, "6").id, "outer")
  assert.equal(nodeAt(root, 6).id, "outer")
  for (const id of ["7", "12:9:6", "6:1", ""]) assert.equal(nodeAt(root, id), null)
})

test("a node of another graph with the same id is about another slider", () => {
  assert.ok(isAbout({ widgets: [{ name: "name", value: "smile" }] }, state))
  assert.ok(!isAbout({ widgets: [{ name: "name", value: "frown" }] }, state))
  assert.ok(!isAbout({}, state))
  assert.ok(isAbout({ widgets: [{ name: "name", value: "" }] }, state))
  assert.ok(isAbout({}, { ...state, graph: "g" }, "g"))
  assert.ok(isAbout({ widgets: [{ name: "name", value: "smile" }] }, { ...state, graph: "g" }, "h"))
  assert.ok(!isAbout({ widgets: [{ name: "name", value: "" }] }, { ...state, graph: "g" }, "h"))
  const none = "00000000-0000-0000-0000-000000000000" // of a graph that came from an API file
  assert.ok(!isAbout({ widgets: [{ name: "name", value: "frown" }] }, { ...state, graph: none }, none))
  assert.ok(isAbout({ widgets: [{ name: "name", value: "" }] }, { ...state, graph: none }, none))
  assert.ok(isAbout({ inputs: [{ name: "name", link: 3 }], widgets: [{ name: "name", value: "frown" }] }, state))
  assert.ok(!isAbout({ inputs: [{ name: "name", link: null }], widgets: [{ name: "name", value: "frown" }] }, state))
})

test("a training that has ended is not taken for that of the slider that a run would train", () => {
  const ended = { ...state, phase: "stopped" }
  assert.equal(otherWords(ended, "grin"), "This is smile; a run trains grin.")
  for (const [shown, next] of [[ended, "smile"], [ended, null], [state, "grin"], [{ ...ended, name: "" }, "grin"]]) assert.equal(otherWords(shown, next), "")
})

test("step and time are told in words", () => {
  assert.equal(stepWords(state), "step 12 of 300, 35 s left")
  assert.equal(stepWords({ ...state, at_most: true }), "step 12 of at most 300, at least 35 s left")
  assert.equal(stepWords({ ...state, seconds: null }), "step 12 of 300", "before there is a pace")
  assert.equal(stepWords({ ...state, phase: "drawing" }), "step 12 of 300, drawing the strip")
  assert.equal(stepWords({ ...state, phase: "calibrating" }), "step 12 of 300, calibrating")
  assert.equal(stepWords({ ...state, phase: "stopped" }), "step 12 of 300, stopped")
  assert.equal(stepWords({ ...state, phase: "done" }), "step 12 of 300, finished early")
  assert.equal(stepWords({ ...state, phase: "done", step: 300 }), "step 300, done")
  assert.deepEqual([0.4, 99, 100, 5999, 6000].map(timeWords), ["0 s left", "99 s left", "2 min left", "100 min left", "1.7 h left"])
  assert.deepEqual(["training", "calibrating", "done", "failed"].map((phase) => isRunning({ phase })), [true, true, false, false])
})

test("a training that has ended can be trained on, unless no step would mend it", () => {
  assert.equal(trainOnWords({ phase: "done", more: 90 }), "train on: 90 steps")
  assert.equal(trainOnWords({ phase: "stopped", more: 0 }), "train on")
  for (const state of [{ phase: "done", more: null }, { phase: "done" }, { phase: "training", more: 90 }, { phase: "failed", more: 0 }])
    assert.equal(trainOnWords(state), null)
})

test("train on names its slider and is offered for no other one", () => {
  const done = { phase: "done", more: 90, name: "light two" }
  assert.equal(trainOnWords(done), "train on light two: 90 steps")
  assert.equal(trainOnWords(done, "light two"), "train on light two: 90 steps")
  assert.equal(trainOnWords(done, "age"), null)
})

test("the slider that a node would train is its name, else the folder's, else unknown", () => {
  const train = (name, folder, { kind = "LoadSliderDataset", link = null, folderLink = null } = {}) => ({
    widgets: [{ name: "name", value: name }],
    inputs: [{ name: "model" }, { name: "dataset" }, { name: "name", link }],
    getInputNode: (slot) => (slot === 1 ? { comfyClass: kind, widgets: [{ name: "folder", value: folder }], inputs: [{ name: "folder", link: folderLink }] } : null),
  })
  assert.equal(nextName(train(" mine ", "light two")), "mine")
  for (const [folder, name] of [["light two", "light two"], ["demo: smile", "smile"], ["a/b/age.json", "age"], ["sets/v1.5/", "v1"], [".hid", ".hid"]])
    assert.equal(nextName(train("", folder)), name)
  assert.equal(nextName(train("", "x", { kind: "SliderBucket" })), null)
  assert.equal(nextName(train("mine", "x", { link: 3 })), null)
  assert.equal(nextName(train("", "x", { folderLink: 3 })), null)
  assert.equal(nextName({}), null)

  assert.ok(trainsOther([train("", "odd one"), train("mine", "x")], "age"))
  assert.ok(!trainsOther([train("", "odd one"), train("age", "x")], "age"))
  assert.ok(!trainsOther([train("", "odd one"), train("mine", "x", { link: 3 })], "age")) // nobody knows
  assert.ok(!trainsOther([train("", "")], "age")) // no set yet
  assert.ok(!trainsOther([], "age"))
  assert.ok(!trainsOther([train("", "odd one")], undefined))
})

test("the curve's axis ends with the training, or a little beyond what is done while its end is open", () => {
  const open = { until: 1500, at_most: true }
  assert.deepEqual([0, 30, 150, 400, 1400].map((step) => axisEnd({ ...open, step })), [180, 180, 210, 510, 1500])
  assert.equal(axisEnd({ step: 30, until: 240, at_most: false }), 240)
  assert.equal(axisEnd({ ...open, step: 3, until: 100 }), 100)
  assert.deepEqual(["training", "drawing", "calibrating", "done", "stopped"].map((phase) => canFinish({ phase })), [true, true, false, false, false])
})

test("another strip has another address", () => {
  const strip = { filename: "slider_live_12_6.jpg", subfolder: "", type: "temp", step: 50 }
  const path = stripPath({ run: 4, strip })
  assert.equal(path, "/view?filename=slider_live_12_6.jpg&subfolder=&type=temp&v=4-50")
  assert.notEqual(stripPath({ run: 5, strip }), path)
  assert.notEqual(stripPath({ run: 4, strip: { ...strip, step: 100 } }), path)
  assert.equal(stripPath({ run: 4, strip: null }), "")
})

test("a curve runs from left to right and up with the share", () => {
  const svg = curveSvg([[20, 0.0, 0.1], [40, 0.1, 0.05], [80, 0.2, -0.1]], 100, ["20 %", "-10 %"])
  const [plus] = points(svg, "plus").map((line) => line.split(" ").map((p) => p.split(",").map(Number)))
  assert.equal(plus.length, 3)
  const [[x0, y0], [x1], [x2, y2]] = plus
  assert.ok(x0 < x1 && x1 < x2 && y2 < y0)
  assert.ok(Math.abs((x2 - x1) / (x1 - x0) - 2) < 0.02)
  assert.match(svg, />plus 20 %</)
  assert.match(svg, />minus -10 %</)
  assert.doesNotMatch(curveSvg([[20, 0.1, 0.0]], 100, ["10 %"]), />minus/, "a one-way slider has one side")
  assert.match(svg, /step 100</)
  assert.match(svg, />20 %</)
  assert.match(curveSvg([[20, 0.007, -0.003]], 100), />-0\.3 %</, "small shares have a decimal")
})

test("every training can be drawn", () => {
  for (const explained of [[], [[1, 0.1, -0.1]], [[20, null, null]], [[20, 0, 0], [40, null, -50]], [[20, 0.1, 0.1], [20, 0.1, 0.1]]]) {
    const svg = curveSvg(explained, 1)
    assert.ok(svg.startsWith("<svg") && svg.endsWith("</svg>"))
    assert.doesNotMatch(svg, /NaN|Infinity|undefined|null/)
  }
  assert.equal(points(curveSvg([[20, 0.1, null], [40, 0.2, null]], 40), "minus").length, 0)
  const box = [...curveSvg([[20, -90, 0.1], [40, 0.2, 0.2]], 40).matchAll(/c[xy]="([\d.-]+)"/g)].map((m) => Number(m[1]))
  assert.ok(box.every((v) => v >= 0 && v <= 300))
})

test("what a preparation has said is shown to a page that comes later, unless its training has begun meanwhile", () => {
  const [six, seven] = [{ node: "6", text: "encoded" }, { node: "7", text: "encoding image 1 of 4" }]
  const [old, next] = [{ ...state, node: "6", run: 3 }, { ...state, node: "6" }]
  const before = new Map([["6 smile", old]])
  assert.deepEqual(stillPreparing([six, seven], before, new Map(before)), [six, seven])
  assert.deepEqual(stillPreparing([six, seven], before, new Map([["6 smile", next]])), [seven])
  assert.deepEqual(stillPreparing([six], new Map(), new Map([["6 age", next]])), [])
})

test("a training that its restarted ComfyUI does not know is shown as stopped, and no other one", () => {
  const stopped = lost({ ...state, at_most: true }, [{ ...state, run: 5 }])
  assert.equal(stepWords(stopped), "step 12 of at most 300, stopped")
  assert.match(stopped.verdict, /restarted/)
  assert.ok(!isRunning(stopped) && !canFinish(stopped) && trainOnWords(stopped) === null)
  assert.equal(lost(state, [state]), null)
  assert.equal(lost({ ...state, phase: "done" }, []), null)
  assert.equal(lost(null, []), null)
  assert.equal(lost(undefined, []), null)
})

test("after a restart the page knows what ended before it, and what was cut off, the newest first", () => {
  const done = { node: "6", graph: "g", name: "smile", run: 4, phase: "done", verdict: "Works." }
  const cut = { ...done, node: "7", run: 5, phase: "training" }
  const [first, second, ...more] = remembered(new Map([["6 smile", done], ["7 smile", cut]]).values(), [])
  assert.equal(first.phase, "stopped")
  assert.match(first.verdict, /restarted/)
  assert.equal(second, done)
  assert.deepEqual(more, [])
  assert.deepEqual(remembered([done], [{ ...done, run: 9 }]), [])
  assert.deepEqual(remembered([done], [{ ...done, name: "age" }]), [done])
})
