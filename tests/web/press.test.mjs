import assert from "node:assert/strict"
import { test } from "node:test"

import { makeFold } from "../../web/dataset_fold.mjs"
import { makePress } from "../../web/press.mjs"

const sent = (target, type, more = {}) => target.dispatchEvent(Object.assign(new Event(type), more))
const turn = () => new Promise((done) => setTimeout(done))

/** A panel in a page, and whether it is in use. */
function panelIn(page) {
  const [element, classes] = [new EventTarget(), new Set()]
  element.classList = { add: (name) => classes.add(name), remove: (name) => classes.delete(name) }
  const fold = makeFold(element, makePress(page).released)
  return { element, fold, isInUse: () => classes.has("in-use") }
}

test("a folded panel does not unfold between the press of a button and its click", async () => {
  const page = new EventTarget()
  const { element, fold, isInUse } = panelIn(page)
  sent(page, "pointerdown", { button: 0 })
  sent(element, "focusin")
  assert.ok(!isInUse())
  sent(page, "pointerup")
  assert.ok(!isInUse(), "the click is yet to come")
  sent(page, "click")
  sent(element, "click")
  assert.ok(isInUse())
  await turn()
  fold()
  assert.ok(!isInUse())
})

test("the focus by a key, and files that are dragged over it, unfold it at once", () => {
  for (const way of ["focusin", "dragenter"]) {
    const { element, isInUse } = panelIn(new EventTarget())
    sent(element, way)
    assert.ok(isInUse(), way)
  }
})

test("a run that begins while a pointer is pressed folds it after the release", async () => {
  const page = new EventTarget()
  const { element, fold, isInUse } = panelIn(page)
  sent(element, "focusin")
  sent(page, "pointerdown", { button: 0 })
  fold()
  assert.ok(isInUse())
  sent(page, "pointerup")
  await turn()
  assert.ok(!isInUse())
})

test("what waits is done once, also where a press becomes a drag, or its release is not told", async () => {
  for (const [type, more] of [["pointerup"], ["pointercancel"], ["pointermove", { buttons: 0 }]]) {
    const page = new EventTarget()
    const { released } = makePress(page)
    let count = 0
    const act = () => count++
    sent(page, "pointerdown", { button: 0 })
    released(act)
    released(act)
    sent(page, "pointermove", { buttons: 1 })
    assert.equal(count, 0)
    sent(page, type, more)
    await turn()
    assert.equal(count, 1, type)
    released(act)
    assert.equal(count, 2)
  }
})

test("what a click does is done at once, and a menu's button waits for nothing", () => {
  const page = new EventTarget()
  const { released } = makePress(page)
  let count = 0
  sent(page, "pointerdown", { button: 2 })
  released(() => count++)
  sent(page, "pointerdown", { button: 0 })
  sent(page, "click")
  released(() => count++)
  assert.equal(count, 2)
})
