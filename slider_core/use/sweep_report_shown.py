"""A report card as a table, as a picture and as JSON."""

from __future__ import annotations

import math
from typing import Any

from PIL import Image, ImageDraw

from ..canvas import INK, PAPER, font
from ..lora.useful_range import Span
from .plot_curves import CURVE, draw_curve, label
from .sweep_export import as_json
from .sweep_report import ReportCard

MEASURES = {  # key: name in the table, and what it says
    "triangle_deficit": ("triangle deficit", "0: a straight way"),
    "largest_deficit": ("largest deficit", "one jump there and back"),
    "step_deviation": ("step deviation", "0: all steps look alike"),
    "largest_step": ("largest step", "share of the way"),
    "linearity": ("linearity, r", "1: in proportion"),
    "distance": ("distance at the end", "from strength 0"),
    "rises_to": ("rises up to", "this far from the start"),
    "identity": ("identity", "1: as at strength 0"),
    "clip_direction": ("CLIP direction", "as Kontinuous Kontext"),
    "clip_direction_end": ("CLIP direction, end", "cosine"),
    "clip_gain": ("delta CLIP", "as Concept Sliders"),
}
NAME, CELL = 22, 10  # characters of the table's columns
MARGIN, LINE_HEIGHT, CHARACTER = 20, 22, 8  # pixels of the picture
Measured = tuple[str, list[float], str]  # name, values, what it says


def _heads(card: ReportCard) -> list[str]:
    names = [name for name, side in card.sides.items() if side]
    return [*names, "both"] if len(names) > 1 else names


def _measured(card: ReportCard) -> list[Measured]:
    """The measures of which anything is known."""
    found = []
    for measure, (name, says) in MEASURES.items():
        values = [card.mean(measure) if head == "both" else card.sides[head].get(measure, math.nan) for head in _heads(card)]
        if any(map(math.isfinite, values)):
            found.append((name, values, says))
    return found


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _notes(card: ReportCard) -> list[str]:
    low, high = (label(card.overall[end]) for end in ("lowest", "highest"))
    notes = [
        f"From {low} to {high} along the line between both ends: r = {_number(card.overall['linearity'])}.",
        f"Distance: {card.metric}. Identity: {card.identity}. Rows: {card.rows}. Measured from strength {label(card.start)}.",
    ]
    if card.note:
        notes.append(f"{card.metric} in place of LPIPS: {card.note}. A paper's distances are others.")
    return notes


def table(card: ReportCard) -> str:
    """One line a measure: both sides, their mean, what it says; those that were not measured are left out."""
    lines = [" " * NAME + "".join(f"{head:>{CELL}}" for head in _heads(card))]
    for name, values, says in _measured(card):
        lines.append(f"{name:<{NAME}}" + "".join(f"{_number(value):>{CELL}}" for value in values) + f"  {says}")
    return "\n".join([*lines, *_notes(card)])


def to_json(card: ReportCard) -> str:
    """All figures under names that stay; what could not be measured is null."""
    sides = {}
    for name, side in card.sides.items():
        if side:
            sides[name] = {measure: side.get(measure, math.nan) for measure in MEASURES}
    content: dict[str, Any] = {
        "slider": card.title,
        "distance": card.metric,
        "identity": card.identity,
        "note": card.note,
        "rows": card.rows,
        "from_strength": card.start,
        "sides": sides,
        "both": {measure: card.mean(measure) for measure in MEASURES},
        "overall": card.overall,
        "curve": list(card.curve.items()),
    }
    return as_json(content, indent=2)


def _even(card: ReportCard, strength: float) -> float:
    """On the straight line from the first picture to the end of that side."""
    if strength == card.start:
        return 0.0
    end = max(card.curve) if strength > card.start else min(card.curve)
    return card.curve[end] * (strength - card.start) / (end - card.start)


def draw_card(card: ReportCard, useful: Span | None = None) -> Image.Image:
    """The distance over strength with the even way beside it, strengths beyond the `useful` range marked, and the table below;
    900 pixels wide."""
    measured, notes = _measured(card), _notes(card)
    even = [_even(card, strength) for strength in card.curve]
    lines = {"measured": list(card.curve.values()), "even steps": even}
    canvas = Image.new("RGB", (CURVE[0], CURVE[1] + LINE_HEIGHT * (len(measured) + len(notes) + 2)), PAPER)
    curve = draw_curve(list(card.curve), lines, f"{card.title or 'slider'}: {card.metric}", "distance", useful)
    canvas.paste(curve, (0, 0))
    draw = ImageDraw.Draw(canvas)
    _write_cells(draw, CURVE[1], "", _heads(card), "")
    y = CURVE[1] + LINE_HEIGHT
    for name, values, says in measured:
        _write_cells(draw, y, name, list(map(_number, values)), says)
        y += LINE_HEIGHT
    for note in notes:
        draw.text((MARGIN, y), note, INK, font=font(13, note))
        y += LINE_HEIGHT
    return canvas


def _write_cells(draw: ImageDraw.ImageDraw, y: int, name: str, cells: list[str], says: str) -> None:
    """A line of the table: the name on the left, cells that end below each other, what it says on the right."""
    face = font(14)
    draw.text((MARGIN, y), name, INK, font=face)
    right = MARGIN + NAME * CHARACTER
    for cell in cells:
        right += CELL * CHARACTER
        draw.text((right, y), cell, INK, font=face, anchor="ra")
    draw.text((right + MARGIN, y), says, INK, font=face)
