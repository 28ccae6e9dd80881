// The scrubber's numbers. Run by tests/core/test_web.py, or by hand: node --test tests/web

import assert from "node:assert/strict"
import test from "node:test"
import {
  applyTargets, between, clamped, framed, fromShare, isBeyond, keyed, label, nearest, ordered, readSweep, rounded, spoken, toShare,
} from "../../web/scrubber.mjs"

const UNEVEN = [-2, -0.5, 0, 3]

test("strengths come in rising order, each once, and only numbers", () => {
  assert.deepEqual(ordered([2, -1, 0, 0, NaN, 1]), [1, 2, 5, 0])
  assert.deepEqual(ordered([1]), [0])
  assert.deepEqual(ordered([]), [])
})

test("the nearest frame is nearest by strength, not by place", () => {
  assert.equal(nearest(UNEVEN, 1.4), 2)
  assert.equal(nearest(UNEVEN, 1.6), 3)
  assert.equal(nearest(UNEVEN, -99), 0)
  assert.equal(nearest([7], 0), 0)
})

test("a share of the way and back", () => {
  for (const value of [-2, -0.5, 0, 0.75, 3]) assert.equal(fromShare(UNEVEN, toShare(UNEVEN, value), true), value)
  assert.equal(fromShare(UNEVEN, 0.5), 0)
  assert.equal(fromShare(UNEVEN, -1), -2)
  assert.equal(fromShare(UNEVEN, 2), 3)
})

test("one strength alone stays where it is", () => {
  assert.equal(toShare([1], 1), 0.5)
  assert.equal(fromShare([1], 0.9, true), 1)
  assert.deepEqual(between([1], 5), { low: 0, high: 0, share: 0 })
  assert.equal(keyed([1], 1, "ArrowRight"), 1)
})

test("two frames and the share of the upper, at and past both ends", () => {
  assert.deepEqual(between(UNEVEN, 1.5), { low: 2, high: 3, share: 0.5 })
  assert.deepEqual(between(UNEVEN, -0.5), { low: 1, high: 2, share: 0 })
  assert.deepEqual(between(UNEVEN, 9), { low: 2, high: 3, share: 1 })
  assert.deepEqual(between(UNEVEN, -9), { low: 0, high: 1, share: 0 })
  assert.equal(clamped(UNEVEN, 9), 3)
})

test("arrows go frame by frame and stop at both ends; Home and End jump", () => {
  assert.equal(keyed(UNEVEN, 0, "ArrowRight"), 3)
  assert.equal(keyed(UNEVEN, 3, "ArrowUp"), 3)
  assert.equal(keyed(UNEVEN, 0, "ArrowLeft"), -0.5)
  assert.equal(keyed(UNEVEN, -2, "ArrowDown"), -2)
  assert.equal(keyed(UNEVEN, 0, "Home"), -2)
  assert.equal(keyed(UNEVEN, 0, "End"), 3)
  assert.equal(keyed(UNEVEN, 0, "PageUp"), 3)
  assert.equal(keyed(UNEVEN, 0, "a"), null)
  assert.equal(keyed(UNEVEN, 0, "toString"), null)
})

test("in a cross-fade arrows go a tenth of a frame", () => {
  assert.equal(keyed([-1, 0, 1], 0, "ArrowRight", true), 0.1)
  assert.equal(keyed([-1, 0, 1], 0.95, "ArrowRight", true), 1)
  assert.equal(keyed([-1, 0, 1], 0.1, "ArrowLeft", true), 0)
})

test("64 frames are walked from end to end", () => {
  const strengths = Array.from({ length: 64 }, (_, i) => rounded(-2 + (4 * i) / 63))
  let value = strengths[0]
  for (let i = 1; i < 64; i++) value = keyed(strengths, value, "ArrowRight")
  assert.equal(value, 2)
})

