// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { backWhenQueued, onceWith } from "../../web/once.mjs"

const promptValue = (widget) => (widget.serializeValue ? widget.serializeValue() : widget.value) // as ComfyUI makes a prompt

test("a choice for one run is in its prompt and never in the widget", async () => {
  const widget = { value: "continue" }
  const queued = await onceWith(widget, "restart", async () => [promptValue(widget), widget.value])
  assert.deepEqual(queued, ["restart", "continue"])
  assert.equal(promptValue(widget), "continue")
  assert.ok(!("serializeValue" in widget))
})

test("a choice for one run is over too where that could not be queued", async () => {
  const own = () => "own"
  const widget = { value: false, serializeValue: own }
  const fails = async () => { throw new Error("no server") }
  await assert.rejects(onceWith(widget, true, fails))
  assert.equal(widget.serializeValue, own)
})

test("restart is back at continue as soon as its run is queued, and only restart", () => {
  const calls = []
  const widget = { value: "restart", afterQueued: () => calls.push("before") }
  backWhenQueued(widget, "restart", "continue", (one, value) => { calls.push(value); one.value = value })
  widget.afterQueued()
  widget.afterQueued()
  assert.equal(widget.value, "continue")
  assert.deepEqual(calls, ["before", "continue", "before"])
})
