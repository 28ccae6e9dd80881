"""Draw the thumbnails of the templates: a large label that says what is different of one, its strip, and what it needs.

    python tools/make_thumbnails.py              every template
    python tools/make_thumbnails.py quickstart   some of them

The label stands in tools/workflows/NAME.layout.json ("label"), the strip in tools/workflows/strips/NAME.jpg, where
make_workflow.py --run puts what the workflow has drawn; a workflow that cannot be run here borrows the quickstart's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slider_core.canvas import Face, font  # noqa: E402

SOURCES = ROOT / "tools" / "workflows"
STRIPS = SOURCES / "strips"
BORROWED = "quickstart"
SIZE = (960, 600)  # shown at about a third of it
BAND, FOOT, EDGE = 190, 76, 24  # pixels
LARGE, SMALL, CAPTION = 150, 60, 40  # sizes of letters
INK, PAPER = "#ffffff", "#10151c"
FREE = ("#1d5c8f", "runs without a download")
MODEL = ("#8a4b12", "needs the model; this strip: the built-in one")
APP = ("#2d6a3e", "an App: no graph to see")


def kind_of(name: str, prompt: dict[str, Any]) -> tuple[str, str]:
    """(colour of the band, line below the strip): what a template needs."""
    if name.endswith(".app"):
        return APP
    own = any(node["class_type"] == "SliderDemoModel" for node in prompt.values())
    return FREE if own else MODEL


def fitting_font(text: str, width: int) -> Face:
    """The largest letters between SMALL and LARGE in which `text` is at most `width` pixels wide."""
    for size in range(LARGE, SMALL, -4):
        face = font(size, text)
        if face.getlength(text) <= width:
            return face
    return font(SMALL, text)


def thumbnail(strip: Image.Image, label: str, colour: str, below: str) -> Image.Image:
    """A band with the label, the strip, and a line."""
    canvas = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, SIZE[0], BAND), colour)
    draw.text((SIZE[0] / 2, BAND / 2), label, INK, font=fitting_font(label, SIZE[0] - 2 * EDGE), anchor="mm")
    width, height = SIZE[0] - 2 * EDGE, SIZE[1] - BAND - FOOT - EDGE
    scale = min(width / strip.width, height / strip.height)
    small = strip.resize((round(strip.width * scale), round(strip.height * scale)), Image.Resampling.LANCZOS)
    canvas.paste(small, ((SIZE[0] - small.width) // 2, BAND + EDGE + (height - small.height) // 2))
    draw.text((SIZE[0] / 2, SIZE[1] - FOOT / 2), below, INK, font=font(CAPTION, below), anchor="mm")
    return canvas


def draw(name: str) -> Image.Image:
    """The thumbnail of a template."""
    layout, prompt = (json.loads((SOURCES / f"{name}.{part}.json").read_text(encoding="utf-8")) for part in ("layout", "api"))
    own = STRIPS / f"{name}.jpg"
    strip = Image.open(own if own.is_file() else STRIPS / f"{BORROWED}.jpg").convert("RGB")
    return thumbnail(strip, layout["label"], *kind_of(name, prompt))


def names() -> list[str]:
    return sorted(path.name.removesuffix(".api.json") for path in SOURCES.glob("*.api.json"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=names())
    for name in parser.parse_args().names:
        draw(name).save(ROOT / "workflows" / f"{name}.jpg", quality=85)


if __name__ == "__main__":
    main()