test("a strength is written with its sign and spoken with its end", () => {
  assert.deepEqual([1, 0, -0, -0.5, 0.1 + 0.2].map(label), ["+1", "0", "0", "-0.5", "+0.3"])
  assert.equal(spoken(1, { plus: "smiling" }), "+1, towards smiling")
  assert.equal(spoken(-1, { plus: "smiling" }), "-1")
  assert.equal(spoken(0, { plus: "smiling", minus: "sad" }), "0")
})

test("a strength beyond the useful range is said to be, and none where no range is known", () => {
  const sweep = { strengths: [-2, 2], rows: [{ name: "", frames: ["a", "b"] }] }
  const { useful } = readSweep({ ...sweep, useful: { range: [-1, 1.04], beyond: "beyond the useful range -1.0 to +1.0" } })
  assert.deepEqual([-2, -1, 0, 1.04, 1.1].map((value) => isBeyond(value, useful)), [true, false, false, false, true])
  assert.equal(spoken(2, { plus: "smiling" }, useful), "+2, towards smiling, beyond the useful range -1.0 to +1.0")
  assert.equal(spoken(1, {}, useful), "+1")
  for (const none of [undefined, null, {}, { range: [1] }, { range: ["x", 1] }]) {
    assert.equal(readSweep({ ...sweep, useful: none }).useful, null)
    assert.equal(isBeyond(2, readSweep({ ...sweep, useful: none }).useful), false)
  }
})

test("what the server sends is put in order, and anything else is no sweep", () => {
  const found = readSweep({ strengths: [1, -1], minus: "sad", rows: [{ name: "seed 0", frames: ["b", "a"] }, { frames: ["x"] }] })
  assert.deepEqual(found.strengths, [-1, 1])
  assert.deepEqual(found.rows, [{ name: "seed 0", frames: ["a", "b"] }])
  assert.deepEqual(found.ends, { minus: "sad", plus: "" })
  for (const wrong of [null, undefined, 3, {}, { strengths: [1], rows: [] }, { strengths: [], rows: [{ frames: [] }] }])
    assert.equal(readSweep(wrong), null)
})

test("a strength goes to the selected Apply nodes, else to the one fed by the same slider", () => {
  const apply = (id, slider, selected = false) => ({ id, slider, selected })
  const ids = (found) => [found.targets.map((t) => t.id), found.why]
  assert.deepEqual(ids(applyTargets([apply(1, "6:0"), apply(2, "9:0")], "6:0")), [[1], ""])
  assert.deepEqual(ids(applyTargets([apply(1, "6:0"), apply(2, "9:0", true)], "6:0")), [[2], ""])
  assert.deepEqual(ids(applyTargets([apply(1, "6:0", true), apply(2, "6:0", true)], "6:0")), [[1, 2], ""])
  assert.deepEqual(ids(applyTargets([apply(1, "6:0"), apply(2, "6:0")], "6:0")), [[], "many"])
  assert.deepEqual(ids(applyTargets([apply(1, "")], "")), [[], "none"])
  assert.deepEqual(ids(applyTargets([], "6:0")), [[], "none"])
})

test("a film shows one frame after another by the clock, and begins anew at its end", () => {
  const film = { frames: 5, columns: 3, fps: 10 }
  const at = (now) => Object.values(framed(film, now, 96, 40))
  assert.deepEqual(at(0), [0, 0, 32, 20])
  assert.deepEqual(at(199), [32, 0, 32, 20])
  assert.deepEqual(at(300), [0, 20, 32, 20])
  assert.deepEqual(at(499), [32, 20, 32, 20])
  assert.deepEqual(at(500), at(0))
})

test("a sweep of clips says how its films are laid out, and one of pictures has none", () => {
  const sweep = { strengths: [0], rows: [{ name: "", frames: ["a"] }] }
  assert.equal(readSweep(sweep).film, null)
  assert.deepEqual(readSweep({ ...sweep, film: { frames: 8, columns: 3, fps: 16 } }).film, { frames: 8, columns: 3, fps: 16 })
  for (const film of [{}, "x", { frames: 0, columns: 1, fps: 1 }, { frames: 8, columns: 3, fps: "fast" }])
    assert.equal(readSweep({ ...sweep, film }).film, null)
})
