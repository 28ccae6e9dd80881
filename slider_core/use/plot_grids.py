"""Grids of pictures: the labelled strip of a sweep, named entries, a prompt library while a slider trains."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw

from ..canvas import GREY, INK, PAPER, Face, font
from ..data.fitting import to_pil
from ..lora.useful_range import Span, beyond_words, is_beyond
from .plot_curves import marked

GAP, BAND = 6, 26
CAPTION_EMS = 32  # width of a picture in widths of a letter below it
LONGEST = 320  # pixels of a name left of a row
WIDEST, ROW_CELLS, ENTRY_CELLS = 1280, (48, 256), (96, 256)  # pixels of a live picture, of one picture in it
Entry = tuple[str, float, torch.Tensor]  # name, strength, picture (3, H, W)


@dataclass(frozen=True)
class Legend:
    """What stands around a strip: a strength above each column, a label left of each row, a title. Strengths beyond the `useful`
    range are marked; `caption`, or else a line that says so, stands below."""

    strengths: Sequence[float]
    rows: Sequence[str] = ()
    title: str = ""
    useful: Span | None = None
    caption: str | None = None


def _resized(image_CHW: torch.Tensor, width: int, height: int) -> Image.Image:
    return to_pil(image_CHW).resize((width, height), Image.Resampling.LANCZOS)


def draw_strength(draw: ImageDraw.ImageDraw, at: tuple[float, float], strength: float, face: Face, useful: Span | None) -> None:
    """A strength with its middle at that place, grey and with a mark where it lies beyond the `useful` range."""
    draw.text(at, marked(strength, useful), _ink(strength, useful), font=face, anchor="mm")


def _ink(strength: float, useful: Span | None) -> tuple[int, int, int]:
    return GREY if is_beyond(strength, useful) else INK


def draw_strip(images: torch.Tensor, legend: Legend, cell: int | None = None) -> Image.Image:
    """(R, S, 3, H, W) images as a grid with its legend; `cell`: the width of one in it, else its own."""
    count_rows, count_columns, _, height, width = images.shape
    strengths, title, useful = legend.strengths, legend.title, legend.useful
    cell_width = cell or width
    cell_height = round(height * cell_width / width)
    height_of_text = max(11, cell_width // 6)  # so that it can be read when the strip is shrunk to a node's width
    band = max(BAND, height_of_text * 3 // 2)
    face = font(height_of_text, "".join([*legend.rows, title]))
    names = [_fitted(row, face, max(LONGEST, cell_width)) for row in legend.rows]
    edge = max(GAP, height_of_text // 2)  # beside the names
    left = 2 * edge + int(max(map(face.getlength, names))) if names else GAP
    top = band + GAP + band if title else band
    size = (left + count_columns * (cell_width + GAP), top + count_rows * (cell_height + GAP) + GAP)
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    if title:
        draw.text((left, GAP), title, INK, font=face)
    for column, strength in enumerate(strengths):
        x = left + column * (cell_width + GAP)
        draw_strength(draw, (x + cell_width / 2, top - band / 2), strength, face, useful)
        for row in range(count_rows):
            canvas.paste(_resized(images[row, column], cell_width, cell_height), (x, top + row * (cell_height + GAP)))
    for row, name in enumerate(names):
        draw.text((edge, top + row * (cell_height + GAP) + cell_height / 2), name, INK, font=face, anchor="lm")
    return _captioned(canvas, beyond_words(strengths, useful) if legend.caption is None else legend.caption)


def _captioned(picture: Image.Image, words: str) -> Image.Image:
    """With a line below that says what the mark means; not wider than the picture."""
    if not words:
        return picture
    text = f"* {words}"
    size = max(15, picture.width // CAPTION_EMS)
    size = max(8, min(size, int(size * (picture.width - 2 * GAP) / font(size).getlength(text))))
    canvas = Image.new("RGB", (picture.width, picture.height + 2 * size), PAPER)
    canvas.paste(picture)
    ImageDraw.Draw(canvas).text((GAP, picture.height + size), text, GREY, font=font(size), anchor="lm")
    return canvas


def _fitted(text: str, face: Face, width: float) -> str:
    """`text` in one line, cut with an ellipsis where it is wider than `width` pixels."""
    whole = " ".join(text[:1000].split())
    if face.getlength(whole) <= width:
        return whole
    end = bisect_right(range(1, len(whole)), width, key=lambda end: face.getlength(f"{whole[:end]}…"))
    return f"{whole[:end]}…"


def _letters(cell: int) -> tuple[int, int]:
    """(size of the text above a picture of that width, height of its band): readable when it is shrunk to a node's width."""
    size = max(15, cell // 10)
    return size, max(BAND, size * 3 // 2)


def draw_entries(
    images: torch.Tensor,
    names: Sequence[tuple[str, float]],
    title: str = "",
    least: int = 192,
    shape: tuple[int, int] | None = None,
    useful: Span | None = None,
    caption: str | None = None,
) -> Image.Image:
    """(N, 3, H, W) images as a grid, the name and strength of each above it. `shape`: its columns, and the width of a picture;
    without it about as wide as high, of pictures that are at least `least` wide. Strengths beyond the `useful` range are
    marked; `caption`, or else a line that says so, stands below."""
    count, _, height, width = images.shape
    columns, cell = shape or (0, max(width, least))
    cell_height = round(height * cell / width)
    text, band = _letters(cell)
    columns = min(count, columns or max(1, math.ceil(math.sqrt(count * (cell_height + band) / cell))))
    top = band + GAP if title else GAP
    face = font(text, "".join([title, *(name for name, _ in names)]))
    size = (GAP + columns * (cell + GAP), top + math.ceil(count / columns) * (band + cell_height + GAP))
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP, GAP), title, INK, font=face)
    for number, (image, (name, strength)) in enumerate(zip(images, names, strict=True)):
        x = GAP + number % columns * (cell + GAP)
        y = top + number // columns * (band + cell_height + GAP)
        at_strength = f"  {marked(strength, useful)}"
        heading = _fitted(name, face, cell - face.getlength(at_strength)) + at_strength
        draw.text((x + cell / 2, y + band / 2), heading, _ink(strength, useful), font=face, anchor="mm")
        canvas.paste(_resized(image, cell, cell_height), (x, y + band))
    return _captioned(canvas, beyond_words([at for _, at in names], useful) if caption is None else caption)


