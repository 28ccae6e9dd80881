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
    """The strips that there are, from the first job to the last, as many as fit; None where there is none."""
    rows = []
    for job in jobs:
        path = Path(str(job.report.get("strip") or ""))
        if job.state == DONE and path.is_file():
            with Image.open(path) as strip:
                height = max(1, round(strip.height * WIDTH / strip.width))
                title = f"{job.name}: {job.report.get('verdict', '')}"[:LONGEST]
                rows.append((title, strip.convert("RGB").resize((WIDTH, height))))
    if not rows:
        return None
    tops = [GAP]  # of each strip, and of what comes below the last
    for _, strip in rows:
        tops.append(tops[-1] + BAND + strip.height + GAP)
    fitting = sum(bottom <= TALLEST - BAND for bottom in tops[1:])
    below = BAND if fitting < len(rows) else 0
    sheet = Image.new("RGB", (WIDTH + 2 * GAP, tops[fitting] + below), PAPER)
    draw = ImageDraw.Draw(sheet)
    for top, (title, strip) in zip(tops, rows[:fitting], strict=False):
        draw.text((GAP, top), title, INK, font=font(SIZE, title))
        sheet.paste(strip, (GAP, top + BAND))
    if below:
        draw.text((GAP, tops[fitting]), f"and {len(rows) - fitting} more, each in the folder of its run", INK, font=font(SIZE))
    return sheet
