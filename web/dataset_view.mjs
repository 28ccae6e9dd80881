// The panel in Load Slider Dataset: a head with the set's name, three zones that take files, what happened, and the list of pairs.

import { bringsFiles, filesOf } from "./dataset_files.mjs"
import { makeFold } from "./dataset_fold.mjs"
import { SIDES, TITLES } from "./dataset_rows.mjs"
import { cellOf, listed } from "./dataset_rows_view.mjs"
import { STYLE, part } from "./dataset_style.mjs"
import { released } from "./press.mjs"
import { styleOnce } from "./style_once.mjs"

const HINTS = {
  positive: "More of the concept (positive)",
  negative: "Less of the concept (negative)",
  neutral: "What the slider must not change (neutral)",
}

/** A file dialog, opened by its click(); `take` is given what was chosen. */
function fileChooser(document, multiple, take) {
  const chooser = part(document, "input", { type: "file", multiple: multiple && "", hidden: "", tabindex: "-1", "aria-hidden": "true" })
  chooser.addEventListener("change", () => {
    take(Promise.resolve([...chooser.files].map((file) => ({ file, path: file.name }))))
    chooser.value = ""
  })
  chooser.addEventListener("click", (event) => event.stopPropagation())
  return chooser
}

function zone(document, side, actions) {
  const chooser = fileChooser(document, true, (files) => actions.take(side, files))
  const made = part(
    document, "div",
    { class: `zone ${side}`, role: "button", tabindex: "0", "data-side": side, "data-key": `zone ${side}`, title: HINTS[side], "aria-label": `${TITLES[side]}: choose, drop or paste images` },
    part(document, "b", {}, TITLES[side]), part(document, "span", {}, "drop or click"), chooser,
  )
  const choose = () => actions.pickZone(side) || chooser.click()
  made.addEventListener("click", choose)
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return
    event.preventDefault()
    choose()
  })
  return made
}

/** Files and thumbnails that are dragged over the panel; what falls beside the zones and cells goes to no side. */
function receive(element, actions) {
  let over = null
  const mark = (place) => {
    over?.classList.remove("over")
    over = place
    over?.classList.add("over")
  }
  const mine = (event) => bringsFiles(event.dataTransfer) || actions.dragging()
  element.addEventListener("dragover", (event) => {
    if (!mine(event)) return
    event.preventDefault()
    event.stopPropagation()
    mark(event.target.closest?.("[data-side]"))
  })
  element.addEventListener("dragleave", (event) => element.contains(event.relatedTarget) || mark(null))
  element.addEventListener("drop", (event) => {
    if (!mine(event)) return
    event.preventDefault()
    event.stopPropagation()
    const place = event.target.closest?.("[data-side]")
    mark(null)
    if (bringsFiles(event.dataTransfer)) actions.take(place?.dataset.side ?? null, filesOf(event.dataTransfer), place && cellOf(place))
    else actions.dropped(place)
  })
}

/** Keys and the wheel stay in the panel where they mean something in it: Delete must not delete the node. */
function keepEvents(element, list, actions) {
  element.addEventListener("keydown", (event) => {
    if (event.key === "Escape") actions.escape()
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation()
  })
  list.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && list.scrollHeight > list.clientHeight) event.stopPropagation()
    },
    { passive: true },
  )
}

