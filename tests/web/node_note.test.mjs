// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { isNamed } from "../../web/node_note.mjs"

test("a widget is named by its name or by its words, and not by a part of another's", () => {
  const sentence = "The learning rate 0.05 is 25 times what a probe finds: set it to 0. Or any_rate in Slider Train Options."
  assert.ok(isNamed(sentence, "learning_rate"))
  assert.ok(isNamed(sentence, "any_rate"))
  for (const other of ["rate_of_learning", "steps", "learn", "name"]) assert.ok(!isNamed(sentence, other), other)
})
