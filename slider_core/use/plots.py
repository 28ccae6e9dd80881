"""Pictures of a sweep: the labelled strip, lines over strength, the curve of a calibration."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw

from ..canvas import INK, PAPER, Face, Line, Panel, Point, draw_lines, font, round_numbers
from ..train.calibrate import TOO_FLAT, Calibration
from ..train.progress import Reading

GAP, BAND = 6, 26
LONGEST = 320  # pixels of a name left of a row
WIDEST, ROW_CELLS, ENTRY_CELLS = 1280, (48, 256), (96, 256)  # pixels of a live picture, of one picture in it
CURVE = (900, 520)
Entry = tuple[str, float, torch.Tensor]  # name, strength, picture (3, H, W)
COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80), (150, 90, 180), (200, 140, 40))


def to_pil(image_CHW: torch.Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> 8-bit RGB."""
    array = (image_CHW.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def label(strength: float) -> str:
    """`+1`, `0`, `-0.5`: how a strength is written on a strip."""
    return "0" if strength == 0 else f"{strength:+g}"


def draw_strip(
    images: torch.Tensor,
    strengths: Sequence[float],
    rows: Sequence[str],
    title: str = "",
    cell: int | None = None,
) -> Image.Image:
    """(R, S, 3, H, W) images as a grid with a strength above each column and a label left of each row."""
    count_rows, count_columns, _, height, width = images.shape
    cell_width = cell or width
    cell_height = round(height * cell_width / width)
    text = font(max(11, min(18, cell_width // 6)), "".join([*rows, title]))
    rows = [_fitted(row, text, LONGEST) for row in rows]
    left = 12 + int(max(text.getlength(r) for r in rows)) if rows else GAP
    top = (BAND + GAP if title else 0) + BAND
    canvas = Image.new(
        "RGB",
        (left + count_columns * (cell_width + GAP), top + count_rows * (cell_height + GAP) + GAP),
        PAPER,
    )
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((left, GAP), title, INK, font=text)
    for column, strength in enumerate(strengths):
        x = left + column * (cell_width + GAP)
        draw.text((x + cell_width / 2, top - BAND / 2), label(strength), INK, font=text, anchor="mm")
        for row in range(count_rows):
            picture = to_pil(images[row, column]).resize((cell_width, cell_height), Image.Resampling.LANCZOS)
            canvas.paste(picture, (x, top + row * (cell_height + GAP)))
    for row, name in enumerate(rows):
        draw.text((GAP, top + row * (cell_height + GAP) + cell_height / 2), name, INK, font=text, anchor="lm")
    return canvas


def _fitted(text: str, face: Face, width: float) -> str:
    """`text` in one line, cut with an ellipsis where it is wider than `width` pixels."""
    whole = " ".join(text[:1000].split())
    if face.getlength(whole) <= width:
        return whole
    end = bisect_right(range(1, len(whole)), width, key=lambda end: face.getlength(f"{whole[:end]}…"))
    return f"{whole[:end]}…"


def draw_entries(
    images: torch.Tensor,
    names: Sequence[tuple[str, float]],
    title: str = "",
    least: int = 192,
    shape: tuple[int, int] | None = None,
) -> Image.Image:
    """(N, 3, H, W) images as a grid, the name and strength of each above it. `shape`: its columns, and the width of a picture;
    without it about as wide as high, of pictures that are at least `least` wide."""
    count, _, height, width = images.shape
    columns, cell = shape or (0, max(width, least))
    tall = round(height * cell / width)
    columns = min(count, columns or max(1, math.ceil(math.sqrt(count * (tall + BAND) / cell))))
    rows, top = math.ceil(count / columns), BAND + GAP if title else GAP
    face = font(15, "".join([title, *(name for name, _ in names)]))
    canvas = Image.new("RGB", (GAP + columns * (cell + GAP), top + rows * (BAND + tall + GAP)), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP), title, INK, font=face)
    for place, (image, (name, strength)) in enumerate(zip(images, names, strict=True)):
        x, y = GAP + place % columns * (cell + GAP), top + place // columns * (BAND + tall + GAP)
        mark = f"  {label(strength)}"
        room = cell - face.getlength(mark)
        draw.text((x + cell / 2, y + BAND / 2), _fitted(name, face, room) + mark, INK, font=face, anchor="mm")
        canvas.paste(to_pil(image).resize((cell, tall), Image.Resampling.LANCZOS), (x, y + BAND))
    return canvas


def draw_validation(rows: Mapping[str, torch.Tensor], strengths: Sequence[float], entries: Sequence[Entry]) -> Image.Image:
    """A prompt library while a slider trains: `rows`, names with their pictures (S, 3, H, W) at all `strengths`, as a strip;
    below it the `entries` that have a strength of their own, each with its name and strength above it.

    As wide and as high as a live picture may be, where so many pictures leave that choice.
    """
    parts = []
    if rows:
        images = torch.stack(list(rows.values()))
        parts.append(draw_strip(images, strengths, list(rows), "", _row_cell(images)))
    if entries:
        images = torch.stack([image for _, _, image in entries])
        names = [(name, strength) for name, strength, _ in entries]
        parts.append(draw_entries(images, names, shape=_entry_shape(images)))
    whole = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    for place, part in enumerate(parts):
        whole.paste(part, (0, sum(above.height for above in parts[:place])))
    return whole


def _row_cell(images: torch.Tensor) -> int:
    """The width of a picture in a strip of (R, S, 3, H, W), so that it is neither too wide nor too high."""
    count_rows, count_columns, _, height, width = images.shape
    least, most = ROW_CELLS
    return max(least, min(most, WIDEST // count_columns, WIDEST * width // (count_rows * height)))


def _entry_shape(images: torch.Tensor) -> tuple[int, int]:
    """(columns, width of a picture) of a grid of (N, 3, H, W): the largest that is neither too wide nor too high."""
    count, _, height, width = images.shape
    least, most = ENTRY_CELLS
    shapes = [(max(1, (WIDEST - GAP) // (cell + GAP)), cell) for cell in range(most, least - 1, -8)]
    fits = (s for s in shapes if math.ceil(count / s[0]) * (BAND + GAP + s[1] * height / width) <= WIDEST)
    return next(fits, shapes[-1])


def draw_curve(strengths: Sequence[float], lines: dict[str, Sequence[float]], title: str, y_label: str) -> Image.Image:
    """Lines over strength with axes and a legend, 900 x 520. NaN points are left out."""
    panel = Panel(title, "strength", y_label, {s: label(s) for s in strengths}, (min(strengths), max(strengths)))
    drawn = [
        Line(name, list(zip(strengths, line, strict=True)), COLOURS[number % len(COLOURS)])
        for number, (name, line) in enumerate(lines.items())
    ]
    return draw_lines(panel, drawn, CURVE)


def draw_calibration(found: Calibration, title: str) -> Image.Image:
    """What is explained of the images at each strength, in units of the calibrated slider: both sides on one axis."""
    points = {0.0: 0.0}
    for sign, side in ((1, found.plus), (-1, found.minus)):
        if side:
            points |= {round(sign * strength / found.unit, 2): share for strength, share in side.curve}
    strengths = sorted(points)
    shown = [strength for strength in strengths if points[strength] > -0.5 * max([*points.values(), TOO_FLAT])]
    return draw_curve(shown or strengths, {"explained": [100 * points[s] for s in shown or strengths]}, title, "% of the error")


TRAINING_COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80))  # plus, minus, loss
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


def _percent(explained: float) -> float:
    return 100 * max(SHOWN_GAIN, explained) if math.isfinite(explained) else math.nan


def draw_training(losses: Sequence[float], readings: Sequence[Reading], name: str) -> Image.Image:
    """A training as it went, 900 x 800: the gain of both signs above, the loss below; with axes alone before the first step."""
    last = max([1, len(losses), *(reading.step for reading in readings)])
    ticks = {float(n): f"{n:g}" for n in round_numbers(0, last) if n == int(n)}
    span, few = (0.0, float(last)), len(readings) <= DOTTED
    sides = [
        Line(side, [(r.step, _percent(r.explained[i])) for r in readings], TRAINING_COLOURS[i], dots=few)
        for i, side in enumerate(("plus", "minus"))
    ]
    width = max(1, min(50, len(losses) // 8))
    loss = [Line("loss", means(losses), PALE, 1, dots=False)]
    if width > 1:
        loss.append(Line(f"mean of {width} steps", running_mean(losses, width), TRAINING_COLOURS[2], dots=False))
    nothing = "Not trained yet." if not losses else ""
    upper = Panel(f"{name}: gain, what is explained of the images", "step", "% of the error", ticks, span, nothing)
    lower = Panel("loss", "step", "", ticks, span, nothing)
    canvas = Image.new("RGB", (PANEL[0], 2 * PANEL[1]), PAPER)
    canvas.paste(draw_lines(upper, sides if readings else [], PANEL), (0, 0))
    canvas.paste(draw_lines(lower, loss if losses else [], PANEL), (0, PANEL[1]))
    return canvas
