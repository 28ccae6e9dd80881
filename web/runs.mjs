// Which workflow a run is of. ComfyUI gives the events of every run to the workflow that is open, and the nodes of two workflows share
// their ids. No page, no ComfyUI; tested with `node --test`.

/** Whether a graph's id says which workflow it is: one that came from an API file has none, or only zeros. */
export function tells(id) {
  return Boolean(id) && !/^[0-]+$/.test(id)
}

/** Whether two ids are those of one workflow; null where one of them says none. */
export function isSame(one, other) {
  return tells(one) && tells(other) ? one === other : null
}

/** The runs that this page has queued, in a map that it keeps over a reload: their prompts' ids, and their workflows'. */
export function makeRuns(kept) {
  return {
    /** A run was queued for a graph. */
    add(prompt, graph) {
      if (prompt && tells(graph)) kept.set(prompt, graph)
    },
    /** Whether a run is of the open graph; null where that is not known: somebody else has queued it, or the graph has no id. */
    isOf: (prompt, graph) => isSame(prompt && kept.get(prompt), graph),
  }
}
