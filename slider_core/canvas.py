"""Lines in a frame with axes, and the font of all pictures: Pillow's own, or a system font for glyphs that it lacks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Face = ImageFont.ImageFont | ImageFont.FreeTypeFont
NOWHERE = "\U0010fffd"  # a code point that no font fills: what is drawn for it stands for every glyph that is missing
SYSTEM = (  # as Linux, Windows and macOS have them; those with the most glyphs first
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc", "wqy-zenhei.ttc",
    "DroidSansFallbackFull.ttf", "msyh.ttc", "YuGothM.ttc", "meiryo.ttc", "malgun.ttf",
    "PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf", "arialuni.ttf",
    "NotoSans-Regular.ttf", "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "arial.ttf", "Arial.ttf",
)  # fmt: skip


@lru_cache(maxsize=1024)
def _system(name: str, size: int) -> Face | None:
    """A font of the system, None where it has none of that name. Cached: a search of every font folder takes milliseconds."""
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def missing(face: Face, text: str) -> int:
    """How many glyphs of `text` that face lacks."""
    box = bytes(face.getmask(NOWHERE))
    count = 0
    for glyph in set(text):
        if glyph.isprintable() and not glyph.isspace():
            count += bytes(face.getmask(glyph)) == box
    return count


def font(size: int, text: str = "") -> Face:
    """A face in which `text` can be read; where the system has none, the one that lacks least of it."""
    best: Face = ImageFont.load_default(size=size)
    if text.isascii():
        return best
    least = missing(best, text)
    for name in SYSTEM:
        if least == 0:
            break
        face = _system(name, size)
        lacks = missing(face, text) if face else least
        if face and lacks < least:
            best = face
            least = lacks
    return best


INK = (28, 28, 32)
PAPER = (250, 250, 250)
GREY = (140, 140, 146)
RULE = (225, 225, 228)
AXIS = (150, 150, 155)
SCALE = 2  # drawn this much larger and made smaller at the end
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 66, 56  # margins in pixels
Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Line:
    """`points` (x, y) in order of x; where y is not finite a point is left out."""

    name: str
    points: Sequence[Point]
    colour: Colour
    width: int = 3
    dots: bool = True


@dataclass(frozen=True)
class Panel:
    """The frame of a chart. `ticks`: labels on the x axis, `span` its left and right end; `empty` is written in a frame without
    lines."""

    title: str
    x_label: str
    y_label: str
    ticks: dict[float, str]
    span: tuple[float, float]
    empty: str = ""


def round_numbers(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`, 0 among them where it lies between."""
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * factor for factor in (1, 2, 5, 10, 20) if (high - low) / (unit * factor) <= most)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


@dataclass(frozen=True)
class _Frame:
    """Where values lie in a picture of `width` x `height` pixels whose y axis goes from `low` to `high`."""

    draw: ImageDraw.ImageDraw
    face: Face
    panel: Panel
    width: int
    height: int
    low: float
    high: float

    def at(self, x: float, y: float) -> Point:
        left, right = self.panel.span
        across = LEFT + (x - left) / ((right - left) or 1) * (self.width - LEFT - RIGHT)
        down = TOP + (self.high - y) / (self.high - self.low) * (self.height - TOP - BOTTOM)
        return across * SCALE, down * SCALE

    def text(self, x: float, y: float, text: str, anchor: str = "mm") -> None:
        self.draw.text((x, y), text, INK, font=self.face, anchor=anchor)

    def rule(self, y: float, colour: Colour) -> None:
        left, right = self.panel.span
        self.draw.line([self.at(left, y), self.at(right, y)], colour, SCALE)


def draw_lines(panel: Panel, lines: Sequence[Line], size: tuple[int, int]) -> Image.Image:
    """The lines in their frame, `size` in pixels. The y axis holds 0 and every value."""
    width, height = size
    values = [0.0]
    for line in lines:
        values += [y for _, y in line.points if math.isfinite(y)]
    margin = 0.08 * (max(values) - min(values) or 1.0)
    canvas = Image.new("RGB", (width * SCALE, height * SCALE), PAPER)
    draw = ImageDraw.Draw(canvas)
    frame = _Frame(draw, font(14 * SCALE), panel, width, height, min(values) - margin, max(values) + margin)
    if lines:
        _draw_grid(frame)
    _draw_ticks(frame)
    frame.rule(0, AXIS)
    middle = (LEFT + (width - LEFT - RIGHT) / 2) * SCALE
    draw.text((LEFT * SCALE, 12 * SCALE), panel.title, INK, font=font(17 * SCALE, panel.title))
    frame.text(middle, (height - 20) * SCALE, panel.x_label)
    frame.text(8 * SCALE, (TOP - 26) * SCALE, panel.y_label, "la")
    if panel.empty and len(values) == 1:
        frame.text(middle, (TOP + (height - TOP - BOTTOM) / 4) * SCALE, panel.empty)
    for number, line in enumerate(lines):
        _draw_line(frame, line, TOP + 12 + 24 * number)
    return canvas.resize(size, Image.Resampling.LANCZOS)


def _draw_grid(frame: _Frame) -> None:
    for value in round_numbers(frame.low, frame.high):
        x, y = frame.at(frame.panel.span[0], value)
        frame.rule(value, RULE)
        frame.text(x - 8 * SCALE, y, f"{value:g}", "rm")


def _draw_ticks(frame: _Frame) -> None:
    """0 and then from the outermost inwards; left out is what would touch another one."""
    drawn: list[tuple[float, float]] = []  # middle, and half of the room that it takes
    for x in sorted(frame.panel.ticks, key=lambda x: (x != 0, -abs(x))):
        label = frame.panel.ticks[x]
        middle = frame.at(x, frame.low)[0]
        room = frame.face.getlength(label) / 2 + 4 * SCALE
        if all(abs(middle - other) >= room + taken for other, taken in drawn):
            frame.text(middle, (frame.height - BOTTOM + 14) * SCALE, label)
            drawn.append((middle, room))


def _draw_line(frame: _Frame, line: Line, legend_y: int) -> None:
    """The line, and its name at the height `legend_y` on the right."""
    points = [frame.at(x, y) for x, y in line.points if math.isfinite(y)]
    if points:
        frame.draw.line(points, line.colour, line.width * SCALE, joint="curve")
    if line.dots or len(points) == 1:
        for x, y in points:
            frame.draw.ellipse((x - 4 * SCALE, y - 4 * SCALE, x + 4 * SCALE, y + 4 * SCALE), line.colour)
    right = (frame.width - RIGHT) * SCALE
    height = legend_y * SCALE
    frame.draw.line([(right + 16 * SCALE, height), (right + 40 * SCALE, height)], line.colour, line.width * SCALE)
    frame.text(right + 48 * SCALE, height, line.name, "lm")
