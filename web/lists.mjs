// The lists of files in ComfyUI's nodes, made anew when there is a new file: in every node that is there, or is made later. As R does.

const LATER_MS = 200 // several files that come together are one change
let waiting = 0 // a timer

/** List anew, once for all calls of a short time. */
export function renewLists(app) {
  clearTimeout(waiting)
  waiting = setTimeout(() => app.reloadNodeDefs?.(), LATER_MS)
}
