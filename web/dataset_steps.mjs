// The last change of each set of images that a panel has made, for as long as it can be taken back. No page, no network.

const imagesOf = ({ stamps = {} }) => JSON.stringify(Object.entries(stamps).sort())

/** Whether two listings of the server are of one folder with the same images in the same places. */
export function isSameSet(one, other) {
  return one.folder === other.folder && imagesOf(one) === imagesOf(other)
}

/** {keep, of, forget}: a step is { undo: [[from, to], ...], done: what was said of it }. */
export function makeSteps() {
  const last = new Map() // folder -> step, and the images as it left them

  /** The step after which the server lists a folder so; none where there is nothing to take back. */
  function keep(listing, undo, done) {
    last.delete(listing.folder)
    if (undo.length) last.set(listing.folder, { undo, done, listing })
  }

  /** The step of a listed folder, or null: where its images are others now, there is none any more. */
  function of(listing) {
    const step = last.get(listing.folder)
    if (!step) return null
    if (isSameSet(step.listing, listing)) return step
    last.delete(listing.folder)
    return null
  }

  return { keep, of, forget: (folder) => last.delete(folder) }
}
