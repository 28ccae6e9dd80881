"""Pairs and what the doctor says of them as a picture: a row for each pair, its positive, its negative and what differs, as
the rows of Load Slider Dataset have them.

The text stands below the pictures and is large: a node shows the sheet at a third to a half of its size. What a program says of
the pairs beside the sheet is left out of it (`bare_sheet`), so that it stands there once.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw

from ..canvas import INK, font
from ..config.checks import counted
from .bitmap import WHITE, Colour
from .fitting import to_pil
from .pair_check import PairFigures, PairImages, luma, plain
from .pair_diagnosis import Finding, PairsReport

PAPER = WHITE
COLUMNS = ("positive", "negative", "what differs")
TITLE, NAME, TEXT = 34, 26, 24  # sizes of letters
GREY = (110, 110, 116)
RED = (196, 40, 36)
GAP = 10  # pixels
Line = tuple[str, int, Colour]  # text, size, colour


def _written(parts: Sequence[Line], width: int) -> Image.Image:
    """Texts below each other, wrapped to `width` pixels."""
    lines = []
    for text, size, colour in parts:
        line = plain(text) or "-"
        face = font(size, line)
        glyphs = max(8, int(0.92 * width * len(line) / face.getlength(line)))
        for wrapped in textwrap.wrap(line, glyphs):
            lines.append((wrapped, colour, face, round(size * 1.4)))
    paper = Image.new("RGB", (width, sum(height for *_, height in lines)), PAPER)
    top = 0
    for text, colour, face, height in lines:
        ImageDraw.Draw(paper).text((0, top), text, colour, face)
        top += height
    return paper


def _scaled(image_CHW: torch.Tensor, cell: int) -> Image.Image:
    """The image with its longer side `cell` pixels long."""
    picture = to_pil(image_CHW)
    scale = cell / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _row(images: PairImages, pair: PairFigures, findings: Sequence[Finding], cell: int) -> Image.Image:
    """Positive, negative, what differs (the rest faded), and below what is to be said of them."""
    negative = images.negative.detach().float().cpu().clamp(0, 1)
    positive = images.positive.detach().float().cpu().clamp(0, 1)
    differing = torch.where(pair.mask, positive, 0.84 + 0.16 * luma(positive))
    parts: list[Line] = [(f"{pair.name}: {pair.share:.1%} differs", NAME, INK)]
    parts += [(finding.short, TEXT, RED) for finding in findings[:5]]
    cells = [_scaled(image, cell) for image in (positive, negative, differing)]
    text = _written(parts, _width(cell))
    top = max(picture.height for picture in cells)
    row = Image.new("RGB", (_width(cell), top + text.height), PAPER)
    for i, picture in enumerate(cells):
        row.paste(picture, (i * (cell + GAP), 0))
    row.paste(text, (0, top))
    return row


def _width(cell: int) -> int:
    return len(COLUMNS) * cell + (len(COLUMNS) - 1) * GAP


def _heading(report: PairsReport, shown: int) -> list[Line]:
    """The title, the summary and what there is to say of all pairs."""
    line = report.summary
    if shown < len(report.pairs):
        line += f" {shown} of them are shown."
    if report.findings:
        line += f" {counted(len(report.findings), 'finding')}."
    else:
        line += f" {report.lines()[0] if report.pairs else 'Nothing to examine.'}"
    heading: list[Line] = [("Pair doctor", TITLE, INK), (line, TEXT, GREY)]
    heading += [(finding.text, TEXT, RED) for finding in report.of(None)]
    return heading


@dataclass(frozen=True)
class BareSheet:
    """`picture`: the pairs without a sentence about them. `bands`: for each pair (top, height) in pixels of its row in the
    picture, None for one that has no room in it."""

    picture: Image.Image
    bands: list[tuple[int, int] | None]


def _shown(report: PairsReport, most: int) -> list[int]:
    """Which pairs have room: those with findings before the others."""
    worst_first = sorted(range(len(report.pairs)), key=lambda i: not report.of(report.pairs[i].name))
    return sorted(worst_first[:most])


def _columns(cell: int) -> Image.Image:
    columns = Image.new("RGB", (_width(cell), round(1.3 * TEXT)), PAPER)
    for i, title in enumerate(COLUMNS):
        ImageDraw.Draw(columns).text((i * (cell + GAP), 0), title, GREY, font(TEXT))
    return columns


def _joined(blocks: Sequence[Image.Image], cell: int) -> tuple[Image.Image, list[tuple[int, int]]]:
    """(the blocks below each other, (top, height) of each in pixels)."""
    sheet = Image.new("RGB", (_width(cell) + 4 * GAP, sum(block.height + GAP for block in blocks) + 3 * GAP), PAPER)
    bands = []
    top = 2 * GAP
    for block in blocks:
        sheet.paste(block, (2 * GAP, top))
        bands.append((top, block.height))
        top += block.height + GAP
    return sheet, bands


def contact_sheet(images: Sequence[PairImages], report: PairsReport, cell: int = 170, most: int = 24) -> Image.Image:
    """A picture of the report, RGB on white, with a row for each pair.

    `images` as they were examined, `cell` in pixels. Of more than `most` pairs those with findings come first.
    """
    shown = _shown(report, most)
    blocks = [_written(_heading(report, len(shown)), _width(cell)), _columns(cell)]
    for i in shown:
        pair = report.pairs[i]
        blocks.append(_row(images[i], pair, report.of(pair.name), cell))
    return _joined(blocks, cell)[0]


def bare_sheet(images: Sequence[PairImages], report: PairsReport, cell: int = 170, most: int = 24) -> BareSheet:
    """The rows of `contact_sheet` without its findings and its heading, for where these stand beside it."""
    shown = _shown(report, most)
    rows = [_row(images[i], report.pairs[i], [], cell) for i in shown]
    picture, bands = _joined([_columns(cell), *rows], cell)
    band_of = dict(zip(shown, bands[1:], strict=True))
    return BareSheet(picture, [band_of.get(i) for i in range(len(report.pairs))])
