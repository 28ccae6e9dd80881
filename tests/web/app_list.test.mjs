import assert from "node:assert/strict"
import { test } from "node:test"

import { showInApp } from "../../web/app_list.mjs"
import { freshType, isPanel } from "../../web/widget_type.mjs"

const page = (app) => ({ querySelector: () => (app ? {} : null) })
const shown = { closest: () => ({}) }
const held = { closest: () => null }

/** A node of three widgets: a panel, ComfyUI's own text and a number. */
function nodeWith(element) {
  return { widgets: [{ type: freshType("slider_live"), element }, { type: "customtext", element: held }, { type: "number" }] }
}

const typesAfter = (app, element) => {
  const node = nodeWith(element)
  const [before, list] = [node.widgets.map(({ type }) => type), node.widgets]
  showInApp(page(app), [node, {}])
  return { before, after: node.widgets.map(({ type }) => type), anew: node.widgets !== list }
}

test("a panel that the canvas holds gets a type that no widget had, and the page is told", () => {
  const { before, after, anew } = typesAfter(true, held)
  assert.match(after[0], /^slider_live_\d+$/)
  assert.notEqual(after[0], before[0])
  assert.deepEqual(after.slice(1), before.slice(1))
  assert.ok(anew)
})

test("nothing changes where the App shows the panel, and where there is no App", () => {
  for (const { before, after, anew } of [typesAfter(true, shown), typesAfter(false, held)]) {
    assert.deepEqual(after, before)
    assert.ok(!anew)
  }
})

test("the pack's panels are told from ComfyUI's own elements", () => {
  assert.deepEqual(nodeWith(held).widgets.map(isPanel), [true, false, false])
})
