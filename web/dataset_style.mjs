// The looks of the panel in Load Slider Dataset. In an App it is low from the first training on, until somebody works in it.

import { IN_APP } from "./app_list.mjs"

export const STYLE = `
.slider-dataset-node { width: 100%; height: 100%; min-height: 0; }
${IN_APP} .slider-dataset-node { height: auto; }
.slider-dataset { display: flex; flex-direction: column; gap: 5px; box-sizing: border-box; width: 100%; height: 100%; min-height: 0;
  overflow: hidden; padding: 2px 4px; font: 12px/1.35 sans-serif; color: var(--input-text, #ddd); max-height: 900px; user-select: none; overflow-wrap: anywhere; }
.slider-dataset > * { flex: none !important; }
.slider-dataset [hidden] { display: none !important; }
.slider-dataset button { font: inherit; color: inherit; background: var(--comfy-input-bg, #333); border: 1px solid var(--border-color, #666);
  border-radius: 5px; padding: 2px 7px; min-height: 26px; cursor: pointer; }
.slider-dataset button:disabled { opacity: 0.35; cursor: default; }
.slider-dataset :focus-visible { outline: 2px solid #f5b942; outline-offset: 1px; }
.slider-dataset .head { display: flex; align-items: center; gap: 6px; min-height: 28px; }
.slider-dataset .title { flex: 1; min-width: 0; }
.slider-dataset .head input { flex: 1; min-width: 0; font: inherit; color: inherit; background: var(--comfy-input-bg, #222);
  border: 1px solid var(--border-color, #666); border-radius: 5px; padding: 3px 6px; min-height: 26px; box-sizing: border-box; user-select: text; }
.slider-dataset .zones { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px; }
.slider-dataset .zone { display: flex; flex-direction: column; align-items: center; justify-content: center; text-align: center;
  overflow: hidden; min-height: 50px; border: 2px dashed #888; border-radius: 7px; cursor: pointer; box-sizing: border-box; padding: 2px; }
.slider-dataset .zone b { font-size: 13px; }
.slider-dataset .zone span { font-size: 11px; opacity: 0.75; }
.slider-dataset .zone.positive { border-color: #ea7468; } .slider-dataset .zone.negative { border-color: #74aaf0; }
.slider-dataset .over { background: rgba(245, 185, 66, 0.28); }
.slider-dataset .status { display: flex; align-items: center; gap: 6px; flex-wrap: wrap; }
.slider-dataset .status .text { flex: 1 1 120px; }
.slider-dataset .faults { margin: 0; padding: 0; list-style: none; color: #f0a0a0; max-height: 96px; overflow-y: auto; user-select: text; }
.slider-dataset .slider-note { flex: 0 1 auto !important; min-height: 58px; height: auto; max-height: max(150px, 45%); }
.slider-dataset .list { flex: 1 1 0 !important; min-height: 60px; overflow-y: auto; overscroll-behavior: contain; touch-action: pan-y;
  display: flex; flex-direction: column; gap: 6px; }
.slider-dataset .list > * { flex: none; }
${IN_APP} .slider-dataset .list { overscroll-behavior: auto; }
.slider-dataset .row { display: grid; grid-template-columns: 20px 1fr 30px 1fr 30px; gap: 4px; align-items: center; }
.slider-dataset .number { text-align: right; opacity: 0.7; font-variant-numeric: tabular-nums; }
.slider-dataset .cell { position: relative; height: 84px; min-width: 0; border: 1px solid #555; border-radius: 5px; background: #1b1b1d;
  overflow: hidden; cursor: pointer; box-sizing: border-box; display: flex; align-items: center; justify-content: center; color: #999;
  text-align: center; }
.slider-dataset .cell img, .slider-dataset .cell video { width: 100%; height: 100%; object-fit: contain; pointer-events: none; display: block; }
.slider-dataset .cell.empty { border-style: dashed; }
.slider-dataset .cell.empty:hover { border-color: #aaa; color: #ccc; }
.slider-dataset .cell.picked { outline: 3px solid #f5b942; outline-offset: -3px; }
.slider-dataset .tools { display: flex; flex-direction: column; gap: 2px; }
.slider-dataset .tools button, .slider-dataset .swap { padding: 0; width: 30px; min-height: 27px; line-height: 1; }
.slider-dataset .words { grid-column: 2 / -1; color: #f2c27a; user-select: text; }
.slider-dataset .words p, .slider-dataset .doctor p { margin: 0 0 2px; }
.slider-dataset .alone { display: grid; grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)); gap: 4px; padding-left: 24px; }
.slider-dataset .fresh { margin: 8px 4px; text-align: center; }
.slider-dataset .caption { opacity: 0.75; }
.slider-dataset .finding { color: #f2c27a; user-select: text; }
.slider-dataset .sheet { position: relative; width: 100%; overflow: hidden; cursor: zoom-in; background: #fff; border-radius: 4px; }
.slider-dataset .sheet img { position: absolute; left: 0; width: 100%; display: block; }
${IN_APP} .slider-dataset { flex: none; height: 400px; min-height: 170px !important; resize: vertical; }
:root:has(${IN_APP} .slider-live.shown) ${IN_APP} .slider-dataset:not(.in-use) { height: 170px;
  & .zone { min-height: 28px; }
  & .zone span, & .status { display: none; }
  & .list > :not(.row) { order: 1; }
}
`

/** An element with attributes and children; `on` holds its listeners by event. */
export function part(document, tag, { on = {}, ...attributes } = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) if (value !== false && value !== null) made.setAttribute(name, value)
  for (const [event, listener] of Object.entries(on)) made.addEventListener(event, listener)
  made.append(...children.filter((child) => child !== null))
  return made
}
