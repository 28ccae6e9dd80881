// Run by tests/core/test_web.py, or by hand: node --test tests/web/
import assert from "node:assert/strict"
import test from "node:test"
import { choicesOf } from "../../web/dataset_choices.mjs"
import { damage, maskOf, refusal, sortedOut } from "../../web/dataset_files.mjs"
import { addedWords, exchanged, freeCell, freeFolder, isOnSide, joined, lookWords, movesOf, newSetWords, pairMoved, partnerOf, replacing, safeName, samePairs, tableOf, uploadNames, without, wordsOf } from "../../web/dataset_rows.mjs"
import { makeIntake } from "../../web/dataset_intake.mjs"
import { makePairing } from "../../web/dataset_pairing.mjs"
import { makeSteps } from "../../web/dataset_steps.mjs"

const named = tableOf({ rows: [["1.png", "1.jpg"], ["2.png", null]], neutral: ["n.png"], by_name: true })
const ordered = tableOf({ rows: [["a.png", "x.jpg"], ["b.png", "y.png"]], by_name: false })
const cell = (side, row) => ({ side, row })
const limits = { images: [".png", ".jpg"], clips: [".mp4", ".gif"], bytes: 100e6, pixels: 1e6, side: 8 }

test("a pair shares its name whatever is moved, and endings stay with their files", () => {
  assert.deepEqual(movesOf(named), [])
  assert.deepEqual(movesOf(ordered), [["negative/x.jpg", "negative/a.jpg"], ["negative/y.png", "negative/b.png"]])
  const cases = [
    [cell("positive", 0), cell("negative", 0), [["negative/1.jpg", "positive/1.jpg"], ["positive/1.png", "negative/1.png"]]],
    [cell("positive", 1), cell("negative", 1), [["positive/2.png", "negative/2.png"]]],
    [cell("positive", 0), cell("neutral", 0), [["neutral/n.png", "positive/1.png"], ["positive/1.png", "neutral/1.png"]]],
    [cell("neutral", 0), freeCell(named, "negative"), [["neutral/n.png", "negative/2.png"]]],
    [cell("neutral", 0), freeCell(named, "positive"), [["neutral/n.png", "positive/n.png"]]],
  ]
  for (const [from, to, moves] of cases) assert.deepEqual(movesOf(exchanged(named, from, to)), moves)
  assert.equal(movesOf(pairMoved(named, 0, 1)).length, 3)
  assert.equal(pairMoved(named, 0, -1), named)
})

