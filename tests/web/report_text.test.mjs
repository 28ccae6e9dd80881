// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { makeReport } from "../../web/report_text.mjs"

function reporting() {
  const classes = new Set()
  const classList = { contains: (name) => classes.has(name), toggle: (name, on) => (on ? classes.add(name) : classes.delete(name)) }
  const element = { textContent: "", classList }
  return { report: makeReport(element), seen: () => [element.textContent, classes.has("waiting")] }
}

test("the report of the run before is dimmed until the node has its own, or was left out", () => {
  const { report, seen } = reporting()
  report.say("Saved mixed")
  report.dim(true)
  assert.deepEqual(seen(), ["Saved mixed", true])
  report.say("Saved mixed", true)
  assert.deepEqual(seen(), ["Saved mixed", true], "what the page gives again is not of this run")
  report.say("Saved brief")
  assert.deepEqual(seen(), ["Saved brief", false])
  report.dim(true)
  report.dim(false)
  assert.deepEqual(seen(), ["Saved brief", false])
})

test("under the error of a node no older report stands, until it has a new one", () => {
  const { report, seen } = reporting()
  report.say("Saved brief")
  report.dim(true)
  report.fail()
  assert.deepEqual(seen(), ["", false])
  report.say("Saved brief", true)
  assert.deepEqual(seen(), ["", false], "nor when the page gives it again")
  report.dim(true)
  report.dim(false)
  report.say("Saved brief", true)
  assert.deepEqual(seen(), ["", false], "nor after a run that did not come so far")
  report.say("Saved noeff")
  assert.deepEqual(seen(), ["Saved noeff", false])
  report.say("Saved other", true)
  assert.deepEqual(seen(), ["Saved other", false])
})

test("what was shown before is shown again where nothing runs", () => {
  const { report, seen } = reporting()
  report.say("Saved brief", true)
  assert.deepEqual(seen(), ["Saved brief", false])
})
