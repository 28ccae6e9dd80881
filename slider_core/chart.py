"""A training as it went, as a picture: lines over the steps with axes and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .gain import Reading
from .sweep import font

INK, PAPER = (28, 28, 32), (250, 250, 250)
COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80))  # plus, minus, loss
PALE, RULE, AXIS = (190, 205, 192), (225, 225, 228), (150, 150, 155)
SCALE, LEFT, RIGHT, TOP, BOTTOM = 2, 70, 190, 66, 56  # drawn twice as large; margins in pixels
PANEL = (900, 400)
BINS = 400  # points of a loss curve at most: beyond that, means of neighbours
SHOWN_GAIN = -1.0  # twice the error of the base model; below that a curve would hide all that is above
DOTTED = 40  # readings, beyond which dots would be a band

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


def draw_lines(panel: Panel, lines: Sequence[Line], size: tuple[int, int] = PANEL) -> Image.Image:
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

    for value in round_numbers(low, high) if values else []:
        draw.line([place(x_low, value), place(x_high, value)], RULE, SCALE)
        draw.text((place(x_low, value)[0] - 8 * SCALE, place(x_low, value)[1]), f"{value:g}", INK, font=small, anchor="rm")
    for x, words in panel.ticks.items():
        draw.text((place(x, low)[0], (height - BOTTOM + 14) * SCALE), words, INK, font=small, anchor="mm")
    draw.line([place(x_low, 0), place(x_high, 0)], AXIS, SCALE)
    middle = (LEFT + (width - LEFT - RIGHT) / 2) * SCALE
    draw.text((LEFT * SCALE, 12 * SCALE), panel.title, INK, font=font(17 * SCALE))
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


def means(values: Sequence[float], most: int = BINS) -> list[Point]:
    """At most `most` points (step, value): each the mean of as many neighbours as it takes, at the last one's step (from 1)."""
    width = max(1, math.ceil(len(values) / most))
    groups = [values[i : i + width] for i in range(0, len(values), width)]
    return [(min((n + 1) * width, len(values)), sum(group) / len(group)) for n, group in enumerate(groups)]


def running_mean(values: Sequence[float], width: int, most: int = BINS) -> list[Point]:
    """At most `most` points (step, mean of the last `width` values), from the first step with so many, the last one included."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    stride = max(1, math.ceil(len(values) / most))
    steps = [n for n in range(width, len(values) + 1) if (len(values) - n) % stride == 0]
    return [(n, (sums[n] - sums[n - width]) / width) for n in steps]


def _percent(gain: float) -> float:
    return 100 * max(SHOWN_GAIN, gain) if math.isfinite(gain) else math.nan


def draw_training(losses: Sequence[float], readings: Sequence[Reading], name: str) -> Image.Image:
    """A training as it went, 900 x 800: the gain of both signs above, the loss below; with axes alone before the first step."""
    last = max([1, len(losses), *(reading.step for reading in readings)])
    ticks = {float(n): f"{n:g}" for n in round_numbers(0, last) if n == int(n)}
    span, few = (0.0, float(last)), len(readings) <= DOTTED
    sides = [
        Line(side, [(r.step, _percent(r.gain[i])) for r in readings], COLOURS[i], dots=few)
        for i, side in enumerate(("plus", "minus"))
    ]
    width = max(1, min(50, len(losses) // 8))
    loss = [Line("loss", means(losses), PALE, 1, dots=False)]
    if width > 1:
        loss.append(Line(f"mean of {width} steps", running_mean(losses, width), COLOURS[2], dots=False))
    nothing = "Not trained yet." if not losses else ""
    upper = Panel(f"{name}: gain, what is explained of the images", "step", "% of the error", ticks, span, nothing)
    lower = Panel("loss", "step", "", ticks, span, nothing)
    canvas = Image.new("RGB", (PANEL[0], 2 * PANEL[1]), PAPER)
    canvas.paste(draw_lines(upper, sides if readings else [], PANEL), (0, 0))
    canvas.paste(draw_lines(lower, loss if losses else [], PANEL), (0, PANEL[1]))
    return canvas
