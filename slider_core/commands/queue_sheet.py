"""The contact sheet of a queue: the strips of all its sliders, each under its name and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from ..canvas import INK, PAPER, font
from .queue_list import DONE, QueuedJob

WIDTH, BAND, GAP, SIZE = 900, 24, 8, 14
TALLEST = 20_000  # pixels of a sheet
LONGEST = 110  # characters of a line


def contact_sheet(jobs: Sequence[QueuedJob]) -> Image.Image | None:
    """The strips that there are, from the first job to the last; None where there is none."""
    rows = []
    for job in jobs:
        path = Path(str(job.report.get("strip") or ""))
        if job.state == DONE and path.is_file():
            with Image.open(path) as strip:
                height = max(1, round(strip.height * WIDTH / strip.width))
                title = f"{job.name}: {job.report.get('verdict', '')}"[:LONGEST]
                rows.append((title, strip.convert("RGB").resize((WIDTH, height))))
    total = sum(strip.height + BAND + GAP for _, strip in rows)
    if not rows:
        return None
    sheet = Image.new("RGB", (WIDTH + 2 * GAP, min(TALLEST, total + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for title, strip in rows:
        draw.text((GAP, top), title, INK, font=font(SIZE, title))
        sheet.paste(strip, (GAP, top + BAND))
        top += strip.height + BAND + GAP
    return sheet
