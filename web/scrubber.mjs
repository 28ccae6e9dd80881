// The numbers behind the scrubber: strengths, positions, keys and labels. No page, no ComfyUI; tested with `node --test`.
// The saved sweep's page carries this file too.

/** Places of the strengths in rising order, each strength once. */
export function ordered(strengths) {
  const places = strengths.map((_, place) => place).filter((place) => Number.isFinite(strengths[place]))
  places.sort((a, b) => strengths[a] - strengths[b] || a - b)
  return places.filter((place, i) => i === 0 || strengths[place] !== strengths[places[i - 1]])
}

/** `value` between the lowest and the highest of rising `strengths`. */
export function clamped(strengths, value) {
  return Math.min(Math.max(value, strengths[0]), strengths[strengths.length - 1])
}

/** Index of the strength nearest to `value`; of two as near the lower. */
export function nearest(strengths, value) {
  let best = 0
  for (let i = 1; i < strengths.length; i++)
    if (Math.abs(strengths[i] - value) < Math.abs(strengths[best] - value)) best = i
  return best
}

/** Between which two frames `value` lies, and the share of the upper: {low, high, share}. */
export function between(strengths, value) {
  const wanted = clamped(strengths, value)
  let low = 0
  while (low < strengths.length - 2 && strengths[low + 1] <= wanted) low++
  const high = Math.min(low + 1, strengths.length - 1)
  const width = strengths[high] - strengths[low]
  return { low, high, share: width > 0 ? (wanted - strengths[low]) / width : 0 }
}

/** Share of the way from the lowest strength to the highest, 0 to 1. */
export function toShare(strengths, value) {
  const width = strengths[strengths.length - 1] - strengths[0]
  return width > 0 ? (clamped(strengths, value) - strengths[0]) / width : 0.5
}

/** The strength at a share of the way. Without `fade` it is that of the nearest frame. */
export function fromShare(strengths, share, fade = false) {
  const width = strengths[strengths.length - 1] - strengths[0]
  const value = strengths[0] + Math.min(Math.max(share, 0), 1) * width
  return fade ? rounded(value) : strengths[nearest(strengths, value)]
}

/** To three digits after the point: as the strength of Slider LoRA Apply. */
export function rounded(value) {
  return Math.round(value * 1000) / 1000 + 0
}

const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }

/** The strength after a key, or null when the key means nothing here. Arrows go frame by frame, or a tenth of that in a fade. */
export function keyed(strengths, value, key, fade = false) {
  const last = strengths.length - 1
  if (key === "Home") return strengths[0]
  if (key === "End") return strengths[last]
  if (key === "PageUp" || key === "PageDown") return stepped(strengths, value, (key === "PageUp" ? 1 : -1) * Math.max(1, Math.round(last / 4)))
  if (!Object.hasOwn(STEPS, key)) return null
  if (!fade) return stepped(strengths, value, STEPS[key])
  return rounded(clamped(strengths, value + (STEPS[key] * (strengths[last] - strengths[0])) / Math.max(1, last) / 10))
}

function stepped(strengths, value, by) {
  const at = nearest(strengths, value) + by
  return strengths[Math.min(Math.max(at, 0), strengths.length - 1)]
}

/** How a strength is written: +1, 0, -0.5. */
export function label(value) {
  const written = String(rounded(value))
  return value > 0 ? `+${written}` : written
}

/** What a screen reader says: "+1, towards smiling", and that it is too far. */
export function spoken(value, ends = {}, useful = null) {
  const end = value > 0 ? ends.plus : value < 0 ? ends.minus : ""
  const said = end ? `${label(value)}, towards ${end}` : label(value)
  return isBeyond(value, useful) ? `${said}, ${useful.beyond}` : said
}

/** Whether a strength lies beyond the useful range of the slider; never where none is known. */
export function isBeyond(value, useful) {
  return Boolean(useful) && (value < useful.range[0] || value > useful.range[1])
}

/** The useful range of the slider and what is said of strengths beyond it; null where none is known, or none was drawn. */
function readUseful(useful) {
  const range = Array.isArray(useful?.range) ? useful.range.map(Number) : []
  return range.length === 2 && range.every(Number.isFinite) ? { range, beyond: String(useful.beyond ?? "") } : null
}

/** Which frame of a film is shown at a time in milliseconds: {x, y, width, height} in a picture of that size. */
export function framed({ frames, columns, fps }, now, pictureWidth, pictureHeight) {
  const frame = Math.floor((now * fps) / 1000) % frames
  const width = pictureWidth / columns
  const height = pictureHeight / Math.ceil(frames / columns)
  return { x: (frame % columns) * width, y: Math.floor(frame / columns) * height, width, height }
}

/** How the films of a sweep of clips are laid out; null where its frames are single pictures. */
function readFilm(film) {
  const numbers = [film?.frames, film?.columns, film?.fps].map(Number)
  return numbers.every((number) => Number.isFinite(number) && number > 0)
    ? { frames: numbers[0], columns: numbers[1], fps: numbers[2] }
    : null
}

/** What is sent for a node: rising strengths, and for each row its frames in that order. Null when it is no sweep. */
export function readSweep(data) {
  if (!data || !Array.isArray(data.strengths) || !Array.isArray(data.rows)) return null
  const places = ordered(data.strengths)
  const rows = data.rows.filter((row) => Array.isArray(row?.frames) && row.frames.length >= data.strengths.length)
  if (!places.length || !rows.length) return null
  return {
    title: String(data.title ?? ""),
    ends: { minus: String(data.minus ?? ""), plus: String(data.plus ?? "") },
    strengths: places.map((place) => data.strengths[place]),
    film: readFilm(data.film),
    useful: readUseful(data.useful),
    rows: rows.map((row) => ({ name: String(row.name ?? ""), frames: places.map((place) => row.frames[place]) })),
  }
}

/**
 * Where a copied strength goes. `applies`: {id, selected, slider} of each Slider LoRA Apply, `slider` being what its slider input
 * is fed by ("node:output", empty when by nothing). The selected ones, else those fed by the same slider as the sweep.
 * {targets, why}: why is "" | "none" | "many".
 */
export function applyTargets(applies, slider) {
  const selected = applies.filter((apply) => apply.selected)
  const fed = applies.filter((apply) => slider && apply.slider === slider)
  const targets = selected.length ? selected : fed
  if (targets.length === 1 || (selected.length && targets.length)) return { targets, why: "" }
  return { targets: [], why: targets.length ? "many" : "none" }
}
