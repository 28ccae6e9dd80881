// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { inQueue, makeQueued } from "../../web/asked.mjs"
import { keptMap } from "../../web/kept.mjs"

function storage() {
  const items = new Map()
  return { getItem: (key) => items.get(key) ?? null, setItem: (key, value) => items.set(key, value) }
}
const queuedIn = (tab) => makeQueued(keptMap(tab, "queued", 9))

test("a training that was queued is known from the press on, after a reload too", async () => {
  const tab = storage()
  const queued = queuedIn(tab)
  let answer
  const asking = queued.ask("g 6 smile", () => new Promise((resolve) => (answer = resolve)))
  assert.ok(queued.has("g 6 smile"))
  answer("p")
  assert.equal(await asking, true)
  assert.ok(queued.has("g 6 smile"))
  assert.ok(!queued.has("h 6 smile"))
  assert.ok(queuedIn(tab).has("g 6 smile"))
  assert.deepEqual(queuedIn(tab).prompts(), ["p"])
})

test("what was refused, or went wrong, can be asked again", async () => {
  const queued = queuedIn(storage())
  assert.equal(await queued.ask("k", async () => ""), false)
  assert.ok(!queued.has("k"))
  await assert.rejects(queued.ask("k", async () => { throw new Error("no server") }))
  assert.ok(!queued.has("k"))
})

test("it waits until its own run trains, or until its prompt has left the queue", async () => {
  const queued = queuedIn(storage())
  await queued.ask("k", async () => "p")
  await queued.ask("l", async () => "q")
  queued.begun("k", "of a job before")
  assert.ok(queued.has("k"))
  queued.begun("k", "p")
  assert.ok(!queued.has("k"))
  const withdrawn = []
  const withdraw = async (key) => withdrawn.push(key)
  assert.equal(await queued.left(["p"], withdraw), false)
  assert.equal(await queued.left(["q", "r"], withdraw), true)
  assert.deepEqual(withdrawn, ["l"])
  assert.ok(!queued.has("l"))
  await queued.ask("k", async () => "s")
  queued.begun("k", "") // a page that was loaded meanwhile
  assert.ok(!queued.has("k"))
})

test("a training that is asked for again does not end with its former prompt", async () => {
  const queued = queuedIn(storage())
  await queued.ask("k", async () => "p")
  let answer
  const asking = queued.ask("k", () => new Promise((resolve) => (answer = resolve)))
  assert.equal(await queued.left(["p"], () => assert.fail("it was asked again")), false)
  answer("q")
  await asking
  assert.ok(queued.has("k"))
})

test("it waits until its request is taken back, so that no new one is taken back with it", async () => {
  const queued = queuedIn(storage())
  await queued.ask("k", async () => "p")
  let answer
  const leaving = queued.left(["p"], () => new Promise((resolve) => (answer = resolve)))
  assert.ok(queued.has("k"))
  answer()
  assert.equal(await leaving, true)
  assert.ok(!queued.has("k"))
})

test("the queue holds what runs and what waits", () => {
  assert.deepEqual(inQueue({ queue_running: [[1, "a", {}]], queue_pending: [[2, "b", {}], [3, "c", {}]] }), ["a", "b", "c"])
  assert.deepEqual(inQueue({}), [])
})