function headOf(document, actions) {
  const title = part(document, "div", { class: "title" })
  const name = part(document, "input", { type: "text", placeholder: "name of your set", "aria-label": "Name of a new set of images", spellcheck: "false" })
  let typed = ""
  name.addEventListener("input", ({ inputType = "" }) => {
    // Chromium takes letters back at Ctrl+Z on the canvas too
    if (inputType.startsWith("history") && document.activeElement !== name) name.value = typed
    else actions.name(name.value)
  })
  name.addEventListener("keydown", (event) => event.key === "Enter" && actions.enter())
  const rename = part(document, "button", { type: "button", title: "Give this set another name", on: { click: () => actions.renaming() } }, "rename")
  const apply = part(document, "button", { type: "button", on: { click: () => actions.enter() } })
  const other = part(document, "button", { type: "button", on: { click: () => actions.naming() } })
  const show = (state) => {
    const away = state.naming || state.renaming
    const typing = !state.confirmed && (away || !state.editable)
    title.hidden = typing
    name.hidden = !typing
    typed = state.name
    if (name.value !== typed) name.value = typed
    const count = state.table.rows.filter((row) => row.positive && row.negative).length
    const alone = state.table.rows.length - count
    const pairs = `${state.folder}: ${count} ${count === 1 ? "pair" : "pairs"}${alone ? `, ${alone} without a partner` : ""}`
    title.textContent = state.naming ? `${state.name}: no images yet` : pairs
    title.classList.toggle("finding", alone > 0 && !state.naming)
    title.title = state.naming ? state.name : state.folder
    name.setAttribute("aria-label", state.renaming ? `New name of ${state.folder}` : "Name of a new set of images")
    rename.hidden = typing
    apply.hidden = !away || !typing
    apply.textContent = state.renaming ? "rename" : "ok"
    other.hidden = !away && !state.editable
    other.textContent = away ? "back" : "new set"
    other.title = away ? `Go on with ${state.folder}` : "Begin another set of images"
  }
  return { element: part(document, "div", { class: "head" }, title, name, rename, apply, other), focus: () => (name.hidden ? other : name).focus(), show }
}

function statusOf(document, actions) {
  const text = part(document, "span", { class: "text" })
  const undo = part(document, "button", { type: "button", on: { click: () => actions.undo() } }, "undo")
  const remove = part(document, "button", { type: "button", on: { click: () => actions.removePicked() } }, "remove it")
  const faults = part(document, "ul", { class: "faults", role: "alert" })
  const line = part(document, "div", { class: "status", role: "status" }, text, remove, undo)
  const show = (state) => {
    text.textContent = state.busy || (state.picked ? "Now choose where it goes, or Esc." : state.done)
    undo.hidden = !state.undo.length || Boolean(state.busy || state.picked || state.naming)
    remove.hidden = !state.picked
    line.hidden = !text.textContent && undo.hidden && remove.hidden
    faults.hidden = !state.faults.length
    faults.replaceChildren(...state.faults.map((fault) => part(document, "li", {}, fault)))
  }
  return { elements: [line, faults], show }
}

/** {element, render(state)}; `actions` are called with what a person does. */
export function makeView(document, actions) {
  styleOnce(document, "slider-dataset-style", STYLE)
  const head = headOf(document, actions)
  const zones = part(document, "div", { class: "zones" }, ...SIDES.map((side) => zone(document, side, actions)))
  const status = statusOf(document, actions)
  const list = part(document, "div", { class: "list", tabindex: "-1", "data-capture-wheel": "true" })
  let empty = null // the cell whose image is chosen
  const chooser = fileChooser(document, false, (files) => actions.take(empty.side, files, empty))
  const element = part(document, "div", { class: "slider-dataset" }, head.element, zones, ...status.elements, list, chooser)
  let scroll = 0 // which the page forgets when the panel goes to another node
  list.addEventListener("scroll", () => list.clientHeight && (scroll = list.scrollTop))
  receive(element, actions)
  keepEvents(element, list, actions)

  let latest = null
  function draw() {
    const state = latest
    const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null
    head.show(state)
    status.show(state)
    scroll = list.scrollTop || scroll
    list.replaceChildren(...listed(document, state, actions))
    list.scrollTop = scroll
    if (focused) element.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true })
  }

  const render = (state) => {
    latest = state
    released(draw) // a button that is drawn anew under a pressed pointer gets no click
  }

  let noted = null
  /** Put a note above the list, in place of the one before; null for none. */
  const place = (note) => {
    noted?.remove()
    noted = note
    if (note) list.before(note)
  }

  const choose = (cell) => {
    empty = cell
    chooser.click()
  }

  return { element, render, place, fold: makeFold(element, released), choose, focusHead: head.focus, focusZone: () => zones.firstChild.focus() }
}
