// How files come into a set of images: they are looked at, uploaded, and paired with those that wait. The server is given.

import { damage, maskOf, refusal, sortedOut } from "./dataset_files.mjs"
import { endingOf, isOnSide, nameOf, replacing, safeName, stemOf, TITLES, uploadNames } from "./dataset_rows.mjs"

const LIMITS = { images: [".png", ".jpg", ".jpeg", ".webp"], clips: [".gif"], bytes: 1e8, pixels: 1e8, side: 8 }

/** {looked, uploadSide, replace, keepPairs}; `say(text)` tells what is done, `fault(text)` what cannot be, `limits()` and `frames()` what is taken. */
export function makeIntake(server, { say, fault, limits, frames }) {
  /** The files that can be taken. */
  async function sound(files) {
    const allowed = limits() ?? LIMITS
    const taken = []
    for (const one of files) {
      const why = refusal(one.file, allowed, frames()) || maskOf(one.file, files.map(({ file }) => file)) || (await damage(one.file, allowed, server.decode))
      if (why) fault(why)
      else taken.push(one)
    }
    return taken
  }

  /** The files of each side that can be taken: {sides, name}. */
  async function looked(side, coming) {
    say("Looking at the files.")
    const { sides, homeless, name } = sortedOut(await coming, side)
    if (homeless.length) fault(`${homeless.slice(0, 3).join(", ")}: drop on more, less or leave alone, so that the side is known.`)
    const good = {}
    for (const [key, files] of Object.entries(sides)) {
      const taken = await sound(files)
      if (taken.length) good[key] = taken
    }
    return { sides: good, name }
  }

  /** The name under which the server took a file, its caption beside it; null where it did not. */
  async function upload({ file, caption }, name, subfolder) {
    let kept = null
    try {
      kept = await server.upload(file, name, subfolder)
      if (caption) await server.upload(caption, stemOf(kept) + endingOf(caption.name), subfolder)
    } catch (refused) {
      fault(refused.message)
    }
    return kept
  }

  /** The names of the files that the server took. */
  async function uploadSide(subfolder, side, files, table) {
    const names = uploadNames(table, side, files.map(({ file }) => file.name))
    const taken = []
    for (const [count, { place, name }] of names.entries()) {
      say(`${TITLES[side]}: ${count + 1} of ${files.length}, ${files[place].file.name}`)
      const kept = await upload(files[place], name, subfolder)
      if (kept) taken.push(kept)
    }
    return taken
  }

  /** Where the sides hold one file, which was put on the image `old` of a listed folder: it is uploaded to removed/, and this gives
   * { moves: by which they change places, words }; null for other files, which are added. */
  async function replace({ folder, subfolders }, table, sides, old) {
    const [[side, files], ...more] = Object.entries(sides)
    if (!old || more.length || files.length > 1 || !isOnSide(table, side, nameOf(old)) || !old.startsWith(`${side}/`)) return null
    const name = safeName(files[0].file.name)
    const kept = await upload(files[0], `${stemOf(name)} ${Date.now()}${endingOf(name)}`, subfolders.removed) // no other file's name
    const moves = kept ? replacing(table, old, `removed/${kept}`) : []
    return { moves, words: `${files[0].file.name} is in the place of ${nameOf(old)}, which is in ${folder}/removed now.` }
  }

  /** Files keep their own names while a training pairs them so; else partners get one name. What is said of the pairs. */
  async function keepPairs(folder, { moves, words }, listing) {
    if (!listing.editable || !moves.length) return words
    const { moved } = await server.move(folder, moves)
    const [from, to] = moved[0]
    const more = moved.length > 1 ? `, and ${moved.length - 1} more` : ""
    return ` So that pairs stay together, ${nameOf(from)} is now called ${nameOf(to)}${more}.`
  }

  return { looked, uploadSide, replace, keepPairs }
}
