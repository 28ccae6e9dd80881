// The pairs of a dataset's folder as a table, and what moving an image means for the names of files. No page, no network.
// A place is "positive/01.png"; a row is { stem, positive, negative } of places or null; a table { rows, neutral: [places] }.

export const SIDES = ["positive", "negative", "neutral"]
export const TITLES = { positive: "more", negative: "less", neutral: "leave alone" }
const LOOKED = 6 // pairs that a headline names
const DEEPEST = 3 // folders, as nodes/dataset_places.py looks
const OF_A_SET = /^(positive|negative|neutral|removed)$/i // a folder of that name makes the one above it a set
const COLLATOR = new Intl.Collator("en", { numeric: true, sensitivity: "base" })

const otherSide = (side) => (side === "positive" ? "negative" : "positive")

export function nameOf(place) {
  return place.slice(place.lastIndexOf("/") + 1)
}

/** The name without its ending, as Python's Path.stem. */
export function stemOf(place) {
  const name = nameOf(place)
  const dot = name.lastIndexOf(".")
  return dot > 0 ? name.slice(0, dot) : name
}

export function endingOf(place) {
  return nameOf(place).slice(stemOf(place).length)
}

/** `stem`, or it with a number, so that `taken` (in small letters) has it not; and takes it. */
export function uniqueStem(stem, taken) {
  let free = stem
  for (let n = 2; taken.has(free.toLowerCase()); n++) free = `${stem} ${n}`
  taken.add(free.toLowerCase())
  return free
}

/** The table of what the server lists. */
export function tableOf({ rows = [], neutral = [], by_name = true }) {
  const taken = new Set()
  const named = rows.map(([positive, negative]) => {
    const stem = stemOf(positive ?? negative)
    return {
      stem: by_name ? stem : uniqueStem(stem, taken),
      positive: positive && `positive/${positive}`,
      negative: negative && `negative/${negative}`,
    }
  })
  return { rows: named, neutral: neutral.map((name) => `neutral/${name}`) }
}

/** What lies in a cell { side, row }; null in an empty one. */
export function imageAt({ rows, neutral }, { side, row }) {
  return (side === "neutral" ? neutral[row] : rows[row]?.[side]) ?? null
}

/** The image beside an empty cell of a pair, which waits for a partner; null where none does. */
export function partnerOf(table, { side, row }) {
  if (side === "neutral" || imageAt(table, { side, row })) return null
  return imageAt(table, { side: otherSide(side), row })
}

/** Whether an image at a place has no partner yet. */
export function waits({ rows }, place) {
  return rows.some(({ positive, negative }) => !(positive && negative) && (positive ?? negative) === place)
}

function put(table, { side, row }, place) {
  if (side === "neutral") table.neutral[row] = place
  else if (table.rows[row]) table.rows[row][side] = place
  else if (place) {
    const taken = new Set(table.rows.map((other) => other.stem.toLowerCase()))
    table.rows.push({ positive: null, negative: null, [side]: place, stem: uniqueStem(stemOf(place), taken) })
  }
}

const copied = ({ rows, neutral }) => ({ rows: rows.map((row) => ({ ...row })), neutral: [...neutral] })

/** A table in which the images of two cells have changed places; either cell may be empty. */
export function exchanged(table, from, to) {
  const next = copied(table)
  const [moving, other] = [imageAt(table, from), imageAt(table, to)]
  put(next, to, moving)
  put(next, from, other)
  next.neutral = next.neutral.filter(Boolean)
  return next
}

/** A table in which a pair has changed places with the one before (-1) or after it (1); the same one at either end. */
export function pairMoved(table, row, by) {
  const to = row + by
  if (!table.rows[row] || !table.rows[to]) return table
  const sides = ["positive", "negative"]
  return sides.reduce((moved, side) => exchanged(moved, { side, row }, { side, row: to }), table)
}

/** The first cell of a side that is empty. */
export function freeCell({ rows, neutral }, side) {
  if (side === "neutral") return { side, row: neutral.length }
  const row = rows.findIndex((candidate) => !candidate[side])
  return { side, row: row < 0 ? rows.length : row }
}

/** The renames [[from, to], ...] that make the folder look like the table: a pair shares its name, an ending stays. */
export function movesOf({ rows, neutral }) {
  const moves = []
  const move = (from, to) => from.toLowerCase() !== to.toLowerCase() && moves.push([from, to])
  for (const row of rows)
    for (const side of ["positive", "negative"]) if (row[side]) move(row[side], `${side}/${row.stem}${endingOf(row[side])}`)
  const stays = neutral.filter((place) => place.startsWith("neutral/"))
  const taken = new Set(stays.map((place) => stemOf(place).toLowerCase()))
  for (const place of neutral.filter((candidate) => !stays.includes(candidate)))
    move(place, `neutral/${uniqueStem(stemOf(place), taken)}${endingOf(place)}`)
  return moves
}

