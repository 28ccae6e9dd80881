// The scrubber on a page: the picture of a strength, and a handle that chooses it. In the node, and in a saved sweep's page.

import { between, framed, fromShare, isBeyond, keyed, label, nearest, rounded, spoken, toShare } from "./scrubber.mjs"

export const STYLE = `
.slider-scrubber { display: flex; flex-direction: column; gap: 6px; box-sizing: border-box; width: 100%; height: 100%;
  min-height: 0; padding: 4px 6px; font: 12px/1.3 sans-serif; color: var(--input-text, #ddd); user-select: none; }
.slider-scrubber .scene { position: relative; flex: 1 1 190px; min-height: 190px; overflow: hidden; touch-action: none; cursor: ew-resize; }
.slider-scrubber .scene > * { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; pointer-events: none;
  opacity: 0; }
.slider-scrubber.waiting .scene { filter: opacity(0.35); }
.slider-scrubber .note { margin: auto; text-align: center; opacity: 0.75; }
.slider-scrubber .line { display: flex; align-items: center; gap: 8px; flex: none; }
.slider-scrubber .end { max-width: 35%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; flex: none; }
.slider-scrubber .track { position: relative; flex: 1; height: 28px; margin: 0 9px; touch-action: none; cursor: pointer; outline: none; }
.slider-scrubber .track::before { content: ""; position: absolute; left: 0; right: 0; top: 12px; height: 4px; border-radius: 2px;
  background: currentColor; opacity: 0.3; }
.slider-scrubber .tick { position: absolute; top: 9px; width: 2px; height: 10px; margin-left: -1px; background: currentColor;
  opacity: 0.45; }
.slider-scrubber .tick.zero { top: 5px; height: 18px; opacity: 0.8; }
.slider-scrubber .tick.beyond { opacity: 0.2; }
.slider-scrubber .handle.beyond { background: #8a8a90; }
.slider-scrubber .handle { position: absolute; top: 5px; width: 18px; height: 18px; margin-left: -9px; border-radius: 50%;
  background: #3b82f6; border: 2px solid #fff; box-sizing: border-box; box-shadow: 0 0 2px #000; pointer-events: none; }
.slider-scrubber .track:focus-visible .handle { outline: 3px solid #f5b942; outline-offset: 1px; }
.slider-scrubber button, .slider-scrubber select { font: inherit; color: inherit; background: var(--comfy-input-bg, #333);
  border: 1px solid var(--border-color, #666); border-radius: 5px; padding: 3px 8px; cursor: pointer; min-height: 26px; }
.slider-scrubber select { min-width: 0; flex: 0 1 auto; max-width: 45%; }
.slider-scrubber .value { font-variant-numeric: tabular-nums; text-align: right; flex: none; white-space: nowrap; }
.slider-scrubber .value::before { content: "strength "; opacity: 0.75; }
.slider-scrubber .value.beyond { opacity: 0.6; }
.slider-scrubber .far { flex: none; margin-left: auto; font-size: 11px; opacity: 0; }
.slider-scrubber .far.beyond { opacity: 0.75; }
.slider-scrubber .tools { flex-wrap: wrap; }
.slider-scrubber button, .slider-scrubber label { white-space: nowrap; }
.slider-scrubber label { display: flex; align-items: center; gap: 4px; cursor: pointer; }
.slider-scrubber .space { flex: 1; }
.slider-scrubber [hidden] { display: none; }
`

