// What the panel of Load Slider Dataset does: it takes files, moves images, asks the pair doctor. The server and the node are given.

import { damage, maskOf, pastedName, refusal, sortedOut } from "./dataset_files.mjs"
import {
  addedWords, endingOf, exchanged, freeCell, freeFolder, imageAt, isOnSide, joined, movesOf, nameOf, pairMoved, samePairs, stemOf, tableOf, TITLES, uploadNames, without, wordsOf,
} from "./dataset_rows.mjs"
import { makeView } from "./dataset_view.mjs"

const LIMITS = { images: [".png", ".jpg", ".jpeg", ".webp"], clips: [".gif"], bytes: 1e8, pixels: 1e8, side: 8 }
const EMPTY = { listing: { as_read: true }, table: tableOf({}), editable: false, why: "", words: [], findings: null, examining: false, picked: null }
const NOT_NAMING = { naming: false, confirmed: false, renaming: false, name: "" }
const REST_MS = 250 // after a letter of a caption
let dragged = null // { panel, at } while a thumbnail is dragged

/**
 * {element, show(), check() when the node may read its images otherwise, runs() when a run begins, ran(findings) of it, take(side, files),
 * paste, note(element, text), isChanged(), wanted()}. `server`: list, findings, move, rename, upload, fileUrl, open, changed, renamed.
 * `node`: folder(), frames(), reading() how the images are read as text, choices(list), choose(name), mended() when the images are others
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
  const self = {}

  state.urlOf = (place, stamp) => {
    const [side, filename] = [place.slice(0, place.indexOf("/")), nameOf(place)]
    return server.fileUrl({ filename, subfolder: state.listing.subfolders[side], type: "input", stamp })
  }
  const render = () => view.render(state)

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
    Object.assign(state, { listing, table, editable: Boolean(listing.editable), why: listing.why, folder: listing.folder, picked: null, findings: null, examining: false })
    state.wanted = listing.folder
    state.words = wordsOf(table, [])
    node.choices(listing.choices)
    mend(listing)
    render()
    examine(false)
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
    self.element.classList.remove("in-use")
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
    if (folder !== state.wanted) turn++
    if (folder !== state.folder) Object.assign(state, { ...NOT_NAMING, undo: [], done: "", faults: [] })
    const number = ++listed
    state.wanted = folder
    return list(folder).then((listing) => number === listed && adopt(listing), (fault) => {
      if (number !== listed) return
      Object.assign(state, EMPTY, { folder, faults: [fault.message] })
      render()
    })
  }

  async function move(folder, moves, done) {
    if (!moves.length) return
    const answer = await asking(server.move(folder, moves))
    if (folder !== state.wanted) return // another set was chosen meanwhile
    Object.assign(state, { undo: answer.moved.map(([from, to]) => [to, from]), done })
    adopt(answer.listing)
  }

  /** Pairs that only stand in the order of their names are told by a name of their own from now on. */
  function arrange(table, done) {
    const { folder } = state
    state.faults = []
    const named = state.listing.by_name ? "" : " The files of a pair have one name now."
    return run(() => move(folder, movesOf(table), done + named))
  }

  /** The files that can be taken; the reasons of the others are put into `faults`. */
  async function sound(files) {
    const limits = state.listing.limits ?? LIMITS
    const taken = []
    for (const one of files) {
      const fault = refusal(one.file, limits, node.frames()) || maskOf(one.file, files.map(({ file }) => file)) || (await damage(one.file, limits, server.decode))
      if (fault) state.faults.push(fault)
      else taken.push(one)
    }
    return taken
  }

  /** The names of the files that the server took. */
  async function uploadSide(subfolder, side, files, table) {
    const names = uploadNames(table, side, files.map(({ file }) => file.name))
    const taken = []
    for (const [count, { place, name }] of names.entries()) {
      const { file, caption } = files[place]
      state.busy = `${TITLES[side]}: ${count + 1} of ${files.length}, ${file.name}`
      render()
      try {
        const kept = await server.upload(file, name, subfolder)
        taken.push(kept)
        if (caption) await server.upload(caption, stemOf(kept) + endingOf(caption.name), subfolder)
      } catch (fault) {
        state.faults.push(fault.message)
      }
    }
    return taken
  }

  /** The files of each side that can be taken: {sides, name}. */
  async function looked(side, coming) {
    state.busy = "Looking at the files."
    render()
    const { sides, homeless, name } = sortedOut(await coming, side)
    if (homeless.length) state.faults.push(`${homeless.slice(0, 3).join(", ")}: drop on more, less or leave alone, so that the side is known.`)
    const good = {}
    for (const [key, files] of Object.entries(sides)) {
      const taken = await sound(files)
      if (taken.length) good[key] = taken
    }
    return { sides: good, name }
  }

  const here = () => ({ turn, folder: state.wanted, naming: state.naming, name: state.name })
  /** Where files go that were dropped at `place`: as the panel stands when their turn comes, unless another set was chosen meanwhile. */
  function placeOf(place) {
    if (place.turn === turn) return here()
    return place.turn === landed.turn ? { ...place, folder: landed.folder, naming: false } : place
  }

  async function receive(side, coming, dropped) {
    const { sides, name } = await looked(side, coming)
    if (!Object.keys(sides).length) return
    const place = placeOf(dropped)
    const listing = await list(place.folder)
    const own = Boolean(listing.editable) && !place.naming
    const folder = own ? place.folder : freeFolder(place.name || name, listing.choices ?? [])
    const { subfolders } = listing
    let table = own ? tableOf(listing) : EMPTY.table
    let count = 0
    let again = 0
    for (const [key, files] of Object.entries(sides)) {
      const names = await uploadSide(own ? subfolders[key] : `${folder}/${key}`, key, files, table)
      const fresh = names.filter((name) => !isOnSide(table, key, name)).length
      table = joined(table, key, names)
      count += fresh
      again += names.length - fresh
    }
    const made = own ? "" : ` The set is called ${folder}.`
    if (count + again) await settle(folder, `${addedWords(count, again)}${made}${await keepPairs(folder, table)}`, place.turn)
  }

  /** Files keep their own names while a training pairs them as the table does; else partners get one name, and that is said. */
  async function keepPairs(folder, table) {
    const listing = await list(folder)
    const moves = movesOf(table)
    if (!listing.editable || !moves.length || samePairs(tableOf(listing), table)) return ""
    const { moved } = await server.move(folder, moves)
    const [from, to] = moved[0]
    const more = moved.length > 1 ? `, and ${moved.length - 1} more` : ""
    return ` So that pairs stay together, ${nameOf(from)} is now called ${nameOf(to)}${more}.`
  }

  /** The folder as it is now, chosen in the node, unless another was chosen since turn `since`. */
  async function settle(folder, done, since) {
    const listing = await list(folder)
    landed = { turn: since, folder }
    if (since === turn || folder === state.wanted) {
      Object.assign(state, { ...NOT_NAMING, undo: [], done })
      adopt(listing)
      node.choose(folder)
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
    await settle(answer.folder, `The set is called ${answer.folder} now.`, since)
    server.renamed(folder, answer.folder, self)
  }

  self.take = (side, coming) => {
    Object.assign(state, { faults: [], done: "", picked: null })
    const place = here()
    return run(() => receive(side, coming, place))
  }

  self.paste = (side, files) => {
    const named = files.map((file) => new File([file], pastedName(file.name, ++pasted), { type: file.type }))
    return self.take(side, Promise.resolve(named.map((file) => ({ file, path: file.name }))))
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
      if (!imageAt(state.table, at)) return
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
      const [side, row] = (element.dataset.key ?? "").split(" ")
      if (side === "zone") actions.pickZone(element.dataset.side)
      else putDown({ side, row: Number(row) })
    },
    swap(row) {
      changed(arrange(exchanged(state.table, { side: "positive", row }, { side: "negative", row }), `Pair ${row + 1} swapped.`))
    },
    move(row, by) {
      changed(arrange(pairMoved(state.table, row, by), `Pair ${row + 1} is pair ${row + 1 + by} now.`))
    },
    remove(places) {
      const { folder } = state
      const names = places.map(nameOf).join(", ")
      const rest = without(state.table, places)
      const shifts = !state.listing.by_name && rest.rows.some((row) => !(row.positive && row.negative))
      const moves = [...places.map((place) => [place, "removed"]), ...(shifts ? movesOf(rest) : [])]
      state.faults = []
      changed(run(() => move(folder, moves, `${names}: now in ${folder}/removed.`)))
    },
    removePicked() {
      actions.remove([imageAt(state.table, state.picked)])
    },
    undo() {
      const { folder, undo } = state
      state.faults = []
      changed(run(async () => {
        await move(folder, undo, "Undone.")
        state.undo = []
      }))
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
  render()
  return self
}
