// By hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { CUSTOM, afterEdit, values } from "../../web/slider_presets.mjs"

const presets = { custom: {}, quick: { steps: 100, ema: 0 }, careful: { steps: 600, ema: 0.99 } }

test("choosing a preset gives its values, and custom none", () => {
  assert.deepEqual(values(presets, "careful"), [["steps", 600], ["ema", 0.99]])
  assert.deepEqual([values(presets, CUSTOM), values(presets, "of another version"), values(undefined, "quick")], [[], [], []])
})

test("an edit of what a preset has set makes it custom", () => {
  assert.equal(afterEdit(presets, "quick", "steps", 101), CUSTOM)
  assert.equal(afterEdit(presets, "quick", "ema", 0.5), CUSTOM)
})

test("an edit of anything else, or to the same value, leaves it", () => {
  assert.equal(afterEdit(presets, "quick", "steps", 100), "quick")
  assert.equal(afterEdit(presets, "quick", "training_seed", 5), "quick")
  assert.equal(afterEdit(presets, CUSTOM, "steps", 7), CUSTOM)
})
