// The panel in a training node: step and time left, a button that ends it or lets it train on, curve of the learned share, verdict,
// live strip.

import { adviceIn, inGraph } from "./app_advice.mjs"
import { IN_APP, bringToTop, roomInApp } from "./app_list.mjs"
import { released } from "./press.mjs"
import { styleOnce } from "./style_once.mjs"
import { axisEnd, canFinish, curveSvg, isRunning, otherWords, stepWords, stripPath, trainOnWords } from "./live.mjs"

const IDLE = 24 // least heights, in pixels of the node
const CURVE = 112
const APP_CURVE = 92 // in an App, where verdict, strip and the file's report are to be seen at once
const WORDS = 116
const CAPTION = 15
const STRIP = 104 // with its caption
const NOTE = 132 // where nothing was trained yet
const NOTE_LEAST = 46
const LINE = 4 // pixels of text that need not be seen
const NOTHING = "A training shows here: its curve, verdict and strip."

const STYLE = `
.slider-live { display: flex; flex-direction: column; gap: 4px; box-sizing: border-box; width: 100%; overflow: hidden;
  font: 11px/1.35 sans-serif; color: #ccc; max-height: 900px; overflow-wrap: anywhere; }
.slider-live > * { flex: none !important; }
.slider-live img { flex: 1 1 ${STRIP}px !important; min-height: ${STRIP - CAPTION}px; height: 0; width: 100%; object-fit: contain;
  object-position: center top; }
.slider-live.waiting img, .slider-live.waiting .curve, .slider-live.waiting .verdict, .slider-live img.old { opacity: 0.35; }
.slider-live .line { display: flex; justify-content: space-between; align-items: center; gap: 6px; color: #ddd; }
.slider-live button { font: inherit; color: inherit; background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #666);
  border-radius: 5px; padding: 1px 8px; min-height: 24px; flex: none; cursor: pointer; }
.slider-live button:disabled { opacity: 0.5; cursor: default; }
.slider-live button:focus-visible { outline: 2px solid #f5b942; }
.slider-live .of { color: #999; height: ${CAPTION - 4}px; line-height: 1; text-align: right; }
.slider-live [hidden] { display: none; }
.slider-live .curve { height: ${CURVE}px; }
.slider-live svg { width: 100%; height: 100%; display: block; font: 10px sans-serif; }
.slider-live .verdict { flex: 0 1 auto !important; min-height: ${WORDS - 44}px; overflow-y: auto; overscroll-behavior: contain; }
.slider-live .verdict.goes-on { mask-image: linear-gradient(#000 calc(100% - 22px), transparent); }
.slider-live .said { font-size: 12px; color: #eee; }
.slider-live .details { margin-top: 3px; color: #bbb; white-space: pre-line; }
.slider-live.noted .verdict { display: none; }
.slider-live .slider-note { flex: 0 1 auto !important; height: auto; min-height: ${WORDS - 4}px; max-height: 190px; }
.slider-live .failed .said { color: #f0a0a0; }
.slider-live .running .said { color: #999; }
.slider-live polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.slider-live .other { color: #f0dc9c; }
.slider-live .other:empty, .slider-live.waiting .other, .slider-live .elsewhere { display: none; }
${IN_APP} .slider-live { max-height: var(--app-room); }
${IN_APP} .slider-live .curve { height: ${APP_CURVE}px; }
${IN_APP} .slider-live .elsewhere { display: block; color: #f0dc9c; }
.slider-live .axis { stroke: #777; stroke-width: 1; }
.slider-live .tick { fill: #999; }
.slider-live polyline.plus { stroke: #ea7468; } .slider-live text.plus, .slider-live circle.plus { fill: #ea7468; }
.slider-live polyline.minus { stroke: #74aaf0; } .slider-live text.minus, .slider-live circle.minus { fill: #74aaf0; }
`

function part(document, parent, tag, className) {
  const made = document.createElement(tag)
  made.className = className
  parent.append(made)
  return made
}

/** A button that calls `act(state)`, and is dead with the words `waiting` while `asked(state)`. `looks(state)` gives its words, null
 * where it has no place. */
function actionButton(document, parent, { className, title, waiting, looks, asked, act }) {
  const made = part(document, parent, "button", className)
  made.type = "button"
  made.title = title
  let state = null
  const show = (now) => {
    state = now
    const words = now && looks(now)
    made.hidden = !words
    made.disabled = Boolean(words && asked(now))
    made.textContent = made.disabled ? waiting : (words ?? "")
  }
  made.addEventListener("click", async () => {
    const acting = act(state)
    show(state)
    await acting
    show(state)
  })
  show(null)
  return { show, rest: () => show(state) }
}

/**
 * An element, `show(state)`, `place(note, room)`, which puts a note in the place of the verdict, where there is none so many pixels high, and gives a function that takes it away, and
 * `least()`: the height in pixels that it needs. `address` makes a full address of a path; `end(state)` asks
 * the training to finish and `trainOn(state)` runs it further; `isEnding` and `isQueued(state)`: whether that was asked and is yet to be. `next()`: the slider that a run would train now, or null.
 * `here()`: the names of the inputs that an App shows beside it; `nodes()`: the types of the graph's nodes.
 */
