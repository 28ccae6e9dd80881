"""Write a UI-format workflow from an API-format prompt and a layout, made by the real frontend in a real browser.

    python tools/make_workflow.py prompt.json layout.json workflows/name.json --strip tools/workflows/strips/name.jpg --run 400

prompt.json   {"1": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["2", 0]}}, ...}
layout.json   {"nodes":  {"1": {"box": [x, y, w, h], "title": "...", "color": "#232", "bgcolor": "#353", "collapsed": false,
                               "muted": false, "labels": {"ckpt_name": "checkpoint"},
                               "models": [{"name": "...", "directory": "vae", "url": "https://..."}]}},
               "groups": [{"title": "...", "box": [x, y, w, h], "color": "#3f789e"}],
               "label":  "...",  large on its thumbnail (make_thumbnails.py)
               "extra":  {"linearMode": true, "linearData": {"inputs": [["1", "folder"]], "outputs": ["6"]}},
               "notes":  [{"box": [x, y, w, h], "text": "# Markdown", "title": "...", "color": "...", "bgcolor": "..."}]}
              every key is optional, and a node may be given as a bare [x, y, w, h]; positions are those of the node's body, the
              30 px title bar lies above it; a box smaller than the node's own least size grows. A muted node is there to be
              switched on later; `labels` are shown in place of the names of inputs, also in an App; for models that a node needs
              and that are absent, ComfyUI offers a download.

The order of widget values, the slots of dynamic inputs and the link ids are the frontend's own. Before the file is written it is
loaded again, and the prompt that the frontend makes of it is compared with the one that came in; a difference is an error.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

import harness  # noqa: E402
from rings import find_chromium, find_comfyui, obstacle_e2e  # noqa: E402

WIDE = 1.3  # of a strip: width over height
SIZE, TITLE = "slider_lora_size", 30
FIXED_SEED = "fixed"  # a template must give its author's pictures every time
ARRANGE = """([layout, fixed]) => {
    const graph = window.app.graph;
    const dress = (node, look) => {
        const box = Array.isArray(look) ? look : look.box;
        if (look.title) node.title = look.title;
        if (look.color) node.color = look.color;
        if (look.bgcolor) node.bgcolor = look.bgcolor;
        if (box) {
            const least = node.computeSize();
            node.pos = [box[0], box[1]];
            node.setSize([Math.max(box[2] ?? 0, least[0]), Math.max(box[3] ?? 0, least[1])]);
        }
        if (look.collapsed) node.collapse(true);
        if (look.muted) node.mode = window.LiteGraph.NEVER;
        for (const [name, label] of Object.entries(look.labels ?? {}))
            node.inputs.find(input => input.widget?.name === name).label = label;
        if (look.models) node.properties.models = look.models;
    };
    for (const node of graph._nodes)
        for (const widget of node.widgets ?? [])
            if (widget.name === 'control_after_generate') widget.value = fixed;
    for (const [id, look] of Object.entries(layout.nodes ?? {})) {
        const node = graph._nodes.find(n => String(n.id) === id);
        if (!node) throw new Error(`the layout names node ${id}, which the prompt does not have`);
        dress(node, look);
    }
    for (const note of layout.notes ?? []) {
        const node = window.LiteGraph.createNode('MarkdownNote');
        graph.add(node);
        node.widgets[0].value = note.text ?? '';
        dress(node, note);
    }
    for (const {title, box, color} of layout.groups ?? []) {
        const group = new window.LiteGraph.LGraphGroup(title ?? '');
        group.pos = [box[0], box[1]];
        group.size = [box[2], box[3]];
        if (color) group.color = color;
        graph.add(group);
    }
    graph.setDirtyCanvas(true, true);
}"""
PROMPT = """async () => Object.fromEntries(Object.entries((await window.app.graphToPrompt()).output)
    .map(([id, node]) => [id, {class_type: node.class_type, inputs: node.inputs}]))"""


def build(page: Page, prompt: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """The serialized graph of `prompt`, laid out; also left open on the page."""
    page.evaluate("prompt => window.app.loadApiJson(prompt, 'workflow')", prompt)
    harness.settle(page)
    if unknown := harness.unknown_nodes(page):
        raise SystemExit(f"make_workflow: ComfyUI knows no node of type {', '.join(unknown)}")
    page.evaluate(ARRANGE, [layout, FIXED_SEED])
    harness.settle(page)
    graph: dict[str, Any] = page.evaluate("() => JSON.parse(JSON.stringify(window.app.graph.serialize()))")
    extra = graph.setdefault("extra", {})
    extra.pop("ds", None)  # the author's view
    extra |= {SIZE: size_of(graph)} | layout.get("extra", {})
    return graph


def size_of(graph: dict[str, Any]) -> list[float]:
    """[x, y, width, height] of all nodes with their titles, for web/slider_view.js."""
    boxes = [(*n["pos"][:2], *n["size"][:2]) for n in graph["nodes"]]
    left, top = min(x for x, *_ in boxes), min(y for _, y, *_ in boxes) - TITLE
    return [left, top, max(x + w for x, _, w, _ in boxes) - left, max(y + h for _, y, _, h in boxes) - top]


def awake(prompt: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """What of the prompt runs: without the nodes that the layout mutes, and without what is linked to them."""
    muted = {i for i, look in layout.get("nodes", {}).items() if isinstance(look, dict) and look.get("muted")}
    kept = {i: node for i, node in prompt.items() if i not in muted}
    linked = {i: [k for k, v in node["inputs"].items() if isinstance(v, list) and v[0] in muted] for i, node in kept.items()}
    return {i: node | {"inputs": {k: v for k, v in node["inputs"].items() if k not in linked[i]}} for i, node in kept.items()}


def differences(wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    """What of the prompt was lost or changed; inputs that the frontend adds with their defaults are no difference."""
    lines = [f"node {i} is missing" for i in wanted if i not in got] + [f"node {i} is new" for i in got if i not in wanted]
    for i in wanted.keys() & got.keys():
        if wanted[i]["class_type"] != got[i]["class_type"]:
            lines.append(f"node {i} became a {got[i]['class_type']}")
        inputs, now = wanted[i]["inputs"], got[i]["inputs"]
        lines += [f"node {i}, input {k}: {v!r} became {now.get(k)!r}" for k, v in inputs.items() if now.get(k) != v]
    return sorted(lines)


def added(wanted: dict[str, Any], got: dict[str, Any]) -> list[str]:
    return sorted(f"{i}.{k} = {v!r}" for i in wanted for k, v in got[i]["inputs"].items() if k not in wanted[i]["inputs"])


def resized(page: Page, graph: dict[str, Any]) -> list[str]:
    """Nodes that the frontend loads in another size than was saved (it shrinks those with a dynamic combo to their content)."""
    sizes = page.evaluate("() => Object.fromEntries(window.app.graph._nodes.map(n => [n.id, [...n.size]]))")
    pairs = [(n, n["size"], sizes[str(n["id"])]) for n in graph["nodes"]]
    changed = [(n, a, b) for n, a, b in pairs if max(abs(a[0] - b[0]), abs(a[1] - b[1])) > 1]
    return [f"{n['id']} {n['type']}: {a} loads as {b}" for n, a, b in changed]


def make(page: Page, prompt: dict[str, Any], layout: dict[str, Any]) -> dict[str, Any]:
    """Build, load what was built, compare. Raises SystemExit with every difference."""
    graph = build(page, prompt, layout)
    harness.load_workflow(page, graph)
    prompt, got = awake(prompt, layout), page.evaluate(PROMPT)
    if lines := differences(prompt, got):
        raise SystemExit("make_workflow: the workflow does not give the prompt back:\n  " + "\n  ".join(lines))
    if errors := harness.page_errors(page):
        raise SystemExit("make_workflow: errors in the page:\n" + "\n".join(errors))
    if sizes := resized(page, graph):
        sys.stdout.write("make_workflow: nodes that do not keep their size when loaded:\n  " + "\n  ".join(sizes) + "\n")
    if extra := added(prompt, got):
        sys.stdout.write("make_workflow: inputs not named in the prompt took their defaults:\n  " + "\n  ".join(extra) + "\n")
    return graph


def strip_of(server: harness.Server, page: Page, limit_s: float) -> Image.Image:
    """Run the open graph: the largest wide picture that a sweep, a preview or a training has shown, or the largest; those of one
    node side by side."""
    result = harness.run_and_wait(page, limit_s)
    if not result.ok:
        raise SystemExit(f"make_workflow: {result}")
    (run,) = server.get("/history?max_items=1").values()
    outputs = run["outputs"].values()
    shown = [[image for image in output.get("images", ()) if image["type"] == "temp"] for output in outputs]
    shown += [[output["slider_train"][0]["strip"]] for output in outputs if output.get("slider_train", [{}])[0].get("strip")]
    rows = [[server.base / "temp" / image["subfolder"] / image["filename"] for image in row] for row in shown if row]
    return max(map(side_by_side, rows), key=lambda image: (image.width > WIDE * image.height, image.width * image.height))


def side_by_side(files: Sequence[Path]) -> Image.Image:
    """The pictures of one node, as high as the first."""
    pictures = [Image.open(file).convert("RGB") for file in files]
    height = pictures[0].height
    pictures = [p.resize((round(p.width * height / p.height), height)) for p in pictures]
    whole = Image.new("RGB", (sum(p.width for p in pictures), height))
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width
    return whole


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", type=Path)
    parser.add_argument("layout", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--run", type=float, metavar="SECONDS", help="run the graph for its strip, with this limit")
    parser.add_argument("--strip", type=Path, help="where the strip goes, for make_thumbnails.py")
    parser.add_argument("--window", type=int, nargs=2, default=(1600, 1000), metavar=("W", "H"), help="browser size, pixels")
    parser.add_argument("--pack", type=Path, default=ROOT, help="the node pack's folder (default: this checkout)")
    parser.add_argument("--no-pack", action="store_true", help="ComfyUI's own nodes only")
    parser.add_argument("--vue", action="store_true", help="lay out with Vue nodes instead of the canvas ones")
    args = parser.parse_args()
    if args.run and not args.strip:
        parser.error("--run draws a strip: say with --strip where it goes")
    return args


def main() -> int:
    args = arguments()
    if reason := obstacle_e2e():
        raise SystemExit(f"make_workflow: {reason}")
    prompt, layout = (json.loads(p.read_text(encoding="utf-8")) for p in (args.prompt, args.layout))
    packs = {} if args.no_pack else {harness.PACK: args.pack}
    settings = {"Comfy.VueNodes.Enabled": args.vue}
    with (
        tempfile.TemporaryDirectory() as base,
        harness.serve(find_comfyui(), Path(base), packs, harness.BUILD / "make-workflow-server.log") as server,
        harness.browse(server, find_chromium(), settings, tuple(args.window)) as page,
    ):
        graph = make(page, prompt, layout)
        if args.run:
            strip_of(server, page, args.run).save(args.strip, quality=92)
    graph.pop("id", None)  # each time that it is opened it is a graph of its own, and shows no pictures of another's run
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(graph, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"make_workflow: {args.out} with {len(graph['nodes'])} nodes and {len(graph['links'])} links\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
