// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { keptMap } from "../../web/kept.mjs"
import { makeRuns } from "../../web/runs.mjs"

const ZEROS = "00000000-0000-0000-0000-000000000000"

function storage() {
  const items = new Map()
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) }
}

test("a run is of the workflow that queued it, after a reload too", () => {
  const tab = storage()
  makeRuns(keptMap(tab, "runs", 9)).add("p", "one")
  const runs = makeRuns(keptMap(tab, "runs", 9))
  assert.equal(runs.isOf("p", "one"), true)
  assert.equal(runs.isOf("p", "two"), false)
})

test("of a run that somebody else queued, and of a graph without an id, nothing is known", () => {
  const runs = makeRuns(keptMap(storage(), "runs", 9))
  runs.add("p", ZEROS)
  runs.add("q", "one")
  runs.add(undefined, "one")
  for (const [prompt, graph] of [["p", "one"], ["q", ZEROS], ["q", undefined], ["r", "one"], ["", "one"], [undefined, "one"]])
    assert.equal(runs.isOf(prompt, graph), null)
})

test("the newest are kept, and what is set again is new", () => {
  const map = keptMap(storage(), "closed", 2)
  for (const name of ["a", "b", "a", "c"]) map.set(name, name)
  assert.deepEqual(["a", "b", "c"].map(map.has), [true, false, true])
  map.delete("a")
  assert.ok(!map.has("a"))
})

test("where the browser stores nothing, or something else, the page keeps it", () => {
  const refuse = () => { throw new Error("forbidden") }
  for (const one of [undefined, { getItem: refuse, setItem: refuse }, { getItem: () => "{broken", setItem: refuse }]) {
    const map = keptMap(one, "closed", 2)
    map.set("a", "1")
    assert.equal(map.get("a"), "1")
    map.delete("a")
    assert.ok(!map.has("a"))
  }
})

test("where the browser has no room for more, the page goes by what it knows", () => {
  const tab = storage()
  const map = keptMap(tab, "closed", 9)
  map.set("a", "1")
  tab.setItem = () => { throw new Error("full") }
  map.set("b", "2")
  map.delete("a")
  assert.deepEqual(["a", "b"].map(map.has), [false, true])
})
