import assert from "node:assert/strict"
import { test } from "node:test"
import { refusedOf } from "../../web/refused.mjs"

const fault = (input, sentence) => ({ type: "custom_validation_failed", details: `${input} - ${sentence}`, extra_info: { input_name: input } })

test("the sentence of a node is had without the input that ComfyUI puts before it", () => {
  const { sentence, inputs } = refusedOf([fault("strengths", 'Strength "-2 to 2" - is not a number')])
  assert.equal(sentence, 'Strength "-2 to 2" - is not a number')
  assert.deepEqual(inputs, ["strengths"])
})

test("one sentence about several inputs is said once, and every one of them can mend it", () => {
  const { sentence, inputs } = refusedOf([fault("lowest", "must be below"), fault("highest", "must be below")])
  assert.equal(sentence, "must be below")
  assert.deepEqual(inputs, ["lowest", "highest"])
})

test("what ComfyUI finds itself is left to it", () => {
  assert.equal(refusedOf([{ type: "value_not_in_list", details: "file: 'x' not in []", extra_info: { input_name: "file" } }]), null)
  assert.equal(refusedOf([]), null)
  assert.equal(refusedOf([{ type: "custom_validation_failed", details: "strengths", extra_info: { input_name: "strengths" } }]), null)
})
