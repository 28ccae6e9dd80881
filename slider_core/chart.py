"""A training as it went, as a picture: lines over the steps with axes and a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

from .axes import PAPER, Line, Panel, Point, draw_lines, round_numbers
from .gain import Reading

COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80))  # plus, minus, loss
PALE = (190, 205, 192)
PANEL = (900, 400)
BINS = 400  # points of a loss curve at most: beyond that, means of neighbours
SHOWN_GAIN = -1.0  # twice the error of the base model; below that a curve would hide all that is above
DOTTED = 40  # readings, beyond which dots would be a band


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