export function makePanel(document, { address, end, isEnding, trainOn, isQueued, next, here, nodes }) {
  styleOnce(document, "slider-live-style", STYLE)
  const element = document.createElement("div")
  element.className = "slider-live"
  const line = part(document, element, "div", "line")
  const words = part(document, line, "span", "words")
  const finish = actionButton(document, line, {
    className: "finish",
    title: "End the training with the step it is at, and go on with the rest of the graph: preview, saving.",
    waiting: "finishing",
    looks: (state) => (canFinish(state) ? "finish now" : null),
    asked: isEnding,
    act: end,
  })
  const more = actionButton(document, line, {
    className: "more",
    title: "Train this slider further, and run the rest of the graph with it.",
    waiting: "queued",
    looks: (state) => trainOnWords(state, next()),
    asked: isQueued,
    act: trainOn,
  })
  const other = part(document, element, "div", "other")
  const curve = part(document, element, "div", "curve")
  const verdict = part(document, element, "div", "verdict")
  verdict.dataset.captureWheel = "true"
  const said = part(document, verdict, "div", "said")
  const elsewhere = part(document, verdict, "div", "elsewhere")
  const details = part(document, verdict, "div", "details")
  const of = part(document, element, "div", "of")
  const strip = part(document, element, "img", "strip")
  words.textContent = NOTHING
  strip.alt = "strip of the slider under training"
  let shown = null

  let noteRoom = 0
  const hasStrip = () => Boolean(shown?.strip) && strip.dataset.gone !== strip.dataset.path
  const least = () => (shown ? (hasStrip() ? STRIP : 0) + CURVE + WORDS : IDLE + noteRoom)
  const lay = () => {
    strip.style.display = of.style.display = hasStrip() ? "" : "none"
    curve.style.display = verdict.style.display = shown ? "" : "none"
    element.classList.toggle("shown", Boolean(shown))
    element.style.minHeight = `${least()}px`
    fit()
  }
  /** As high as an App's list lets it be; text that does not end in its box fades out there. */
  const fit = () => {
    element.style.setProperty("--app-room", `${Math.max(roomInApp(element) ?? 0, least())}px`)
    verdict.classList.toggle("goes-on", verdict.scrollHeight - verdict.clientHeight - verdict.scrollTop > LINE)
  }
  verdict.addEventListener("scroll", fit)
  const watcher = new ResizeObserver(fit) // when it comes into the page, and when that is another size
  for (const watched of [element, verdict, document.documentElement]) watcher.observe(watched)

  const show = (state) => {
    const turns = isRunning(state) !== Boolean(shown && isRunning(shown)) // it begins, or ends
    shown = state
    const path = stripPath(state)
    if (path && strip.dataset.path !== path) {
      strip.dataset.path = path
      strip.src = address(path)
    }
    words.textContent = stepWords(state)
    of.textContent = state.strip && state.strip.step !== state.step ? `strip of step ${state.strip.step}` : ""
    curve.innerHTML = curveSvg(state.explained, axisEnd(state), state.latest)
    finish.show(state)
    strip.classList.toggle("old", Boolean(state.strip?.old))
    element.classList.remove("waiting")
    check()
    const [first, ...rest] = [state.verdict, state.trouble].filter(Boolean).join("\n").split("\n")
    said.textContent = first
    details.textContent = rest.join("\n")
    const advised = (text) => inGraph(text, here(), nodes())
    elsewhere.textContent = advised(adviceIn([first, ...rest].join("\n")))
    const place = advised(first) === elsewhere.textContent ? said : details // below what it belongs to
    place.after(elsewhere)
    verdict.className = `verdict ${state.phase === "failed" ? "failed" : isRunning(state) ? "running" : ""}`
    released(lay) // with it the panel of the images is folded
    if (turns) bringToTop(element)
  }
  lay()
  strip.addEventListener("error", () => {
    strip.dataset.gone = strip.dataset.path // ComfyUI empties its folder of temporary files when it starts
    lay()
  })
  const say = (text) => (words.textContent = text)
  const dim = (waiting) => {
    const unseen = !waiting && element.classList.contains("waiting") // the run has left the node out, or ended before the training
    element.classList.toggle("waiting", waiting)
    if (!waiting) more.rest()
    if (unseen && shown) show(shown)
    else if (unseen) words.textContent = NOTHING
    if (!waiting || !shown) return
    words.textContent = "a new run begins"
    more.show(null)
  }
  const place = (note, room) => {
    noteRoom = Math.min(NOTE, room)
    if (!shown) note.style.minHeight = `${Math.min(NOTE_LEAST, noteRoom)}px` // it takes what the panel has to spare
    verdict.before(note)
    element.classList.add("noted")
    lay()
    return () => {
      noteRoom = 0
      note.remove()
      element.classList.remove("noted")
      lay()
    }
  }
  const check = () => {
    if (!shown || element.classList.contains("waiting")) return
    more.show(shown)
    other.textContent = otherWords(shown, next())
  }
  const settle = () => [finish, more].forEach((button) => button.rest()) // what was asked has changed
  return { element, show, place, say, dim, check, settle, least, state: () => shown }
}
