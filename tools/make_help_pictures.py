"""Draw the pictures of the help pages: nodes on ComfyUI's own canvas after a run of a bundled workflow.

    python tools/make_help_pictures.py            all of them, into web/docs/pictures; and docs/images/canvas.png
    python tools/make_help_pictures.py xy bucket  some

It needs what the e2e ring needs. ComfyUI serves web/docs, and a help page names a picture relative to itself.
"""

from __future__ import annotations

import io
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "e2e")]

import harness  # noqa: E402
from graphs import demo_graph, spelled_out  # noqa: E402
from rings import find_chromium, find_comfyui, obstacle_e2e  # noqa: E402

OUT = ROOT / "web" / "docs" / "pictures"
FIRST = "quickstart"
CANVAS, SCREEN = ROOT / "docs" / "images" / "canvas.png", (1600, 1000)  # the quickstart at full size, after a run
WINDOW, RUN_S, QUALITY, MARGIN = (1700, 1500), 1200.0, 80, 6
MOST_BYTES = 60_000


@dataclass(frozen=True)
class Shot:
    """A part of the canvas: the nodes of these titles, from `top` to `bottom` as shares of their height. `taller`: pixels by
    which each is made higher, so that a report in it need not be scrolled."""

    workflow: str
    titles: tuple[str, ...]
    top: float = 0.0
    bottom: float = 1.0
    run: bool = True  # whether the workflow is run before
    taller: int = 0


DEMO = "demo"  # the demo graph of the tests, in the place of a workflow
SHOTS = {
    "injector": Shot(DEMO, ("Slider Target Injector",), taller=22),
    "training": Shot(FIRST, ("Slider Train Step",), top=0.385, bottom=0.95),
    "apply": Shot(DEMO, ("Slider LoRA Apply",), run=False),
    "sweep": Shot(FIRST, ("Slider Strength Sweep",), top=0.197, bottom=0.957),
    "bucket": Shot("slider_dataset_in_graph", ("Slider Bucket: blurred", "Slider Bucket: as they were"), run=False),
    "pairs": Shot(FIRST, ("Load Slider Dataset",), top=0.21, bottom=0.757, run=False),
    "canvas": Shot(FIRST, ()),
    "xy": Shot("slider_sweep_and_xy", ("Slider Strength Sweep: A x B",), top=0.285),
    "library": Shot("slider_prompt_library", ("Slider Prompt Library",)),
}
# brings the nodes, to an empty place where `apart`, to the top left of the page at full size; gives back how large they are
PLACE = """([titles, margin, apart, taller]) => {
    const {graph, canvas} = window.app;
    const nodes = titles.map(t => graph._nodes.find(n => n.title === t));
    if (taller) for (const n of nodes) n.setSize([n.size[0], n.size[1] + taller]);
    if (apart) for (const n of nodes) n.pos = [n.pos[0] - 20000, n.pos[1]];
    for (const n of nodes) n.updateArea?.();
    const boxes = nodes.map(n => [...n.getBounding()]);
    const low = [0, 1].map(i => Math.min(...boxes.map(b => b[i])));
    const high = [0, 1].map(i => Math.max(...boxes.map(b => b[i] + b[i + 2])));
    canvas.deselectAll?.();
    canvas.ds.scale = 1;
    canvas.ds.offset = [margin - low[0], margin - low[1]];
    canvas.setDirty(true, true);
    return [high[0] - low[0], high[1] - low[1]];
}"""


# at full size, in the middle of the window
MIDDLE = """() => {
    const {graph, canvas} = window.app, boxes = graph._nodes.map(n => n.getBounding());
    const low = [0, 1].map(i => Math.min(...boxes.map(b => b[i])));
    const high = [0, 1].map(i => Math.max(...boxes.map(b => b[i] + b[i + 2])));
    const {width, height} = canvas.canvas.getBoundingClientRect();
    canvas.ds.scale = 1;
    canvas.ds.offset = [(width - low[0] - high[0]) / 2, (height - low[1] - high[1]) / 2];
    canvas.setDirty(true, true);
}"""


def shoot(page: Page, name: str, shot: Shot) -> None:
    wide, high = page.evaluate(PLACE, [list(shot.titles), MARGIN, shot.workflow == DEMO, shot.taller])
    page.wait_for_timeout(1500)
    left, above = page.evaluate("() => { const r = window.app.canvas.canvas.getBoundingClientRect(); return [r.left, r.top]; }")
    clip = {
        "x": left,
        "y": above + shot.top * high,
        "width": wide + 2 * MARGIN,
        "height": (shot.bottom - shot.top) * high + 2 * MARGIN,
    }
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.webp"
    picture.save(path, quality=QUALITY, method=6)
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"make_help_pictures: {path.name} takes {path.stat().st_size:,} bytes, {MOST_BYTES:,} at most")
    sys.stdout.write(f"make_help_pictures: {path.name}, {picture.width} x {picture.height}, {path.stat().st_size:,} bytes\n")


def shoot_canvas(page: Page) -> None:
    page.set_viewport_size({"width": SCREEN[0], "height": SCREEN[1]})
    harness.settle(page, 2000)  # the canvas takes its new size a while later
    page.evaluate(MIDDLE)
    harness.settle(page, 1500)
    page.screenshot(path=CANVAS)
    page.set_viewport_size({"width": WINDOW[0], "height": WINDOW[1]})
    sys.stdout.write(f"make_help_pictures: {CANVAS.name}, {SCREEN[0]} x {SCREEN[1]}\n")


def draw(wanted: list[str]) -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        harness.serve(find_comfyui(), Path(base), {harness.PACK: ROOT}, harness.BUILD / "help-pictures-server.log") as server,
        harness.browse(server, find_chromium(), {"Comfy.Graph.CanvasInfo": False}, WINDOW) as page,
    ):
        for workflow in dict.fromkeys(SHOTS[name].workflow for name in wanted):
            if workflow == DEMO:
                harness.lay(page, spelled_out(demo_graph()))
            else:
                harness.open_template(page, harness.PACK, workflow)
            if any(SHOTS[name].run for name in wanted if SHOTS[name].workflow == workflow):
                result = harness.run_and_wait(page, RUN_S)
                if not result.ok:
                    raise SystemExit(f"make_help_pictures: {workflow}: {result}")
            page.evaluate("() => window.app.extensionManager.command.execute('Workspace.ToggleFocusMode')")
            page.wait_for_timeout(3000)  # pictures of the run load after it has ended
            for name in [n for n in wanted if SHOTS[n].workflow == workflow]:
                if SHOTS[name].titles:
                    shoot(page, name, SHOTS[name])
                else:
                    shoot_canvas(page)
            page.evaluate("() => window.app.extensionManager.command.execute('Workspace.ToggleFocusMode')")


def main() -> int:
    wanted = sys.argv[1:] or list(SHOTS)
    if unknown := set(wanted) - set(SHOTS):
        raise SystemExit(f"make_help_pictures: no picture named {', '.join(sorted(unknown))}; there are {', '.join(SHOTS)}")
    if reason := obstacle_e2e():
        raise SystemExit(f"make_help_pictures: {reason}")
    own = [name for name in wanted if SHOTS[name].workflow == FIRST]  # in a ComfyUI of its own, where nobody has trained before
    for names in (own, [name for name in wanted if name not in own]):
        if names:
            draw(names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
