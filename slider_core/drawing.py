"""Pictures of a sweep: the labelled strip, lines over strength, the curve of a calibration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont

from .axes import INK, PAPER, Line, Panel, draw_lines, font
from .calibrate import TOO_FLAT, Calibration

GAP, BAND = 6, 26
CURVE = (900, 520)
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
