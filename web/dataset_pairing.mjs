// Which pairs stay when images come or go. Where only the order of names has paired a set that lacks images, all are paired anew, but
// for the pairs of when it was complete. No page, no network.

import { anewWords, isLoose, movesOf, pairedAnew, pairsInBoth, samePairs, tableOf, without } from "./dataset_rows.mjs"

/** {come, go}: each gives { moves: [[from, to], ...] that keep the pairs together, words: what is said where some are others }. */
export function makePairing() {
  const complete = new Map() // folder -> its table when last each image had a partner, or names said the pairs

  function keptPairs(folder, before) {
    const then = complete.get(folder)
    return then ? pairsInBoth(then, before) : []
  }

  /** Files have come to the table `before`, and the folder is as `listing` says; `joined`: the table with them, `chosen`: their place was. */
  function come(folder, { before, joined, chosen }, listing) {
    const listed = tableOf(listing)
    const loose = isLoose(before)
    if (!loose) complete.set(folder, before)
    const table = loose && !chosen ? pairedAnew(listed, keptPairs(folder, before)) : joined
    const moves = samePairs(listed, table) ? [] : movesOf(table)
    return { moves, words: moves.length ? "" : anewWords(before, listed) }
  }

  /** Images at some places go from the table `before`, which the folder's listing says to be paired `byName` or in order. */
  function go(folder, before, places, byName) {
    const rest = without(before, places)
    const inOrder = pairedAnew(rest)
    const lacks = rest.rows.some((row) => !(row.positive && row.negative))
    if (byName || !lacks) return { moves: [], words: "" }
    if (!isLoose(before)) return { moves: movesOf(rest), words: "" }
    const table = pairedAnew(rest, pairsInBoth({ rows: keptPairs(folder, before) }, rest))
    const moves = samePairs(inOrder, table) ? [] : movesOf(table)
    return { moves, words: moves.length ? "" : anewWords(rest, inOrder) }
  }

  return { come, go }
}