function element(document, kind, attributes = {}, ...children) {
  const made = document.createElement(kind)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** A picture of the scene: an image, or the canvas on which a film plays. `play(now)` shows its frame of a time in milliseconds. */
function makePicture(document, address, alt, film) {
  const image = element(document, "img", { alt, draggable: "false" })
  image.src = address
  if (!film) return { element: image, play: () => {} }
  const canvas = element(document, "canvas", { role: "img", "aria-label": alt })
  const play = (now) => {
    if (!image.naturalWidth) return
    const { x, y, width, height } = framed(film, now, image.naturalWidth, image.naturalHeight)
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
    canvas.getContext("2d").drawImage(image, x, y, width, height, 0, 0, width, height)
  }
  return { element: canvas, play }
}

/**
 * A scrubber: {element, show(sweep, urlOf, place), value()}. `sweep` is what readSweep gave, or null; `urlOf(frame)` an image's address.
 * `place`: where the handle stands, {value, row, fade}; it is kept there, and a new scrubber that is given it begins there.
 * `onUse(strength)` is called by the button, whose label is `use`.
 */
export function makeScrubber(document, { use, onUse, empty = "" }) {
  const scene = element(document, "div", { class: "scene" })
  const note = element(document, "div", { class: "note" }, empty)
  const minus = element(document, "span", { class: "end minus" })
  const plus = element(document, "span", { class: "end plus" })
  const handle = element(document, "div", { class: "handle" })
  const track = element(document, "div", {
    class: "track", role: "slider", tabindex: "0", "aria-label": "Slider strength", "aria-orientation": "horizontal",
  })
  const shown = element(document, "output", { class: "value", "aria-hidden": "true" })
  const rows = element(document, "select", { "aria-label": "Row of the sweep" })
  const fading = element(document, "input", { type: "checkbox" })
  const button = element(document, "button", { type: "button", title: "Copies the strength that is shown." }, use)
  const far = element(document, "span", { class: "far", "aria-hidden": "true" })
  const slide = element(document, "div", { class: "line" }, minus, track, plus)
  const tools = element(
    document, "div", { class: "line tools" }, rows, element(document, "label", {}, fading, "cross-fade"), element(document, "span", { class: "space" }), shown, button, far,
  )
  const root = element(document, "div", { class: "slider-scrubber" }, note, scene, slide, tools)
  const state = { sweep: null, urlOf: null, value: 0, row: 0, place: {}, pictures: [], films: [], playing: false }

  function loadRow() {
    const { frames, name } = state.sweep.rows[state.row]
    state.films = frames.map((frame, i) => {
      const alt = `${name} at strength ${label(state.sweep.strengths[i])}`
      return makePicture(document, state.urlOf(frame), alt, state.sweep.film)
    })
    state.pictures = state.films.map((film) => film.element)
    scene.replaceChildren(...state.pictures)
    play()
  }

  /** All clips by one clock, so that another strength goes on at the same moment; ends where the scrubber is not seen, on the page or not. */
  function play() {
    if (!state.playing) tick()
  }

  function tick() {
    state.playing = Boolean(state.sweep?.film) && root.getClientRects().length > 0
    if (!state.playing) return
    const { performance, requestAnimationFrame } = document.defaultView
    const now = performance.now()
    state.films.forEach((film, i) => state.pictures[i].style.opacity !== "0" && film.play(now))
    requestAnimationFrame(tick)
  }

  function paint() {
    const { strengths, ends, useful } = state.sweep
    Object.assign(state.place, { value: state.value, row: state.row, fade: fading.checked })
    const { low, high, share } = between(strengths, state.value)
    const one = nearest(strengths, state.value)
    state.pictures.forEach((picture, i) => {
      // the lower frame stays whole below the upper one: two half-clear pictures would let the ground through
      const opacity = fading.checked ? (i === high && high !== low ? share : i === low ? 1 : 0) : i === one ? 1 : 0
      picture.style.opacity = opacity
      picture.setAttribute("aria-hidden", String(i !== one))
    })
    handle.style.left = `${100 * toShare(strengths, state.value)}%`
    shown.textContent = label(state.value)
    for (const part of [handle, shown, far]) part.classList.toggle("beyond", isBeyond(state.value, useful))
    track.setAttribute("aria-valuemin", strengths[0])
    track.setAttribute("aria-valuemax", strengths[strengths.length - 1])
    track.setAttribute("aria-valuenow", rounded(state.value))
    track.setAttribute("aria-valuetext", spoken(state.value, ends, useful))
  }

  function drawTicks() {
    const ticks = state.sweep.strengths.map((strength) => {
      const tick = element(document, "div", { class: strength === 0 ? "tick zero" : "tick" })
      tick.classList.toggle("beyond", isBeyond(strength, state.sweep.useful))
      tick.style.left = `${100 * toShare(state.sweep.strengths, strength)}%`
      return tick
    })
    track.replaceChildren(...ticks, handle)
  }

  function move(value) {
    state.value = value
    paint()
  }

  function pointed(event) {
    const box = track.getBoundingClientRect()
    if (box.width > 0) move(fromShare(state.sweep.strengths, (event.clientX - box.left) / box.width, fading.checked))
  }

  for (const place of [track, scene]) {
    place.addEventListener("pointerdown", (event) => {
      if (!state.sweep || event.button) return
      event.preventDefault()
      event.stopPropagation()
      place.setPointerCapture(event.pointerId)
      track.focus({ preventScroll: true, focusVisible: false })
      pointed(event)
    })
    place.addEventListener("pointermove", (event) => {
      if (place.hasPointerCapture(event.pointerId)) pointed(event)
    })
  }
  track.addEventListener("keydown", (event) => {
    if (!state.sweep || event.ctrlKey || event.metaKey || event.altKey) return
    const value = keyed(state.sweep.strengths, state.value, event.key, fading.checked)
    if (value === null) return
    event.preventDefault()
    event.stopPropagation()
    move(value)
  })
  rows.addEventListener("change", () => {
    state.row = Number(rows.value)
    loadRow()
    paint()
  })
  fading.addEventListener("change", () => {
    if (state.sweep) move(fading.checked ? state.value : state.sweep.strengths[nearest(state.sweep.strengths, state.value)])
  })
  button.addEventListener("click", () => state.sweep && onUse(rounded(state.value)))

  function show(sweep, urlOf, place = {}) {
    if (!state.sweep) {
      Object.assign(state, { value: place.value ?? 0, row: place.row ?? 0 })
      fading.checked = place.fade ?? false
    }
    Object.assign(state, { sweep, urlOf, place })
    note.hidden = Boolean(sweep)
    for (const part of [scene, slide, tools]) part.hidden = !sweep
    if (!sweep) return
    state.row = Math.min(state.row, sweep.rows.length - 1)
    state.value = sweep.strengths[nearest(sweep.strengths, state.value)]
    minus.textContent = sweep.ends.minus || label(sweep.strengths[0])
    plus.textContent = sweep.ends.plus || label(sweep.strengths[sweep.strengths.length - 1])
    rows.replaceChildren(...sweep.rows.map((row, i) => element(document, "option", { value: String(i) }, row.name)))
    rows.value = String(state.row)
    rows.hidden = sweep.rows.length < 2
    far.hidden = !sweep.useful
    far.textContent = sweep.useful?.beyond ?? ""
    loadRow()
    drawTicks()
    paint()
  }

  new document.defaultView.ResizeObserver(play).observe(root) // it comes to the page, or back to it: as with a tab of the graph, or a node that was folded
  show(null, null)
  return { element: root, show, value: () => rounded(state.value), button }
}
