"""Curves: figures over strength, a calibration, a training as it went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from PIL import Image

from ..canvas import PAPER, Line, Panel, Point, draw_lines, round_numbers
from ..lora.useful_range import Span, beyond_words, is_beyond
from ..train.calibration import TOO_FLAT, Calibration
from ..train.progress import Reading

CURVE = (900, 520)
COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80), (150, 90, 180), (200, 140, 40))
TRAINING_COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80))  # plus, minus, loss
PALE = (190, 205, 192)
PANEL = (900, 400)
BINS = 400  # points of a loss curve at most: beyond that, means of neighbours
SHOWN_GAIN = -1.0  # twice the error of the base model; below that a curve would hide all that is above
DOTTED = 40  # readings, beyond which dots would be a band


def label(strength: float) -> str:
    """`+1`, `0`, `-0.5`: how a strength is written in a picture."""
    return "0" if strength == 0 else f"{strength:+g}"


def marked(strength: float, useful: Span | None) -> str:
    """The same, with a mark where it lies beyond the `useful` range."""
    return f"{label(strength)} *" if is_beyond(strength, useful) else label(strength)


def draw_curve(
    strengths: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    title: str,
    y_label: str,
    useful: Span | None = None,
) -> Image.Image:
    """Lines over strength with axes and a legend, 900 x 520. NaN points are left out. Strengths beyond the `useful` range are
    marked, which the axis explains."""
    words = beyond_words(strengths, useful)
    ticks = {strength: marked(strength, useful) for strength in strengths}
    panel = Panel(title, f"strength (* {words})" if words else "strength", y_label, ticks, (min(strengths), max(strengths)))
    drawn = []
    for number, (name, line) in enumerate(lines.items()):
        drawn.append(Line(name, list(zip(strengths, line, strict=True)), COLOURS[number % len(COLOURS)]))
    return draw_lines(panel, drawn, CURVE)


def draw_calibration(calibration: Calibration, title: str, useful: Span | None = None) -> Image.Image:
    """What is explained of the images at each strength, in units of the calibrated slider: both sides on one axis. Strengths
    beyond the `useful` range are marked."""
    shares = {0.0: 0.0}
    for sign, side in ((1, calibration.plus), (-1, calibration.minus)):
        if side is None:
            continue
        for strength, share in side.curve:
            shares[round(sign * strength / calibration.unit, 2)] = share
    least = -0.5 * max([*shares.values(), TOO_FLAT])
    strengths = sorted(strength for strength, share in shares.items() if share > least) or sorted(shares)
    return draw_curve(strengths, {"explained": [100 * shares[s] for s in strengths]}, title, "% of the error", useful)


def means(values: Sequence[float], most: int = BINS) -> list[Point]:
    """At most `most` points (step, value): each the mean of as many neighbours as it takes, at the last one's step (from 1)."""
    width = max(1, math.ceil(len(values) / most))
    points: list[Point] = []
    for start in range(0, len(values), width):
        group = values[start : start + width]
        points.append((start + len(group), sum(group) / len(group)))
    return points


def running_mean(values: Sequence[float], width: int, most: int = BINS) -> list[Point]:
    """At most `most` points (step, mean of the last `width` values), from the first step with so many, the last one included."""
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    stride = max(1, math.ceil(len(values) / most))
    first = len(values) - (len(values) - width) // stride * stride
    return [(step, (sums[step] - sums[step - width]) / width) for step in range(first, len(values) + 1, stride)]


def draw_training(losses: Sequence[float], readings: Sequence[Reading], name: str) -> Image.Image:
    """A training as it went, 900 x 800: what both signs learned above, the loss below; axes alone before the first step."""
    last = max([1, len(losses), *(reading.step for reading in readings)])
    ticks = {float(n): f"{n:g}" for n in round_numbers(0, last) if n == int(n)}
    span = (0.0, float(last))
    empty = "" if losses else "Not trained yet."
    gain = Panel(f"{name}: what was learned of the difference", "step", "% of it", ticks, span, empty)
    loss = Panel("loss", "step", "", ticks, span, empty)
    canvas = Image.new("RGB", (PANEL[0], 2 * PANEL[1]), PAPER)
    canvas.paste(draw_lines(gain, _gain_lines(readings), PANEL), (0, 0))
    canvas.paste(draw_lines(loss, _loss_lines(losses), PANEL), (0, PANEL[1]))
    return canvas


def _gain_lines(readings: Sequence[Reading]) -> list[Line]:
    lines = []
    for number, side in enumerate(("plus", "minus")):
        points = [(reading.step, _percent(reading.explained[number])) for reading in readings]
        lines.append(Line(side, points, TRAINING_COLOURS[number], dots=len(readings) <= DOTTED))
    return lines if readings else []


def _loss_lines(losses: Sequence[float]) -> list[Line]:
    if not losses:
        return []
    lines = [Line("loss", means(losses), PALE, 1, dots=False)]
    width = min(50, len(losses) // 8)
    if width > 1:
        lines.append(Line(f"mean of {width} steps", running_mean(losses, width), TRAINING_COLOURS[2], dots=False))
    return lines


def _percent(explained: float) -> float:
    return 100 * max(SHOWN_GAIN, explained) if math.isfinite(explained) else math.nan
