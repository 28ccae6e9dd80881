// The pairs of a dataset's folder as thumbnails, and the doctor's findings under them: elements made of a state, no network.

import { isShown } from "./dataset_files.mjs"
import { imageAt, lookWords, nameOf, newSetWords, SIDES, TITLES } from "./dataset_rows.mjs"
import { part } from "./dataset_style.mjs"

const CLIP = /\.(mp4|mov|webm|mkv)$/i

const keyOf = ({ side, row }) => `${side} ${row}`

/** The cell { side, row } that an element is; null for another. */
export function cellOf(element) {
  const [side, row] = (element.dataset.key ?? "").split(" ")
  return SIDES.includes(side) ? { side, row: Number(row) } : null
}

function picture(document, place, { listing, urlOf }) {
  const src = urlOf(place, listing.stamps?.[place] ?? "")
  if (CLIP.test(place)) return part(document, "video", { src, muted: "", preload: "metadata" })
  if (!isShown(nameOf(place))) return part(document, "span", {}, nameOf(place))
  return part(document, "img", { src, alt: "", loading: "lazy", decoding: "async", draggable: "false" })
}

/** A thumbnail, or an empty place; a click, Enter or a drag takes it up, puts down what was taken up, or asks for the image that lacks. */
function cell(document, state, actions, at, label) {
  const place = imageAt(state.table, at)
  const picked = state.picked && keyOf(state.picked) === keyOf(at)
  const name = place ? nameOf(place) : `empty, ${state.picked ? "put it here" : "choose, drop or paste its image"}`
  const made = part(
    document, "div",
    {
      class: `cell${place ? "" : " empty"}${picked ? " picked" : ""}`, role: "button", tabindex: "0", "data-side": at.side, "data-key": keyOf(at),
      "aria-pressed": String(Boolean(picked)), "aria-label": `${label}: ${name}`, title: name, draggable: place ? "true" : false,
    },
    place ? picture(document, place, state) : part(document, "span", {}, state.picked ? "put it here" : "drop or click"),
  )
  made.addEventListener("click", () => actions.pick(at))
  made.addEventListener("dragstart", (event) => actions.drag(event, at))
  made.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") actions.pick(at)
    else if ((event.key === "Delete" || event.key === "Backspace") && place) actions.remove([place])
    else return
    event.preventDefault()
  })
  return made
}

function button(document, text, label, action, disabled = false) {
  return part(document, "button", { type: "button", title: label, "aria-label": label, disabled: disabled ? "" : false, "data-key": label, on: { click: action } }, text)
}

function wordsUnder(document, words) {
  return words.length ? part(document, "div", { class: "words" }, ...words.map((text) => part(document, "p", {}, text))) : null
}

function pairRow(document, state, actions, row) {
  const pair = state.table.rows[row]
  const label = `Pair ${row + 1}`
  const words = state.words[row] ?? []
  const side = (name) => cell(document, state, actions, { side: name, row }, `${label}, ${TITLES[name]}`)
  const tools = part(
    document, "div", { class: "tools" },
    button(document, "↑", `${label} up`, () => actions.move(row, -1), row === 0),
    button(document, "↓", `${label} down`, () => actions.move(row, 1), row === state.table.rows.length - 1),
    button(document, "✕", `Remove pair ${row + 1}`, () => actions.remove([pair.positive, pair.negative].filter(Boolean))),
  )
  const swap = button(document, "⇄", `Swap pair ${row + 1}`, () => actions.swap(row))
  swap.classList.add("swap")
  const said = wordsUnder(document, words)
  const number = part(document, "span", { class: "number" }, String(row + 1))
  return part(document, "div", { class: "row", role: "group", "aria-label": label }, number, side("positive"), swap, side("negative"), tools, said)
}

function neutralCells(document, state, actions) {
  if (!state.table.neutral.length) return []
  const cells = state.table.neutral.map((_, row) => cell(document, state, actions, { side: "neutral", row }, `Leave alone ${row + 1}`))
  return [part(document, "div", { class: "caption" }, "Leave alone: the slider must not change these."), part(document, "div", { class: "alone" }, ...cells)]
}

/** What the pair doctor says of all pairs. */
function doctor(document, { findings, examining, noted, table }, actions) {
  if (examining) return part(document, "div", { class: "doctor caption" }, "The pair doctor looks at the pairs.")
  if (!findings) return null
  if (findings.error) return findings.error === noted ? null : part(document, "div", { class: "doctor" }, part(document, "p", { class: "finding" }, findings.error))
  if (findings.waits) {
    const text = `Examine the pairs (${findings.waits} files)`
    return part(document, "div", { class: "doctor" }, button(document, text, text, () => actions.examine()))
  }
  const look = lookWords(table, findings.pairs, findings.of_all)
  const clean = !look && findings.pairs.length ? "Nothing found that would hurt." : ""
  const words = ["Pair doctor:", look, findings.summary, clean].filter(Boolean).join(" ")
  return part(
    document, "div", { class: "doctor" },
    part(document, "p", { class: look ? "summary finding" : "summary" }, words),
    ...findings.of_all.map((text) => part(document, "p", { class: "finding" }, text)),
  )
}

/** The pictures of the pairs, or of one of them, `band` [top, height]. `sheetUrl(file)` an address. */
function sheetOf(document, { findings, sheetUrl }, actions, band, key) {
  const [width, height] = findings.size
  const [top, high] = band ?? [0, height]
  const open = () => actions.open(sheetUrl(findings.sheet))
  const shown = part(document, "div", {
    class: "sheet", title: "Open the pictures of all pairs", tabindex: "0", role: "button", style: `aspect-ratio: ${width} / ${high}`,
    "aria-label": "more, less, what differs", "data-key": key, on: { click: open, keydown: (event) => event.key === "Enter" && open() },
  })
  shown.append(part(document, "img", { src: sheetUrl(findings.sheet), alt: "", draggable: "false", style: `top: ${(-100 * top) / high}%` }))
  return shown
}

/** The pictures of pairs, which the rows lack: what differs in them. Where there are no rows, each pair has what is said of it below. */
function sheets(document, state, actions) {
  const { findings, examining, editable } = state
  if (examining || !findings?.sheet) return []
  if (editable) return [sheetOf(document, state, actions, null, "sheet")]
  const columns = findings.pairs.length ? [part(document, "div", { class: "caption" }, "More, less, what differs:")] : []
  return columns.concat(findings.pairs.map(({ positive, band, words }, number) => {
    const name = part(document, "div", { class: "caption" }, positive)
    const picture = band ? sheetOf(document, state, actions, band, `sheet ${number}`) : name
    return part(document, "div", { class: "pair" }, picture, wordsUnder(document, words))
  }))
}

/** The children of the panel's list for a state. */
export function listed(document, state, actions) {
  if (state.naming) return [part(document, "p", { class: "fresh" }, newSetWords(state.name, state.listing.choices ?? [], state.folder))]
  const rows = state.table.rows.map((_, row) => pairRow(document, state, actions, row))
  const why = state.why && state.why !== state.noted && !state.findings?.error ? part(document, "div", { class: "caption" }, `${state.why} Drop your own images on the zones above.`) : null
  const paired = state.table.rows.some((row) => row.positive && row.negative)
  const order = paired && state.listing.by_name === false ? part(document, "div", { class: "caption" }, "Paired in the order of their names.") : null
  const pictures = sheets(document, state, actions)
  return [why, doctor(document, state, actions), order, ...rows, ...neutralCells(document, state, actions), ...pictures].filter(Boolean)
}
