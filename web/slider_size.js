// A node keeps the height that it was saved with: where one of its fields is a menu that brings fields of its own, ComfyUI makes it
// as low as it can be whenever it is loaded. In Nodes 2.0 it then is not what undo has kept, which costs the redo.

import { app } from "../../scripts/app.js"
import { isOfPack } from "./of_pack.mjs"

const MENU = "COMFY_DYNAMICCOMBO_V3"

function hasMenu(node) {
  const { required = {}, optional = {} } = node.constructor.nodeData?.input ?? {}
  return Object.values({ ...required, ...optional }).some(([kind]) => kind === MENU)
}

app.registerExtension({
  name: "sliderlora.size",
  nodeCreated(node) {
    if (!isOfPack(node) || !hasMenu(node)) return
    const before = node.onConfigure
    node.onConfigure = function (saved) {
      const result = before?.apply(this, arguments)
      const { 0: width, 1: height } = saved?.size ?? this.size
      this.setSize([width, Math.max(height, this.computeSize()[1])])
      return result
    }
  },
})
