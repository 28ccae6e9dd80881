"""Pairs and what the doctor says of them as a picture: a row for each pair, its negative, its positive and what differs.

The text stands below the pictures and is large: a node shows the sheet at a third to a half of its size.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from ..canvas import INK, font
from ..config.checks import counted
from .bitmap import WHITE, Colour
from .fitting import to_pil
from .pair_check import PairFigures, PairImages, luma, plain
from .pair_doctor import Finding, PairsReport

PAPER = WHITE
COLUMNS = ("negative", "positive", "what differs")
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
    """Negative, positive, what differs (the rest faded), and below what is to be said of them."""
    negative = images.negative.detach().float().cpu().clamp(0, 1)
    positive = images.positive.detach().float().cpu().clamp(0, 1)
    differing = torch.where(pair.mask, positive, 0.84 + 0.16 * luma(positive))
    parts: list[Line] = [(f"{pair.name}: {pair.share:.1%} differs", NAME, INK)]
    parts += [(finding.short, TEXT, RED) for finding in findings[:5]]
    cells = [_scaled(image, cell) for image in (negative, positive, differing)]
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


def contact_sheet(images: Sequence[PairImages], report: PairsReport, cell: int = 170, most: int = 24) -> Image.Image:
    """A picture of the report, RGB on white, with a row for each pair.

    `images` as they were examined, `cell` in pixels. Of more than `most` pairs those with findings come first.
    """
    width = _width(cell)
    worst_first = sorted(range(len(images)), key=lambda i: not report.of(report.pairs[i].name))
    shown = sorted(worst_first[:most])
    columns = Image.new("RGB", (width, round(1.3 * TEXT)), PAPER)
    for i, title in enumerate(COLUMNS):
        ImageDraw.Draw(columns).text((i * (cell + GAP), 0), title, GREY, font(TEXT))
    blocks = [_written(_heading(report, len(shown)), width), columns]
    for i in shown:
        pair = report.pairs[i]
        blocks.append(_row(images[i], pair, report.of(pair.name), cell))
    sheet = Image.new("RGB", (width + 4 * GAP, sum(block.height + GAP for block in blocks) + 3 * GAP), PAPER)
    top = 2 * GAP
    for block in blocks:
        sheet.paste(block, (2 * GAP, top))
        top += block.height + GAP
    return sheet
