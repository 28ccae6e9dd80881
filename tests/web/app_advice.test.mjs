// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { adviceIn, inGraph, nodeTypes, shownInApp } from "../../web/app_advice.mjs"

const named = (sentence, here) => inGraph(sentence, here).match(/: (.*)\.$/)?.[1].split(", ") ?? []

test("what an App does not show is said to be in the graph", () => {
  assert.deepEqual(named("Look at the pairs, raise the rank, or add layers."), ["rank", "layers"])
  assert.deepEqual(named("Train anew at the learning rate 0, a probe's"), ["learning rate", "old_name"])
  assert.deepEqual(named("set steps above 40, or any_rate in Slider Train Options"), ["learning rate", "steps", "Slider Train Options"])
})

test("of the details only what names a node of options is advice", () => {
  const rate = "Works on both sides.\nLearning rate 0.0049, found by a probe."
  const small = `${rate} 4 of 8 images are smaller. Use larger files, or set a lower resolution in Slider Train Options.`
  assert.deepEqual(named(adviceIn(rate)), [])
  assert.deepEqual(named(adviceIn(small)), ["Slider Train Options"])
  assert.deepEqual(named(adviceIn("Raise the rank.\nplus 3 %")), ["rank"])
})

test("a node of options that the graph lacks is to be added", () => {
  const sentence = "Use larger files, or set a lower resolution in Slider Train Options."
  assert.match(inGraph(sentence, [], ["SliderTrainStep"]), /drag from options of Slider Train Step and add Slider Train Options\.$/)
  assert.deepEqual(named(sentence, undefined), ["Slider Train Options"])
  assert.match(inGraph(sentence, [], ["SliderTrainOptions"]), /to change: Slider Train Options\.$/)
  assert.match(inGraph(`Raise the rank. ${sentence}`, [], []), /to change: rank\. There, drag from options/)
  assert.deepEqual(nodeTypes({ nodes: [{ comfyClass: "A", subgraph: { nodes: [{ type: "B" }] } }] }), ["A", "B"])
})

test("what an App shows or has a button for is not", () => {
  assert.deepEqual(named("learning_rate 0.5 is too high", ["learning_rate"]), [])
  assert.deepEqual(named("To save it all the same, switch force on.", ["force"]), [])
})

test("a sentence that advises nothing of the kind says nothing more", () => {
  for (const sentence of ["Works on both sides", "step 12 of 12. Too weak yet: about 120 more steps.", "Saved models/loras/a.safetensors"])
    assert.equal(inGraph(sentence), "")
})

test("the inputs of an App are those in its workflow", () => {
  assert.deepEqual(shownInApp({ extra: { linearData: { inputs: [["2", "folder"], ["5", "live", { height: 200 }]] } } }), ["folder", "live"])
  assert.deepEqual(shownInApp({ extra: {} }), [])
})
