// What the panel of Load Slider Dataset does: it takes files, moves images, asks the pair doctor. The server and the node are given.

import { pastedName } from "./dataset_files.mjs"
import { makeIntake } from "./dataset_intake.mjs"
import { makePairing } from "./dataset_pairing.mjs"
import { addedWords, exchanged, freeCell, freeFolder, imageAt, isOnSide, joined, movesOf, nameOf, pairMoved, partnerOf, tableOf, waits, wordsOf } from "./dataset_rows.mjs"
import { cellOf } from "./dataset_rows_view.mjs"
import { isSameSet, makeSteps } from "./dataset_steps.mjs"
import { makeView } from "./dataset_view.mjs"

const EMPTY = { listing: { as_read: true }, table: tableOf({}), editable: false, why: "", words: [], findings: null, examining: false, picked: null }
const NOT_NAMING = { naming: false, confirmed: false, renaming: false, name: "" }
const REST_MS = 250 // after a letter of a caption
let dragged = null // { panel, at } while a thumbnail is dragged

/**
 * {element, show(), check() when the node may read its images otherwise, runs() when a run begins, ran(findings) of it, take(side, files, cell),
 * paste, moved() when its node was made anew, note(element, text), isChanged(), wanted()}. `server`: list, findings, move, rename, upload, fileUrl, open, changed, renamed.
 * `node`: folder(), frames(), reading() how the images are read as text, choices(list), choose(name, before), mended() when the images are others
 * than those that a run read.
 */