test("an upload keeps its names, and fills places that wait in turn, unless a name says its partner", () => {
  const names = (table, side, files) => uploadNames(table, side, files).map(({ place, name }) => `${files[place]} ${name}`)
  assert.deepEqual(names(named, "negative", ["b.jpg", "a10.png", "a9.png"]), ["a9.png a9.png", "a10.png a10.png", "b.jpg b.jpg"])
  assert.deepEqual(names(named, "positive", ["1.png", "1.jpg"]), ["1.jpg 1 2.jpg", "1.png 1.png"])
  assert.deepEqual(names(named, "neutral", ["n.jpg", "1.png"]), ["1.png 1.png", "n.jpg n 2.jpg"])
  const pairs = (table) => table.rows.map(({ positive, negative }) => `${positive ?? ""} ${negative ?? ""}`.replace(/positive\/|negative\//g, ""))
  assert.deepEqual(pairs(joined(named, "negative", ["a9.png", "b.jpg"])), ["1.png 1.jpg", "2.png a9.png", " b.jpg"])
  assert.deepEqual(pairs(joined(named, "negative", ["0.png", "2.jpg"])), ["1.png 1.jpg", "2.png 2.jpg", " 0.png"])
  assert.deepEqual(pairs(joined(named, "negative", ["1.jpg"])), ["1.png 1.jpg", "2.png "], "the same picture once more")
  const three = tableOf({ rows: [["1.png", null], ["2.png", null], ["3.png", null]] })
  const mixed = joined(three, "negative", ["2.png", "3.png", "x.jpg"])
  assert.deepEqual(pairs(mixed), ["1.png x.jpg", "2.png 2.png", "3.png 3.png"])
  assert.deepEqual(movesOf(mixed), [["negative/x.jpg", "negative/1.jpg"]])
  assert.deepEqual(joined(named, "neutral", ["n.png", "m.png"]).neutral, ["neutral/n.png", "neutral/m.png"])
  assert.ok(samePairs(mixed, { ...mixed, rows: mixed.rows.toReversed() }))
  assert.ok(!samePairs(mixed, three))
})

test("files that were there already are not said to be added", () => {
  assert.deepEqual([isOnSide(named, "negative", "1.jpg"), isOnSide(named, "negative", "1.png"), isOnSide(named, "neutral", "n.png")], [true, false, true])
  assert.ok(addedWords(2, 0).startsWith("2 files added"))
  for (const [words, counts] of [[addedWords(0, 2), [2]], [addedWords(1, 2), [1, 2]]]) assert.deepEqual(words.match(/\d+/g).map(Number), counts)
  assert.ok(addedWords(0, 1).startsWith("Nothing"))
})

test("what is left of pairs in order is named when one of a pair goes", () => {
  assert.deepEqual(movesOf(without(ordered, ["positive/a.png"])), [["negative/x.jpg", "negative/a.jpg"], ["negative/y.png", "negative/b.png"]])
  assert.equal(without(ordered, ["positive/a.png", "negative/x.jpg"]).rows.length, 1)
  assert.deepEqual(without(named, ["neutral/n.png"]).neutral, [])
})

test("names are safe, folders are new, and the doctor's words find their pair", () => {
  assert.equal(safeName("a..b.png"), "a.b.png")
  assert.equal(freeFolder("smile", ["Smile", "demo: smile"]), "smile 2")
  assert.equal(freeFolder("../", []), "my slider")
  assert.equal(freeFolder(" my/smile ", ["smile"]), "my/smile", "folders are made")
  assert.equal(freeFolder("My\\a..b/smile.", ["my/A.B/smile"]), "My/a.b/smile 2")
  assert.equal(freeFolder("/../my/./smile", []), "my/smile", "nothing leads out of the folder")
  assert.equal(freeFolder("smile/broad", ["Smile"]), "smile_broad", "in a set no other is listed")
  assert.equal(freeFolder("a/b/c/d", []), "a_b_c_d", "so deep none is listed")
  assert.equal(freeFolder("my/Positive", []), "my_Positive", "else my would be a set")
  assert.deepEqual(wordsOf(named, [{ positive: "1.png", negative: "1.jpg", words: ["w"] }]), [["w"], []])
})

test("the doctor's headline names the rows in which something was found, and says that the whole set has remarks", () => {
  const said = (positive, negative, ...words) => ({ positive, negative, words })
  const both = [said("b.png", "y.png", "w", "v"), said("a.png", "x.jpg", "w")]
  assert.equal(lookWords(ordered, both, []), "2 pairs need a look: 1, 2.")
  assert.equal(lookWords(ordered, [said("a.png", "x.jpg"), both[0]], ["few"]), "1 pair needs a look: 2. 1 remark on the whole set.")
  assert.equal(lookWords(ordered, [said("a.png", "x.jpg"), said("b.png", "y.png")], []), "")
  assert.equal(lookWords({ rows: [] }, [said("c.png", "c.png", "w")], []), "1 pair needs a look: c.png.", "a dataset file has no rows")
  const many = tableOf({ rows: Array.from({ length: 9 }, (_, i) => [`${i}.png`, `${i}.png`]) })
  const words = lookWords(many, Array.from({ length: 9 }, (_, i) => said(`${i}.png`, `${i}.png`, "w")), [])
  assert.equal(words, "9 pairs need a look: 1, 2, 3, 4, 5, 6 and 3 more.")
})

test("a new set says its free name, and what the node gives until it has images", () => {
  const words = newSetWords(" smile ", ["Smile", "grin"], "grin")
  assert.ok(words.includes('"smile 2"') && words.includes('"grin"'))
  assert.ok(newSetWords("my/smile", ["smile"], "none").includes('"my/smile"'))
  assert.ok(!newSetWords(" ", ["my slider"], "grin").includes("my slider"), "a dropped folder may name it")
})

test("a folder's sides and captions are taken as they are; the rest goes where it was dropped", () => {
  const file = (path) => ({ path, file: { name: path.split("/").at(-1) } })
  const files = ["/smile/positive/1.png", "/smile/positive/1.txt", "/smile/Negative/1.png", "/smile/.DS_Store", "/smile/3.png"].map(file)
  const { sides, homeless, name } = sortedOut(files, null)
  assert.deepEqual(Object.keys(sides), ["positive", "negative"])
  assert.equal(sides.positive[0].caption.name, "1.txt")
  assert.deepEqual([homeless, name], [["3.png"], "smile"])
})

test("what cannot be taken is refused with its name", async () => {
  const file = (name, size = 5, type = "") => ({ name, size, type })
  for (const bad of [file("a.mp4"), file("a.avi", 5, "video/x"), file("a.txt"), file("a.heic"), file("a.png", 0), file("a.png", 200e6)])
    assert.ok(refusal(bad, limits, 1).startsWith(bad.name), bad.name)
  for (const good of [file("a.PNG"), file("a.gif")]) assert.equal(refusal(good, limits, 1), "")
  assert.equal(refusal(file("a.mp4"), limits, 9), "")
  assert.match(maskOf(file("a_mask.png"), [file("a.jpg"), file("a_mask.png")]), /^a_mask\.png .*a\.jpg/)
  assert.equal(maskOf(file("a_mask.png"), [file("a_mask.png")]), "")
  const size = (width, height) => async () => ({ width, height })
  assert.equal(await damage(file("a.png"), limits, size(64, 64)), "")
  for (const decode of [size(4, 64), size(2000, 2000), async () => Promise.reject(new Error())])
    assert.match(await damage(file("a.png"), limits, decode), /^a\.png/)
})

test("how images are read is what the widgets of the node say, and of the options at its input where these are run", () => {
  const node = (type, values, sources = {}, mode = 0) => ({
    type, comfyClass: type, mode, widgets: Object.entries(values).map(([name, value]) => ({ name, value })),
    inputs: Object.entries(sources).map(([name, source]) => ({ name, link: source && 1 })), getInputNode: (slot) => Object.values(sources)[slot],
  })
  const options = (mode) => node("SliderDatasetOptions", { flip: true, alpha: "color", "alpha.background": "#000000", button: null }, {}, mode)
  const load = (sources) => choicesOf(node("LoadSliderDataset", { folder: "f", caption: "a face" }, sources))
  const read = { flip: true, alpha: "color", "alpha.background": "#000000", caption: "a face" }
  assert.deepEqual(load({ caption: null, options: options(0) }), read)
  assert.deepEqual(load({ options: node("Reroute", {}, { "": options(0) }) }), read)
  for (const other of [null, options(2), options(4), node("Other", { flip: true })]) assert.deepEqual(load({ options: other }), { caption: "a face" })
  assert.deepEqual(load({ caption: node("PrimitiveString", { value: "linked" }) }), { caption: "linked" })
  assert.deepEqual(load({ caption: node("Other", { value: "unknown" }) }), {})
})

test("a change can be taken back while the images are as it left them, and once", () => {
  const steps = makeSteps()
  const after = { folder: "smile", stamps: { "positive/1.png": "a", "negative/1.png": "b" } }
  const same = { folder: "smile", stamps: { "negative/1.png": "b", "positive/1.png": "a" } }
  const other = { folder: "smile", stamps: { "positive/1.png": "b", "negative/1.png": "a" } }
  const undo = [["removed/positive 2.png", "positive/2.png"]]
  steps.keep(after, undo, "gone")
  assert.equal(steps.of({ ...after, folder: "grin" }), null)
  assert.deepEqual([steps.of(same).undo, steps.of(same).done], [undo, "gone"])
  assert.equal(steps.of(other), null)
  assert.equal(steps.of(after), null, "an older one does not come back")
  steps.keep(after, undo, "gone")
  steps.keep(after, [], "Undone.")
  assert.equal(steps.of(after), null)
  steps.keep(after, undo, "gone")
  steps.forget("smile")
  assert.equal(steps.of(after), null)
})

test("a file that was put into an empty place comes there, whatever its name and whoever waits", () => {
  const table = tableOf({ rows: [["1.png", null], ["2.png", null], ["3.png", "3.png"]] })
  assert.deepEqual([[0, "negative"], [2, "negative"], [0, "positive"]].map(([row, side]) => partnerOf(table, cell(side, row))), ["positive/1.png", null, null])
  const partners = (names, beside) => joined(table, "negative", names, beside).rows.map(({ negative }) => negative)
  assert.deepEqual(partners(["1.jpg"], "positive/2.png"), [null, "negative/1.jpg", "negative/3.png"])
  assert.deepEqual(movesOf(joined(table, "negative", ["1.jpg"], "positive/2.png")), [["negative/1.jpg", "negative/2.jpg"]])
  assert.deepEqual(partners(["1.jpg"], "positive/gone.png"), ["negative/1.jpg", null, "negative/3.png"])
  assert.deepEqual(partners(["1.jpg", "x.jpg"], "positive/2.png"), ["negative/1.jpg", "negative/x.jpg", "negative/3.png"])
})

test("a file that was put on an image takes its place and name, whatever its own, and the pairs stay", () => {
  const by = "removed/new 17.webp"
  assert.deepEqual(replacing(named, "positive/1.png", by), [["positive/1.png", "removed"], [by, "positive/1.webp"]])
  assert.deepEqual(replacing(named, "positive/1.png", "removed/new.png")[1], ["removed/new.png", "positive/1.png"])
  assert.deepEqual(replacing(ordered, "negative/y.png", by)[1], [by, "negative/y.webp"])
  assert.deepEqual(replacing(named, "neutral/n.png", by)[1], [by, "neutral/n.webp"])
  const twice = tableOf({ rows: [["1.jpg", "a.png"], ["1.png", "b.png"]], neutral: ["n.jpg", "n.png"], by_name: false })
  const moves = replacing(twice, "positive/1.png", "removed/new.bmp")
  assert.deepEqual(moves, [["positive/1.png", "removed"], ["negative/a.png", "negative/1.png"], ["removed/new.bmp", "positive/1 2.bmp"], ["negative/b.png", "negative/1 2.png"]])
  assert.deepEqual(replacing(twice, "neutral/n.png", "removed/new.jpg")[1], ["removed/new.jpg", "neutral/n 2.jpg"])
})

test("one file alone replaces the image that it was put on, and waits in removed/ until they change places", async () => {
  const listing = { folder: "f", subfolders: { removed: "f/removed" } }
  const uploads = []
  const faults = []
  const upload = async (file, name, subfolder) => {
    if (file.name === "no.png") throw new Error("refused")
    uploads.push([subfolder, name])
    return name
  }
  const { replace } = makeIntake({ upload }, { fault: (text) => faults.push(text) })
  const one = (name, caption = null) => ({ file: { name }, caption })
  const put = (sides, old = "positive/1.png") => replace(listing, named, sides, old)
  const { moves, words } = await put({ positive: [one("1.png", { name: "1.txt" })] })
  const [[folder, name], caption] = uploads
  assert.equal(folder, "f/removed")
  assert.match(name, /^1 \d+\.png$/)
  assert.deepEqual(caption, ["f/removed", name.replace(".png", ".txt")])
  assert.deepEqual(moves, [["positive/1.png", "removed"], [`removed/${name}`, "positive/1.png"]])
  assert.ok(words.includes("f/removed"))
  const others = [{ positive: [one("a.png"), one("b.png")] }, { negative: [one("a.png")] }, { positive: [one("a.png")], negative: [one("b.png")] }]
  for (const sides of others) assert.equal(await put(sides), null)
  assert.equal(await put({ positive: [one("a.png")] }, "positive/gone.png"), null)
  assert.equal(await put({ positive: [one("a.png")] }, null), null)
  assert.deepEqual((await put({ positive: [one("no.png")] })).moves, [])
  assert.deepEqual(faults, ["refused"])
})

const inOrder = (more, less) => ({ rows: Array.from({ length: Math.max(more.length, less.length) }, (_, n) => [more[n] ?? null, less[n] ?? null]), by_name: false })
const flowers = (kind, numbers) => numbers.map((n) => `flower ${n} ${kind}.png`)

/** What follows when `names` come to a side of a set, whose listing is `after` then. */
function coming(pairing, listing, side, names, after, beside = null) {
  const before = tableOf(listing)
  return pairing.come("f", { before, joined: joined(before, side, names, beside), chosen: Boolean(beside) }, after)
}

test("a forgotten image that comes to the short side pairs all anew, and renames none", () => {
  const [open, right] = [flowers("open", [1, 2, 3, 4, 5]), flowers("closed", [1, 2, 3, 4, 5])]
  const lacking = (...numbers) => inOrder(open, flowers("closed", numbers))
  const whole = inOrder(open, right)
  const anew = (listing, side, names, after) => {
    const { moves, words } = coming(makePairing(), listing, side, names, after)
    assert.deepEqual(moves, [])
    return words.includes("anew")
  }
  assert.ok(anew(lacking(1, 2, 4, 5), "negative", flowers("closed", [3]), whole))
  assert.ok(anew(lacking(1, 4), "negative", flowers("closed", [2, 3, 5]), whole), "several at once")
  assert.ok(!anew(lacking(1, 2, 3, 4), "negative", flowers("closed", [5]), whole), "no pair is another")
  const begun = { ...inOrder(open, []), by_name: true }
  assert.ok(!anew(begun, "negative", right, whole), "both sides one after the other")
  assert.ok(!anew({}, "positive", open, begun))
  assert.ok(anew(inOrder(flowers("open", [1, 2, 4]), flowers("closed", [2])), "positive", flowers("open", [0]), inOrder(flowers("open", [0, 1, 2, 4]), flowers("closed", [2]))), "the long side")
})

test("a place that was chosen counts, and so do shared names and the pairs of a set that was complete", () => {
  const open = flowers("open", [1, 2, 3])
  const lacking = inOrder(open, flowers("closed", [1, 3]))
  const chosen = coming(makePairing(), lacking, "negative", flowers("closed", [2]), inOrder(open, flowers("closed", [1, 2, 3])), "positive/flower 3 open.png")
  assert.deepEqual(chosen.moves.find(([from]) => from.includes("2 closed")), ["negative/flower 2 closed.png", "negative/flower 3 open.png"])

  const shared = { rows: [["b.png", "b.jpg"], ["c.png", null]], by_name: true }
  const late = coming(makePairing(), shared, "negative", ["a.jpg"], inOrder(["b.png", "c.png"], ["a.jpg", "b.jpg"]))
  assert.deepEqual(late.moves, [["negative/a.jpg", "negative/c.jpg"]])

  const pairing = makePairing()
  const [two, three] = [inOrder(["p.png", "q.png"], ["x.png", "y.png"]), inOrder(["p.png", "q.png", "z.png"], ["x.png", "y.png"])]
  assert.deepEqual(coming(pairing, two, "positive", ["z.png"], three), { moves: [], words: "" })
  const full = coming(pairing, three, "negative", ["a.png"], inOrder(["p.png", "q.png", "z.png"], ["a.png", "x.png", "y.png"]))
  assert.deepEqual(full.moves, [["negative/x.png", "negative/p.png"], ["negative/y.png", "negative/q.png"], ["negative/a.png", "negative/z.png"]])
  assert.deepEqual(pairing.go("f", tableOf(three), ["negative/x.png"], false).moves, [["negative/y.png", "negative/q.png"]])
})

test("an image that goes from a set that lacks one leaves the names, and one of a complete set the pairs", () => {
  const open = flowers("open", [1, 2, 3, 4, 5])
  const lacking = tableOf(inOrder(open, flowers("closed", [1, 2, 4, 5])))
  const gone = makePairing().go("f", lacking, ["positive/flower 3 open.png"], false)
  assert.deepEqual([gone.moves, gone.words.includes("anew")], [[], true])
  assert.deepEqual(makePairing().go("f", lacking, ["positive/flower 5 open.png"], false), { moves: [], words: "" })
  assert.equal(makePairing().go("f", ordered, ["positive/a.png"], false).moves.length, 2)
  assert.deepEqual(makePairing().go("f", named, ["positive/1.png"], true).moves, [])
})
