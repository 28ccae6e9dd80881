"""Pictures of a sweep: the labelled strip, lines over strength, the curve of a calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

from .calibrate import TOO_FLAT, Calibration

INK, PAPER, GAP, BAND = (28, 28, 32), (250, 250, 250), 6, 26
COLOURS = ((198, 60, 52), (52, 110, 190), (70, 150, 80), (150, 90, 180), (200, 140, 40))


def to_pil(image_CHW: torch.Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> 8-bit RGB."""
    array = (image_CHW.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(array.permute(1, 2, 0).numpy())


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


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
    text = font(max(11, min(18, cell_width // 6)))
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


def _fitted(text: str, face: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    if face.getlength(text) <= width:
        return text
    return next((cut for end in range(len(text), 0, -1) if face.getlength(cut := f"{text[:end]}…") <= width), "…")


def draw_entries(images: torch.Tensor, names: Sequence[tuple[str, float]], title: str = "", least: int = 192) -> Image.Image:
    """(N, 3, H, W) images as a grid about as wide as high, the name and strength of each above it."""
    count, _, height, width = images.shape
    cell = max(width, least)
    tall = round(height * cell / width)
    columns = min(count, max(1, math.ceil(math.sqrt(count * (tall + BAND) / cell))))
    rows, top, face = math.ceil(count / columns), BAND + GAP if title else GAP, font(15)
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


def _ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers from `low` to `high`, 0 among them where it lies between."""
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * f for f in (1, 2, 5, 10, 20) if (high - low) / (unit * f) <= most)
    return [round(n * step, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def draw_curve(strengths: Sequence[float], lines: dict[str, Sequence[float]], title: str, y_label: str) -> Image.Image:
    """Lines over strength with axes and a legend, 900 x 520. NaN points are left out."""
    scale, left, right, top, bottom = 2, 70, 190, 66, 56
    width, height = 900, 520
    canvas = Image.new("RGB", (width * scale, height * scale), PAPER)
    draw = ImageDraw.Draw(canvas)
    text, small = font(17 * scale), font(14 * scale)
    values = [v for line in lines.values() for v in line if v == v]
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = 0.08 * (high - low or 1.0)
    low, high = low - margin, high + margin
    x_low, x_high = min(strengths), max(strengths)

    def place(strength: float, value: float) -> tuple[float, float]:
        x = left + (strength - x_low) / ((x_high - x_low) or 1) * (width - left - right)
        return x * scale, (top + (high - value) / (high - low) * (height - top - bottom)) * scale

    for value in _ticks(low, high):
        draw.line([place(x_low, value), place(x_high, value)], (225, 225, 228), scale)
        draw.text((place(x_low, value)[0] - 8 * scale, place(x_low, value)[1]), f"{value:g}", INK, font=small, anchor="rm")
    for strength in strengths:
        draw.text((place(strength, low)[0], (height - bottom + 14) * scale), label(strength), INK, font=small, anchor="mm")
    draw.line([place(x_low, 0), place(x_high, 0)], (150, 150, 155), scale)
    draw.text((left * scale, 12 * scale), title, INK, font=text)
    draw.text(((left + (width - left - right) / 2) * scale, (height - 20) * scale), "strength", INK, font=small, anchor="mm")
    draw.text((8 * scale, (top - 26) * scale), y_label, INK, font=small)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        points = [place(s, v) for s, v in zip(strengths, line, strict=True) if v == v]
        if points:
            draw.line(points, colour, 3 * scale, joint="curve")
        for x, y in points:
            draw.ellipse((x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale), colour)
        y = (top + 12 + 24 * number) * scale
        draw.line([((width - right + 16) * scale, y), ((width - right + 40) * scale, y)], colour, 3 * scale)
        draw.text(((width - right + 48) * scale, y), name, INK, font=small, anchor="lm")
    return canvas.resize((width, height), Image.Resampling.LANCZOS)


def draw_calibration(found: Calibration, title: str) -> Image.Image:
    """What is explained of the images at each strength, in units of the calibrated slider: both sides on one axis."""
    points = {0.0: 0.0}
    for sign, side in ((1, found.plus), (-1, found.minus)):
        if side:
            points |= {round(sign * strength / found.unit, 2): share for strength, share in side.curve}
    strengths = sorted(points)
    shown = [strength for strength in strengths if points[strength] > -0.5 * max([*points.values(), TOO_FLAT])]
    return draw_curve(shown or strengths, {"explained": [100 * points[s] for s in shown or strengths]}, title, "% of the error")
