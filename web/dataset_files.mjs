// Files that come from a drag, a file chooser or the clipboard: which side they are for, and why one cannot be taken.

import { SIDES, endingOf, stemOf } from "./dataset_rows.mjs"

const MEGABYTE = 1024 * 1024
const CAPTIONS = [".txt", ".caption", ".json"]
const MASK = /^(.+?)[-_. ](masklabel|mask|condlabel)$/i
const SHOWN = [".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".avif", ".gif"]

/** Whether a browser shows files of that name; the server reads some that none shows. */
export function isShown(name) {
  return SHOWN.includes(endingOf(name).toLowerCase())
}

async function inEntry(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed))
    return [{ file, path: entry.fullPath }]
  }
  const reader = entry.createReader()
  const found = []
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)) // at most 100 at a time
    if (!some.length) return found
    for (const inner of some) found.push(...(await inEntry(inner)))
  }
}

/** [{file, path}] of what was dropped or pasted, with the files inside folders. Call it in the event's own turn. */
export function filesOf(transfer) {
  const items = [...(transfer?.items ?? [])].filter((item) => item.kind === "file")
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? null)
  if (items.length && entries.every(Boolean)) return Promise.all(entries.map(inEntry)).then((lists) => lists.flat())
  return Promise.resolve([...(transfer?.files ?? [])].map((file) => ({ file, path: file.name })))
}

/** Whether a drag brings files from outside the page. */
export function bringsFiles(transfer) {
  return [...(transfer?.types ?? [])].includes("Files")
}

function folders(path) {
  return path.split("/").filter(Boolean).slice(0, -1)
}

/** The side that a folder of the path names, else `side`. */
function sideOf(path, side) {
  return folders(path).map((name) => name.toLowerCase()).findLast((name) => SIDES.includes(name)) ?? side
}

/** The name of the dataset in a path: the folder that holds a side's folder, else the innermost. */
function setOf(path) {
  const names = folders(path)
  const at = names.findLastIndex((name) => SIDES.includes(name.toLowerCase()))
  return (at < 0 ? names.at(-1) : names[at - 1]) ?? ""
}

/**
 * What is to be done with files: { sides: {side: [{file, caption}]}, name: of the dataset, homeless: [names] }. A text beside an
 * image of the same name is its caption.
 */
export function sortedOut(files, side) {
  const visible = files.filter(({ file }) => !file.name.startsWith("."))
  const key = (path) => path.slice(0, path.length - endingOf(path).length).toLowerCase()
  const isCaption = ({ file }) => CAPTIONS.includes(endingOf(file.name).toLowerCase())
  const images = visible.filter((one) => !isCaption(one))
  const beside = new Set(images.map(({ path }) => key(path)))
  const captions = new Map(visible.filter((one) => isCaption(one) && beside.has(key(one.path))).map((one) => [key(one.path), one.file]))
  const texts = visible.filter((one) => isCaption(one) && !beside.has(key(one.path)))
  const sides = {}
  const homeless = []
  for (const { file, path } of [...images, ...texts]) {
    const own = sideOf(path, side)
    if (own) (sides[own] ??= []).push({ file, caption: captions.get(key(path)) ?? null })
    else homeless.push(file.name)
  }
  return { sides, homeless, name: visible.map(({ path }) => setOf(path)).find(Boolean) ?? "" }
}

function megabytes(bytes) {
  const count = bytes / MEGABYTE
  return `${count < 10 ? count.toFixed(1) : Math.round(count)} MB`
}

/** Why a file is not taken, by its name and size; "" for one that may be. `limits` as the server lists them. */
export function refusal(file, limits, frames) {
  const { name, size, type = "" } = file
  const ending = endingOf(name).toLowerCase()
  const film = limits.clips.includes(ending) && ending !== ".gif"
  if ((film && !(frames > 1)) || (type.startsWith("video/") && !film))
    return film
      ? `${name} is a film, and this node reads single images. Drop images, or set frames above 1 for a video model.`
      : `${name} is a film of a kind that is not read. Save it as mp4, or drop images.`
  if (!film && ![...limits.images, ".gif"].includes(ending)) {
    const known = limits.images.map((one) => one.slice(1)).join(", ")
    return `${name} is ${CAPTIONS.includes(ending) ? "a text" : "no image that is read here"}. Drop images: ${known}.`
  }
  if (!size) return `${name} is empty. Save it again.`
  if (size > limits.bytes)
    return `${name} has ${megabytes(size)}, and ComfyUI takes ${megabytes(limits.bytes)}. Save it smaller, or start ComfyUI with a higher --max-upload-size.`
  return ""
}

/** Why a file is no image of its own: a mask of one of the `others`; "" where it is not. */
export function maskOf(file, others) {
  const owner = MASK.exec(stemOf(file.name))?.[1].toLowerCase()
  const name = owner && others.find((other) => stemOf(other.name).toLowerCase() === owner)?.name
  return name ? `${file.name} is a mask of ${name}. Put masks into the folder by hand.` : ""
}

/** Why a file that `refusal` lets pass is no image after all; "" when the browser can read it, or it is a film. */
export async function damage(file, limits, decode) {
  if (!isShown(file.name) || limits.clips.includes(endingOf(file.name).toLowerCase())) return ""
  let picture
  try {
    picture = await decode(file)
  } catch {
    return `${file.name} cannot be read as an image: it is damaged, or something else under this name. Save it again.`
  }
  const { width, height } = picture
  picture.close?.()
  if (width * height > limits.pixels) return `${file.name} is ${width} x ${height}, more than ${limits.pixels / 1e6} million pixels. Scale it down.`
  if (Math.min(width, height) < limits.side) return `${file.name} is ${width} x ${height}; ${limits.side} pixels a side are the least. Replace it.`
  return ""
}

/** Name of the clipboard's one image, which browsers call image.png every time. */
export function pastedName(name, number) {
  return /^image\.\w+$/.test(name) ? `pasted ${number}${endingOf(name)}` : `${stemOf(name)}${endingOf(name)}`
}

/** The ending of a file that the clipboard gives by its type alone. */
export function typed(file) {
  const known = { "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "image/bmp": ".bmp", "image/avif": ".avif", "image/gif": ".gif" }
  return endingOf(file.name) || !known[file.type] ? file : new File([file], `image${known[file.type]}`, { type: file.type })
}
