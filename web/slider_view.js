// A template of the pack opens at full size where the window has room for it: ComfyUI leaves a quarter of the window free.
// The quickstart is the first of its templates.
// The workflow says how large it is; once it is open, or saved under another name, its view is the user's own.

import { app } from "../../scripts/app.js"
import { api } from "../../scripts/api.js"

const KEY = "slider_lora_size" // in the workflow's `extra`: [x, y, width, height]
const EDGE = { left: 70, top: 96, right: 16, bottom: 16 } // ComfyUI's bars

const FIRST = "quickstart"

/** The pack's own templates by name, the quickstart before them: the server lists them as the disk does. */
function inOrder(packs) {
  for (const names of Object.values(packs ?? {}))
    if (Array.isArray(names) && names.includes(FIRST) && names.includes("slider_train.app"))
      names.sort((a, b) => (b === FIRST) - (a === FIRST) || a.localeCompare(b))
  return packs
}

app.registerExtension({
  name: "sliderlora.view",
  init() {
    const list = api.getWorkflowTemplates
    if (typeof list === "function") api.getWorkflowTemplates = async (...asked) => inOrder(await list.apply(api, asked))
  },
  afterConfigureGraph() {
    const box = app.graph?.extra?.[KEY]
    if (!Array.isArray(box)) return
    delete app.graph.extra[KEY]
    requestAnimationFrame(() => {
      const { ds, canvas } = app.canvas
      const [x, y, width, height] = box
      const { width: wide, height: high } = canvas.getBoundingClientRect()
      const room = [wide - EDGE.left - EDGE.right, high - EDGE.top - EDGE.bottom]
      ds.scale = Math.max(0.3, Math.min(1, room[0] / width, room[1] / height))
      ds.offset[0] = (EDGE.left + (room[0] - width * ds.scale) / 2) / ds.scale - x
      ds.offset[1] = (EDGE.top + Math.max(0, room[1] - height * ds.scale) / 2) / ds.scale - y
      app.canvas.setDirty(true, true)
    })
  },
})
