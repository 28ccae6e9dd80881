"""The font of the pictures: Pillow's own, and for letters that it lacks the first font of the system that has them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Face = ImageFont.ImageFont | ImageFont.FreeTypeFont
NOWHERE = "\U0010fffd"  # a place that no font fills: what is drawn for it stands for every letter that is missing
SYSTEM = (  # as Linux, Windows and macOS have them; those with the most letters first
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "msyh.ttc", "YuGothM.ttc", "meiryo.ttc", "malgun.ttf",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf", "arialuni.ttf",
    "NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf",
)  # fmt: skip


@lru_cache(maxsize=1024)
def _system(name: str, size: int) -> Face | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def missing(face: Face, text: str) -> int:
    """How many of the letters of `text` that face cannot draw."""
    nothing = bytes(face.getmask(NOWHERE))
    return sum(bytes(face.getmask(letter)) == nothing for letter in {*text} if letter.isprintable() and not letter.isspace())


def font(size: int, text: str = "") -> Face:
    """A face in which `text` can be read; where the system has none, the one that lacks least of it."""
    own = ImageFont.load_default(size=size)
    least = missing(own, text) if not text.isascii() else 0
    for name in SYSTEM if least else ():
        face = _system(name, size)
        if face and missing(face, text) < least:
            own, least = face, missing(face, text)
        if not least:
            break
    return own


INK, PAPER = (28, 28, 32), (250, 250, 250)
RULE, AXIS = (225, 225, 228), (150, 150, 155)
SCALE, LEFT, RIGHT, TOP, BOTTOM = 2, 70, 190, 66, 56  # drawn twice as large; margins in pixels
Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """`points` (x, y) in order of x; where y is NaN a point is left out."""

    name: str
    points: Sequence[Point]
    colour: Colour
    width: int = 3
    dots: bool = True


@dataclass(frozen=True)
class Panel:
    """The frame of a chart. `ticks`: places on the x axis, from its left end to its right end unless `span` says more."""

    title: str
    x_label: str
    y_label: str
    ticks: dict[float, str]
    span: tuple[float, float]
    empty: str = ""  # what is said where there is no line


def round_numbers(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`, 0 among them where it lies between."""
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * f for f in (1, 2, 5, 10, 20) if (high - low) / (unit * f) <= most)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def draw_lines(panel: Panel, lines: Sequence[Line], size: tuple[int, int]) -> Image.Image:
    """The lines in their frame, `size` in pixels. The y axis holds 0 and every value."""
    width, height = size
    canvas = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    draw = ImageDraw.Draw(canvas)
    small = font(14 * SCALE)
    values = [y for line in lines for _, y in line.points if y == y]
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = 0.08 * (high - low or 1.0)
    low, high = low - margin, high + margin
    x_low, x_high = panel.span

    def place(x: float, y: float) -> Point:
        across = LEFT + (x - x_low) / ((x_high - x_low) or 1) * (width - LEFT - RIGHT)
        return across * SCALE, (TOP + (high - y) / (high - low) * (height - TOP - BOTTOM)) * SCALE

    for value in round_numbers(low, high) if lines else []:
        draw.line([place(x_low, value), place(x_high, value)], RULE, SCALE)
        draw.text((place(x_low, value)[0] - 8 * SCALE, place(x_low, value)[1]), f"{value:g}", INK, font=small, anchor="rm")
    for x, words in panel.ticks.items():
        draw.text((place(x, low)[0], (height - BOTTOM + 14) * SCALE), words, INK, font=small, anchor="mm")
    draw.line([place(x_low, 0), place(x_high, 0)], AXIS, SCALE)
    middle = (LEFT + (width - LEFT - RIGHT) / 2) * SCALE
    draw.text((LEFT * SCALE, 12 * SCALE), panel.title, INK, font=font(17 * SCALE, panel.title))
    draw.text((middle, (height - 20) * SCALE), panel.x_label, INK, font=small, anchor="mm")
    draw.text((8 * SCALE, (TOP - 26) * SCALE), panel.y_label, INK, font=small)
    if panel.empty and not values:
        draw.text((middle, (TOP + (height - TOP - BOTTOM) / 4) * SCALE), panel.empty, INK, font=small, anchor="mm")
    for number, line in enumerate(lines):
        _draw_line(draw, line, [place(x, y) for x, y in line.points if y == y])
        y = (TOP + 12 + 24 * number) * SCALE
        draw.line([((width - RIGHT + 16) * SCALE, y), ((width - RIGHT + 40) * SCALE, y)], line.colour, line.width * SCALE)
        draw.text(((width - RIGHT + 48) * SCALE, y), line.name, INK, font=small, anchor="lm")
    return canvas.resize(size, Image.Resampling.LANCZOS)


def _draw_line(draw: ImageDraw.ImageDraw, line: Line, points: Sequence[Point]) -> None:
    if points:
        draw.line(points, line.colour, line.width * SCALE, joint="curve")
    for x, y in points if line.dots or len(points) == 1 else []:
        draw.ellipse((x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE), line.colour)