export function makePanel(document, server, node) {
  const state = { ...EMPTY, folder: "", wanted: "", noted: "", name: "", naming: false, confirmed: false, renaming: false, busy: "", done: "", faults: [], undo: [], urlOf: null, sheetUrl: server.fileUrl }
  let asked = 0 // the newest question to the doctor; answers to older ones are late
  let reading = "" // how the images are read that were asked about
  let running = null // how the run reads them
  let checking = 0 // timer
  let listed = 0 // the same of listings
  let notes = 0 // that have come
  let turn = 0 // sets that were chosen in the node, which nothing that still runs takes back
  let landed = { turn: -1, folder: "" } // where the files of a turn went last
  let work = Promise.resolve()
  let pasted = 0
  const steps = makeSteps()
  const pairing = makePairing()
  const self = {}

  state.urlOf = (place, stamp) => {
    const [side, filename] = [place.slice(0, place.indexOf("/")), nameOf(place)]
    return server.fileUrl({ filename, subfolder: state.listing.subfolders[side], type: "input", stamp })
  }
  const render = () => view.render(state)
  const intake = makeIntake(server, {
    say: (text) => {
      state.busy = text
      render()
    },
    fault: (text) => state.faults.push(text),
    limits: () => state.listing.limits,
    frames: node.frames,
  })

  /** One thing after the other; what goes wrong is said. */
  function run(action) {
    work = work.then(action).catch((fault) => state.faults.push(fault.message)).then(() => {
      state.busy = ""
      render()
    })
    return work
  }

  function adopt(listing) {
    listed++
    asked++
    const table = tableOf(listing)
    const words = isSameSet(state.listing, listing) ? state.words : wordsOf(table, []) // the rows stay where they are
    Object.assign(state, { listing, words, table, editable: Boolean(listing.editable), why: listing.why, folder: listing.folder, picked: null, findings: null, examining: false })
    state.wanted = listing.folder
    takeStep(steps.of(listing))
    node.choices(listing.choices)
    mend(listing)
    render()
    examine(false)
  }

  /** What can be taken back of the images that are shown, and what was said of it. */
  function takeStep(step) {
    if (step) state.done ||= step.done
    else if (state.undo.length) state.done = "" // others have changed the images since
    state.undo = step?.undo ?? []
  }

  /** The listing in an answer of the server. What it says of the last run is old where a note has come since it was asked for. */
  async function asking(answer) {
    const before = notes
    const { listing, ...more } = await answer.then((one) => (one.listing ? one : { listing: one }))
    return { ...more, listing: before === notes ? listing : { ...listing, as_read: null } }
  }

  const list = (folder) => asking(server.list(folder)).then(({ listing }) => listing)

  /** A note about the images goes when they are others than those that its run read, and only then. */
  function mend({ folder, as_read }) {
    if (as_read === false) node.mended()
    else if (as_read === null) list(folder).then((again) => folder === state.folder && mend(again), () => {})
  }

  async function examine(wanted) {
    const complete = state.table.rows.some((row) => row.positive && row.negative)
    if (!state.folder || (state.editable && !complete)) return
    const number = ++asked
    state.examining = true
    reading = node.reading()
    render()
    const findings = await server.findings(state.folder, wanted, reading).catch((fault) => ({ error: fault.message, pairs: [] }))
    if (number === asked) adoptFindings(findings)
  }

  function adoptFindings(findings) {
    Object.assign(state, { findings, examining: false, words: wordsOf(state.table, findings.pairs ?? []) })
    render()
  }

  /** Ask again when the images are read otherwise, once it has come to rest; of a large set only where somebody has asked before. */
  self.check = () => {
    clearTimeout(checking)
    checking = setTimeout(() => {
      if (state.listing !== EMPTY.listing && node.reading() !== reading) examine(state.findings?.waits === undefined)
    }, REST_MS)
  }

  self.runs = () => {
    view.fold()
    running = node.reading()
  }

  self.ran = (findings) => {
    if (findings.folder !== state.folder) return
    asked++
    reading = running ?? node.reading()
    adoptFindings(findings)
    self.check()
  }

  self.show = () => {
    const folder = node.folder()
    if (folder !== state.wanted) {
      turn++
      Object.assign(state, NOT_NAMING) // not before the first listing has come: a name may have been typed meanwhile
    }
    if (folder !== state.folder) Object.assign(state, { undo: [], done: "", faults: [] })
    const number = ++listed
    state.wanted = folder
    return list(folder).then((listing) => number === listed && adopt(listing), (fault) => {
      if (number !== listed) return
      Object.assign(state, EMPTY, { folder, faults: [fault.message] })
      render()
    })
  }

  async function move(folder, moves, done, isUndo = false) {
    if (!moves.length) return
    const { moved, listing } = await asking(server.move(folder, moves))
    const undo = isUndo ? [] : moved.map(([from, to]) => [to, from.startsWith("removed/") ? "removed" : from])
    steps.keep(listing, undo, done)
    if (folder !== state.wanted) return // another set was chosen meanwhile
    Object.assign(state, { undo, done })
    adopt(listing)
  }

  /** Pairs that only stand in the order of their names are told by a name of their own from now on. */
  function arrange(table, done) {
    const { folder } = state
    state.faults = []
    const named = state.listing.by_name ? "" : " The files of a pair have one name now."
    return run(() => move(folder, movesOf(table), done + named))
  }

  const here = () => ({ turn, folder: state.wanted, naming: state.naming, name: state.name })
  /** Where files go that were dropped at `place`: as the panel stands when their turn comes, unless another set was chosen meanwhile. */
  function placeOf(place) {
    if (place.turn === turn) return here()
    return place.turn === landed.turn ? { ...place, folder: landed.folder, naming: false } : place
  }

  async function receive(side, coming, dropped) {
    const { sides, name } = await intake.looked(side, coming)
    if (!Object.keys(sides).length) return
    const place = placeOf(dropped)
    const listing = await list(place.folder)
    const own = Boolean(listing.editable) && !place.naming
    const folder = own ? place.folder : freeFolder(place.name || name, listing.choices ?? [])
    const before = own ? tableOf(listing) : EMPTY.table
    const other = own && folder === dropped.folder ? await intake.replace(listing, before, sides, dropped.instead) : null
    if (other) return changed(move(folder, other.moves, other.words), folder)
    const beside = folder === dropped.folder && waits(before, dropped.beside) ? dropped.beside : null
    let table = before
    let [count, again] = [0, 0]
    for (const [key, files] of Object.entries(sides)) {
      const names = await intake.uploadSide(own ? listing.subfolders[key] : `${folder}/${key}`, key, files, table)
      const fresh = names.filter((name) => !isOnSide(table, key, name)).length
      table = joined(table, key, names, beside)
      count += fresh
      again += names.length - fresh
    }
    const made = own ? "" : ` The set is called ${folder}.`
    if (!(count + again)) return
    const now = await list(folder)
    const kept = pairing.come(folder, { before, joined: table, chosen: beside && count === 1 }, now)
    await settle(folder, `${addedWords(count, again)}${made}${await intake.keepPairs(folder, kept, now)}`, place.turn)
  }

  /** The folder as it is now, chosen in the node, unless another was chosen since turn `since`. */
  async function settle(folder, done, since) {
    const listing = await list(folder)
    landed = { turn: since, folder }
    steps.forget(folder)
    const before = state.wanted
    if (since === turn || folder === before) {
      Object.assign(state, { ...NOT_NAMING, undo: [], done })
      adopt(listing)
      node.choose(folder, before)
    } else {
      state.done = `${folder}: ${done}`
      node.choices(listing.choices)
    }
    server.changed(folder, self)
  }

  async function rename(folder, name, since) {
    if (name === nameOf(folder)) return Object.assign(state, { renaming: false, name: "" })
    state.faults = []
    const answer = await server.rename(folder, name)
    await settle(answer.folder, `The set is called ${answer.folder} now. A slider that takes its name from it begins anew.`, since)
    server.renamed(folder, answer.folder, self)
  }

  self.take = (side, coming, cell = null) => {
    Object.assign(state, { faults: [], done: "", picked: null })
    const isShown = state.folder === state.wanted // not another set's places
    const place = { ...here(), beside: cell && partnerOf(state.table, cell), instead: cell && isShown ? imageAt(state.table, cell) : null }
    return run(() => receive(side, coming, place))
  }

  self.paste = (side, files, cell) => {
    const named = files.map((file) => new File([file], pastedName(file.name, ++pasted), { type: file.type }))
    return self.take(side, Promise.resolve(named.map((file) => ({ file, path: file.name }))), cell)
  }

  const changed = (promise, folder = state.folder) => promise.then(() => server.changed(folder, self))

  function putDown(to) {
    const from = state.picked
    state.picked = null
    if (from.side === to.side && from.row === to.row) return render()
    changed(arrange(exchanged(state.table, from, to), `${nameOf(imageAt(state.table, from))} moved.`))
  }

  const actions = {
    take: self.take,
    pick(at) {
      if (state.picked) return putDown(at)
      if (!imageAt(state.table, at)) return view.choose(at)
      state.picked = at
      render()
    },
    pickZone(side) {
      if (!state.picked) return false
      putDown(freeCell(state.table, side))
      return true
    },
    escape() {
      if (!state.picked && !state.naming && !state.renaming) return
      if (state.picked) state.picked = null
      else Object.assign(state, { ...NOT_NAMING, faults: [] })
      render()
      view.focusHead()
    },
    drag(event, at) {
      if (!imageAt(state.table, at)) return
      event.dataTransfer.setData("text/plain", nameOf(imageAt(state.table, at)))
      event.dataTransfer.effectAllowed = "move"
      dragged = { panel: self, at }
      event.target.addEventListener("dragend", () => (dragged = null), { once: true })
    },
    dragging: () => dragged?.panel === self,
    dropped(element) {
      if (!element) return
      state.picked = dragged.at
      const cell = cellOf(element)
      if (cell) putDown(cell)
      else actions.pickZone(element.dataset.side)
    },
    swap: (row) => changed(arrange(exchanged(state.table, { side: "positive", row }, { side: "negative", row }), `Pair ${row + 1} swapped.`)),
    move: (row, by) => changed(arrange(pairMoved(state.table, row, by), `Pair ${row + 1} is pair ${row + 1 + by} now.`)),
    remove(places) {
      const { folder } = state
      const names = places.map(nameOf).join(", ")
      const { moves, words } = pairing.go(folder, state.table, places, state.listing.by_name)
      state.faults = []
      changed(run(() => move(folder, [...places.map((place) => [place, "removed"]), ...moves], `${names}: now in ${folder}/removed.${words}`)))
    },
    removePicked: () => actions.remove([imageAt(state.table, state.picked)]),
    undo() {
      const { folder, undo } = state
      state.faults = []
      changed(run(() => move(folder, undo, "Undone.", true)))
    },
    naming() {
      const begins = !state.naming && !state.renaming
      Object.assign(state, { ...NOT_NAMING, naming: begins, picked: null, faults: [], done: "" })
      render()
      view.focusHead()
    },
    renaming() {
      if (state.naming) state.confirmed = false
      else Object.assign(state, { renaming: true, name: nameOf(state.folder), faults: [], done: "" })
      render()
      view.focusHead()
    },
    enter() {
      const { folder, name } = state
      const since = turn
      if (state.renaming) return run(() => rename(folder, name.trim(), since))
      Object.assign(state, { naming: true, confirmed: true, name: freeFolder(state.name, state.listing.choices ?? []) })
      render()
      view.focusZone()
    },
    name(text) {
      state.name = text
      if (!state.renaming) Object.assign(state, { naming: true, picked: null })
      render()
    },
    examine: () => examine(true),
    open: server.open,
  }

  const view = makeView(document, actions)
  self.element = view.element
  self.folder = () => state.folder
  self.wanted = () => state.wanted
  self.isChanged = () => state.listing.as_read === false
  self.note = (note, text) => {
    notes++
    view.place(note)
    state.noted = text
    render()
    return () => {
      state.noted = ""
      render()
    }
  }
  self.moved = () => {
    view.place(null)
    state.noted = ""
  }
  render()
  return self
}