def draw_validation(
    rows: Mapping[str, torch.Tensor], strengths: Sequence[float], entries: Sequence[Entry], useful: Span | None = None
) -> Image.Image:
    """A prompt library while a slider trains: `rows`, names with their pictures (S, 3, H, W) at all `strengths`, as a strip;
    below it the `entries` that have a strength of their own, each with its name and strength above it. Strengths beyond the
    `useful` range are marked, which a line below explains.

    As wide and as high as a live picture may be, where so many pictures leave that choice.
    """
    parts = []
    if rows:
        images = torch.stack(list(rows.values()))
        parts.append(draw_strip(images, Legend(strengths, list(rows), useful=useful, caption=""), _row_cell(images)))
    if entries:
        images = torch.stack([image for _, _, image in entries])
        names = [(name, strength) for name, strength, _ in entries]
        parts.append(draw_entries(images, names, shape=_entry_shape(images), useful=useful, caption=""))
    drawn_at = [*(strengths if rows else ()), *(strength for _, strength, _ in entries)]
    canvas = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    top = 0
    for part in parts:
        canvas.paste(part, (0, top))
        top += part.height
    return _captioned(canvas, beyond_words(drawn_at, useful))


def draw_library(
    entries: Sequence[tuple[str, float | None]],
    strengths: Sequence[float],
    images_of: Sequence[torch.Tensor],
    useful: Span | None = None,
) -> Image.Image:
    """`draw_validation` of a library: of each entry its name, its own strength or None, and its pictures (n, 3, H, W)."""
    rows = {}
    single = []
    for (name, strength), images in zip(entries, images_of, strict=True):
        if strength is None:
            rows[name] = images
        else:
            single.append((name, strength, images[0]))
    return draw_validation(rows, strengths, single, useful)


def _row_cell(images: torch.Tensor) -> int:
    """The width of a picture in a strip of (R, S, 3, H, W), so that it is neither too wide nor too high."""
    count_rows, count_columns, _, height, width = images.shape
    least, most = ROW_CELLS
    return max(least, min(most, WIDEST // count_columns, WIDEST * width // (count_rows * height)))


def _entry_shape(images: torch.Tensor) -> tuple[int, int]:
    """(columns, width of a picture) of a grid of (N, 3, H, W): the largest that is neither too wide nor too high."""
    count, _, height, width = images.shape
    least, most = ENTRY_CELLS
    for cell in range(most, least - 1, -8):
        columns = max(1, (WIDEST - GAP) // (cell + GAP))
        if math.ceil(count / columns) * (_letters(cell)[1] + GAP + cell * height / width) <= WIDEST:
            break
    return columns, cell