/** The moves that put the file at place `by`, whatever its name, where the image at place `old` lies, which goes to removed/: it takes
 * that one's name, thus all pairs stay. Where another image of the side has that name too, the order of names says no pair any more. */
export function replacing(table, old, by) {
  const side = old.slice(0, old.indexOf("/"))
  const stem = stemOf(old)
  const stems = new Set(placesOf(table, side).filter((place) => place !== old).map((place) => stemOf(place).toLowerCase()))
  const away = [old, "removed"]
  if (side === "neutral" || !stems.has(stem.toLowerCase())) return [away, [by, `${side}/${uniqueStem(stem, stems)}${endingOf(by)}`]]
  const rows = table.rows.map((row) => (row[side] === old ? { ...row, [side]: by } : row))
  return [away, ...movesOf({ rows, neutral: [] })]
}

/** A name that every system takes; ComfyUI's /view refuses two dots. */
export function safeName(name) {
  const ending = endingOf(name)
  const stem = stemOf(name).normalize("NFC").replace(/[<>:"/\\|?*\p{C}]+/gu, "_").replace(/\.{2,}/g, ".").replace(/^[. ]+|[. ]+$/g, "")
  return (stem || "image") + ending
}

/** The places of a side's images. */
function placesOf({ rows, neutral }, side) {
  return side === "neutral" ? neutral : rows.map((row) => row[side]).filter(Boolean)
}

/** Whether a file of that name, and then the same picture, is on a side already. */
export function isOnSide(table, side, name) {
  return placesOf(table, side).includes(`${side}/${name}`)
}

/** What is said of files that were taken: those that are new, and those that were there `again`. */
export function addedWords(fresh, again) {
  const files = (count) => `${count} ${count === 1 ? "file" : "files"}`
  if (!again) return `${files(fresh)} added.`
  const there = again === 1 ? "was there already" : "were there already"
  return fresh ? `${files(fresh)} added; ${again} ${there}.` : `Nothing added: ${files(again)} ${there}.`
}

/** The names under which files are uploaded to a side, their own but where another file has it, in the order in which people count. */
export function uploadNames(table, side, names) {
  const sorted = names.map((name, place) => ({ place, name: safeName(name) })).sort((a, b) => COLLATOR.compare(a.name, b.name))
  const files = new Map(placesOf(table, side).map((place) => [stemOf(place).toLowerCase(), nameOf(place).toLowerCase()]))
  return sorted.map(({ place, name }) => {
    let stem = stemOf(name)
    const other = files.get(stem.toLowerCase()) // the very same name is left to the server, which knows whether it is the same picture
    if (other && other !== name.toLowerCase()) stem = uniqueStem(stem, new Set(files.keys()))
    files.set(stem.toLowerCase(), `${stem}${endingOf(name)}`.toLowerCase())
    return { place, name: stem + endingOf(name) }
  })
}

/**
 * The table with files of these names on a side as well. A name that says its partner comes to it. Others become the partners of
 * those that wait, in turn, where no name says one or all find one; else each begins a row. A single file comes to the image
 * `beside` which it was put, if there is one that waits still.
 */
export function joined(table, side, names, beside = null) {
  const next = copied(table)
  const there = new Set(placesOf(table, side))
  const fresh = names.map((name) => `${side}/${name}`).filter((place) => !there.has(place))
  if (side === "neutral") return { ...next, neutral: [...next.neutral, ...fresh] }
  const waiting = () => next.rows.filter((row) => !row[side])
  const chosen = beside && fresh.length === 1 && waiting().find((row) => row[otherSide(side)] === beside)
  if (chosen) chosen[side] = fresh.pop()
  const rest = fresh.filter((place) => {
    const partner = waiting().find(({ stem }) => stem.toLowerCase() === stemOf(place).toLowerCase())
    if (partner) partner[side] = place
    return !partner
  })
  const partners = rest.length === fresh.length || rest.length === waiting().length ? waiting() : []
  for (const place of rest) {
    const partner = partners.shift()
    if (partner) partner[side] = place
    else put(next, { side, row: next.rows.length }, place)
  }
  return next
}

/** The table without some images; a row that is left empty is gone. */
export function without(table, places) {
  const kept = (place) => (places.includes(place) ? null : place)
  const rows = table.rows.map((row) => ({ ...row, positive: kept(row.positive), negative: kept(row.negative) }))
  return { rows: rows.filter((row) => row.positive || row.negative), neutral: table.neutral.filter(kept) }
}

const isPair = ({ positive, negative }) => Boolean(positive && negative)
const isOneName = ({ positive, negative }) => stemOf(positive).toLowerCase() === stemOf(negative).toLowerCase()
const hasPair = (table, pair) => table.rows.some(({ positive, negative }) => positive === pair.positive && negative === pair.negative)

/** Whether an image lacks its partner, or none is there yet, and nothing but the order of names has paired the others. */
export function isLoose({ rows }) {
  const pairs = rows.filter(isPair)
  return (!rows.length || pairs.length < rows.length) && !pairs.some(isOneName)
}

/** The pairs of one table that another has too. */
export function pairsInBoth(one, other) {
  return one.rows.filter((row) => isPair(row) && hasPair(other, row))
}

/** The table with its images paired anew in their order: `kept` pairs stay, and a name that says its partner comes to it. */
export function pairedAnew(table, kept = []) {
  const rest = without(table, kept.flatMap(({ positive, negative }) => [positive, negative]))
  const start = { rows: kept.map((row) => ({ ...row })), neutral: [...table.neutral] }
  return ["positive", "negative"].reduce((next, side) => joined(next, side, placesOf(rest, side).map(nameOf)), start)
}

/** What is said where pairs of one table are none in the other, though their images are still there. */
export function anewWords(before, after) {
  const there = new Set([...placesOf(after, "positive"), ...placesOf(after, "negative")])
  const broken = before.rows.some((row) => isPair(row) && there.has(row.positive) && there.has(row.negative) && !hasPair(after, row))
  return broken ? " Paired anew in the order of their names." : ""
}

/** Whether two tables hold the same pairs, in whatever order. */
export function samePairs(one, other) {
  const pairs = ({ rows }) => rows.map((row) => `${row.positive}|${row.negative}`).sort().join("\n")
  return pairs(one) === pairs(other)
}

/** The words under each row: those of the examined pair that has the same files. */
export function wordsOf({ rows }, pairs = []) {
  const of = new Map(pairs.map(({ positive, negative, words }) => [`positive/${positive}|negative/${negative}`, words]))
  return rows.map((row) => of.get(`${row.positive}|${row.negative}`) ?? [])
}

/** In which pairs the doctor has found something, by the numbers of their rows, or by a file where there are no rows, and whether it
 * has said something `ofAll`; "" where nothing was found. */
export function lookWords({ rows }, pairs, ofAll) {
  const rowOf = ({ positive, negative }) => rows.findIndex((row) => row.positive === `positive/${positive}` && row.negative === `negative/${negative}`)
  const found = pairs.filter(({ words }) => words.length).map((pair) => ({ row: rowOf(pair), name: pair.positive }))
  found.sort((a, b) => a.row - b.row)
  const labels = found.map(({ row, name }) => (row < 0 ? name : String(row + 1)))
  const more = labels.length > LOOKED ? ` and ${labels.length - LOOKED} more` : ""
  const words = [
    labels.length && `${labels.length} ${labels.length === 1 ? "pair needs" : "pairs need"} a look: ${labels.slice(0, LOOKED).join(", ")}${more}.`,
    ofAll.length && `${ofAll.length} ${ofAll.length === 1 ? "remark" : "remarks"} on the whole set.`,
  ]
  return words.filter(Boolean).join(" ")
}

/** What is said of a new set that has no images yet, under its name; `before`: the folder that the node gives until then. */
export function newSetWords(name, choices, before) {
  const made = name.trim() ? `the set "${freeFolder(name, choices)}"` : "a new set"
  return `Drop images on more and less: they make ${made}. Until then the node gives "${before}".`
}

/** A name for a new folder that none of the `choices` has; with the folders that are wanted before it, where a set in them is found. */
export function freeFolder(wanted, choices) {
  const plain = (part) => safeName(part.trim()).replace(/[. ]+$/, "")
  const parts = String(wanted ?? "").split(/[/\\]/).filter((part) => /[^. ]/.test(part)).map(plain)
  const taken = new Set(choices.map((choice) => choice.toLowerCase()))
  return uniqueStem(parts.join(canLie(parts, taken) ? "/" : "_") || "my slider", taken)
}

/** Whether ComfyUI lists a set in these folders: they are not too many, and none before the last is a set itself. */
function canLie(parts, taken) {
  const before = parts.slice(0, -1).map((_, last) => parts.slice(0, last + 1).join("/").toLowerCase())
  return parts.length <= DEEPEST && !parts.some((part) => OF_A_SET.test(part)) && !before.some((folder) => taken.has(folder))
}
