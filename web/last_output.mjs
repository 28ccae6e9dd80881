// What a node showed last, found again when its graph is opened anew. No page, no ComfyUI; tested with `node --test`.

import { nodeAt } from "./live.mjs"
import { isSame } from "./runs.mjs"

export const FAILED = "slider_lora.failed" // the event that brings the error of a run before
let now = false // whether what a node is given was shown before

/** Whether the output that a node is given just now is one of an earlier run, shown again. */
export function isRestoring() {
  return now
}

/** Call `give` so that the nodes know that what they get was shown before. */
export function restoring(give) {
  now = true
  try {
    give()
  } finally {
    now = false
  }
}

/** Whether a run was of a graph, by their ids; null where one says none: an API file names no workflow. */
const isNamedAs = (record, root) => isSame(record?.prompt?.[3]?.extra_pnginfo?.workflow?.id, root?.id)

/** Whether a run was of a graph: by their ids; where one says none, by the run's nodes, which are all in the graph then. */
function isOf(record, root) {
  const same = isNamedAs(record, root)
  if (same !== null) return same
  return Object.entries(record?.prompt?.[2] ?? {}).every(([id, { class_type }]) => nodeAt(root, id)?.comfyClass === class_type)
}

/** The runs of a graph in the server's history (prompt id -> record), the newest first. */
function runsOf(history, root) {
  const runs = Object.values(history ?? {}).filter((record) => isOf(record, root))
  return runs.sort((a, b) => (Number(b.prompt?.[0]) || 0) - (Number(a.prompt?.[0]) || 0))
}

/** Whether a node has the values that it ran with; `values` holds links too, of which no widget tells. */
function isAsItRan(node, values) {
  return (node?.widgets ?? []).every(({ name, value }) => [value, undefined].includes(values[name]) || Array.isArray(values[name]))
}

/**
 * The error with which the newest run of a graph ended, as ComfyUI told it, and the values of its node's widgets; else null. Of a run
 * that may be of another graph with the same nodes, only where its node has those values still.
 */
export function lastError(history, root) {
  const [run] = runsOf(history, root)
  const [, detail] = run?.status?.messages?.find(([kind]) => kind === "execution_error") ?? []
  if (!detail) return null
  const values = run.prompt?.[2]?.[detail.node_id]?.inputs ?? {}
  return isNamedAs(run, root) || isAsItRan(nodeAt(root, detail.node_id), values) ? { ...detail, values } : null
}

/** What each node of a graph showed last: id of its execution -> {kind, output}. */
export function lastOutputs(history, root) {
  const found = new Map()
  for (const { prompt, outputs } of runsOf(history, root))
    for (const [id, output] of Object.entries(outputs ?? {}))
      if (!found.has(id)) found.set(id, { kind: prompt?.[2]?.[id]?.class_type, output })
  return found
}

/** All nodes of a graph and of the subgraphs in it. */
export function allNodes(graph) {
  const nodes = [...(graph?.nodes ?? graph?._nodes ?? [])]
  return nodes.flatMap((node) => [node, ...(node.subgraph ? allNodes(node.subgraph) : [])])
}

/** The id under which the page keeps a node's output: its own, or with its subgraph's. */
export function locatorOf(node, root) {
  return node.graph === root ? String(node.id) : `${node.graph?.id}:${node.id}`
}

/** [node, id, output] of the nodes that the page keeps nothing of, by what lastOutputs has found. `isGiven(node)`: whether one is asked for. */
export function missing(root, kept, found, isGiven) {
  const nodes = [...found].map(([id, { kind, output }]) => [nodeAt(root, id), id, output, kind])
  return nodes.filter(([node, , , kind]) => node && node.comfyClass === kind && isGiven(node) && !kept?.[locatorOf(node, root)])
}
