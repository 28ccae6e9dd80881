"""Draw the pack's icon and banner, and the pictures of the guide, into docs/images/.

    python tools/make_pictures.py

Icon and banner are cut from docs/images/strip.png, which `make demo` draws. The pairs are drawings of the built-in world with one
fault each, and what stands beside them is what the pair doctor says of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

from slider_core.canvas import font  # noqa: E402
from slider_core.data.pair_check import PairImages  # noqa: E402
from slider_core.data.pair_doctor import examine  # noqa: E402
from slider_core.data.pair_sheet import contact_sheet  # noqa: E402
from slider_core.use.sweep_export import png  # noqa: E402
from slider_core.with_tiny.faces import SIZE, Face, render  # noqa: E402
from slider_core.with_tiny.faces_pairs import EXTREME  # noqa: E402

IMAGES = ROOT / "docs" / "images"
STRIP, CELL, GAP, EACH_WAY = "strip.png", 128, 6, 5  # 5 x 5 pictures at the right of the strip, a gap behind and below each
ABOVE = 68  # pixels of its title and strengths
WHITE, INK, ACCENT = (255, 255, 255), (28, 28, 32), (23, 105, 214)
ICON, BANNER = (400, 400), (1260, 540)
FACE, HANDLE = 2, 100  # the row of the strip that is shown; where the icon's handle sits, at twice its size


def cell(strip: Image.Image, row: int, column: int, side: int, cut: int = 0) -> Image.Image:
    """One picture of the strip, `side` pixels wide, without `cut` pixels at each edge."""
    step = CELL + GAP
    left, top = strip.width - (EACH_WAY - column) * step, ABOVE + row * step
    box = (left + cut, top + cut, left + CELL - cut, top + CELL - cut)
    return strip.crop(box).resize((side, side), Image.Resampling.LANCZOS)


def rounded(picture: Image.Image, radius: int) -> Image.Image:
    """The picture with round, transparent corners."""
    mask = Image.new("L", (picture.width * 4, picture.height * 4), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, mask.width - 1, mask.height - 1), radius * 4, 255)
    found = picture.convert("RGBA")
    found.putalpha(mask.resize(picture.size, Image.Resampling.LANCZOS))
    return found


def draw_icon(strip: Image.Image, row: int = FACE) -> Image.Image:
    """One face, left at -2 and right at +2, with a handle between."""
    side = ICON[0]
    face = cell(strip, row, 0, side, cut=10)
    face.paste(cell(strip, row, 4, side, cut=10).crop((side // 2, 0, side, side)), (side // 2, 0))
    big = face.resize((side * 2, side * 2), Image.Resampling.LANCZOS)
    draw, middle = ImageDraw.Draw(big), side
    draw.line((middle, 0, middle, side * 2), WHITE, 18)
    draw.ellipse((middle - 72, HANDLE - 72, middle + 72, HANDLE + 72), WHITE)
    for sign in (-1, 1):
        draw.polygon([(middle + sign * 52, HANDLE), (middle + sign * 18, HANDLE - 34), (middle + sign * 18, HANDLE + 34)], ACCENT)
    return rounded(big.resize(ICON, Image.Resampling.LANCZOS), 60)


def draw_banner(strip: Image.Image) -> Image.Image:
    """The name, one face at five strengths, and the slider's track below."""
    scale, side, gap = 2, 204, 18
    left = (BANNER[0] - 5 * side - 4 * gap) // 2
    canvas = Image.new("RGB", (BANNER[0] * scale, BANNER[1] * scale), (24, 26, 32))
    draw = ImageDraw.Draw(canvas)
    draw.text((left * scale, 40 * scale), "Slider LoRA", WHITE, font=font(64 * scale))
    told = "Train a slider on the loaded model. See it move at once."
    draw.text((left * scale, 124 * scale), told, (176, 182, 194), font=font(28 * scale))
    for column in range(5):
        picture = rounded(cell(strip, FACE, column, side * scale), 24 * scale)
        canvas.paste(picture, ((left + column * (side + gap)) * scale, 196 * scale), picture)
    y, first, last = 452 * scale, (left + side // 2) * scale, (left + 4 * (side + gap) + side // 2) * scale
    draw.line((first, y, last, y), (92, 98, 112), 8 * scale)
    knob = (left + 3 * (side + gap) + side // 2) * scale
    draw.line(((first + last) // 2, y, knob, y), ACCENT, 8 * scale)
    draw.ellipse((knob - 20 * scale, y - 20 * scale, knob + 20 * scale, y + 20 * scale), WHITE)
    for column, name in enumerate(("-2", "-1", "0", "+1", "+2")):
        x = (left + column * (side + gap) + side // 2) * scale
        draw.text((x, y + 46 * scale), name, (210, 214, 222), font=font(26 * scale), anchor="mm")
    return canvas.resize(BANNER, Image.Resampling.LANCZOS)


def smile(face: Face) -> tuple[torch.Tensor, torch.Tensor]:
    """(positive, negative) of a face, each (3, 64, 64)."""
    positive, negative = render([replace(face, mouth=EXTREME), replace(face, mouth=-EXTREME)])
    return positive, negative


def enlarged(image: torch.Tensor) -> torch.Tensor:
    """The middle of an image, at its own size: a closer crop."""
    inner = image[:, 9 : SIZE - 9, 9 : SIZE - 9]
    return F.interpolate(inner[None], (SIZE, SIZE), mode="bicubic", antialias=True).clamp(0, 1)[0]


Pair = tuple[torch.Tensor, torch.Tensor]
FAULTS: dict[str, tuple[Face, Callable[[Pair, Face], Pair]]] = {
    "good": (Face(eyes=0.4, size=0.6, skin="tan", background="blue"), lambda pair, _: pair),
    "shifted": (Face(eyes=0.2, size=0.5, skin="brown"), lambda pair, _: (pair[0].roll((2, 5), (1, 2)), pair[1])),
    "other light": (Face(eyes=0.6, size=0.7, skin="dark", background="green"), lambda pair, _: (pair[0] * 0.55, pair[1])),
    "other face": (
        Face(eyes=0.5, size=0.4, skin="light", background="purple"),
        lambda pair, face: (smile(replace(face, eyes=-0.6, size=-0.6, x=-0.8, skin="dark", background="teal"))[0], pair[1]),
    ),
    "other crop": (Face(eyes=0.3, size=0.3, skin="tan", background="gray"), lambda pair, _: (enlarged(pair[0]), pair[1])),
}


def patients() -> list[PairImages]:
    """One pair without a fault and one with each, and good ones that are not shown, so that a fault is an exception."""
    named = {name: spoil(smile(face), face) for name, (face, spoil) in FAULTS.items()}
    colours = zip(("light", "dark", "brown", "light", "dark"), ("teal", "blue", "green", "gray", "purple"), strict=True)
    others = [Face(eyes=0.1 * n, size=0.2 * n, skin=skin, background=back) for n, (skin, back) in enumerate(colours)]
    named |= {f"one more {n}": smile(face) for n, face in enumerate(others)}
    return [PairImages(name, *pair, "a face", "a face", (SIZE, SIZE), (SIZE, SIZE)) for name, pair in named.items()]


def draw_pairs() -> Image.Image:
    """The pair doctor's contact sheet of these pairs: those with findings first, then the good one."""
    every = patients()
    return contact_sheet(every, examine(every), most=len(FAULTS))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    strip = Image.open(IMAGES / STRIP).convert("RGB")
    pictures = {"icon.png": draw_icon(strip), "banner.png": draw_banner(strip), "pairs.png": draw_pairs()}
    for name, picture in pictures.items():
        (IMAGES / name).write_bytes(png(picture))


if __name__ == "__main__":
    main()
