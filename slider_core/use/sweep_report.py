"""The report card of a sweep: what papers report of sliders (field_measures.py), side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..config.checks import need
from . import field_measures as field
from .perceptual import Metric
from .sweep import SweepResult

SIDES = {"minus": -1.0, "plus": 1.0}


@dataclass(frozen=True)
class Clip:
    """CLIP embeddings of a sweep: `images` (rows, strengths, E), prompts of the two ends (E,), None without them."""

    images: torch.Tensor
    minus: torch.Tensor | None = None
    plus: torch.Tensor | None = None


@dataclass(frozen=True)
class ReportCard:
    """`sides`: figures by side and measure, NaN where one cannot be measured; `overall`: of the whole sweep; `curve`: mean
    distance from the picture nearest to strength 0, by rising strength."""

    title: str
    metric: str
    note: str
    identity: str  # what it is the similarity of
    rows: int
    start: float  # the strength that all is measured from
    sides: dict[str, dict[str, float]]
    overall: dict[str, float]
    curve: dict[float, float]

    def mean(self, measure: str) -> float:
        """Of the two sides."""
        return field.mean([side.get(measure, math.nan) for side in self.sides.values()])


def columns_of_side(result: SweepResult, sign: float) -> list[int]:
    """Places of the strengths of one side, from the one nearest to 0 outwards, every strength once."""
    strengths = result.spec.strengths
    start = strengths[result.zero]
    beyond = {s: place for place, s in enumerate(strengths) if sign * (s - start) > 0}
    return [result.zero, *(beyond[s] for s in sorted(beyond, key=lambda s: sign * s))]


def trajectories(result: SweepResult, metric: Metric, columns: Sequence[int]) -> list[field.Trajectory]:
    """Of every row."""
    strengths = [abs(result.spec.strengths[c] - result.spec.strengths[columns[0]]) for c in columns]
    found = []
    for row in metric.values[:, columns]:
        steps = metric.between(row[:-1], row[1:]).tolist()
        skips = metric.between(row[:-2], row[2:]).tolist() if len(row) > 2 else []
        distances = [0.0, *metric.between(row[:1].expand_as(row[1:]), row[1:]).tolist()]
        found.append(field.Trajectory(strengths, steps, skips, distances))
    return found


def _of_trajectory(path: field.Trajectory) -> dict[str, float]:
    deficits = field.triangle_deficits(path)
    return {
        "triangle_deficit": field.mean(deficits),
        "largest_deficit": max(deficits, default=math.nan),
        "step_deviation": field.step_deviation(path),
        "largest_step": max(field.step_shares(path)),
        "linearity": field.linearity(path.strengths, path.distances),
        "distance": path.distances[-1],
        "rises_to": field.rises_to(path),
    }


def _of_clip(images_NE: torch.Tensor, strengths: Sequence[float], clip: Clip, sign: float) -> dict[str, float]:
    """Source and target prompt are those of the other end and of this one."""
    figures = {"identity": field.mean(field.clip_similarities(images_NE))}
    if clip.minus is None or clip.plus is None:
        return figures
    source, target = (clip.minus, clip.plus) if sign > 0 else (clip.plus, clip.minus)
    cosines = field.clip_directions(images_NE, source, target)
    figures["clip_direction"] = field.clip_direction(cosines, strengths)
    figures["clip_direction_end"] = cosines[-1]
    figures["clip_gain"] = field.clip_gain(images_NE, target)
    return figures


def _side(result: SweepResult, metric: Metric, clip: Clip | None, sign: float) -> dict[str, float]:
    """Means over the rows; {} where the sweep has no strength on this side."""
    columns = columns_of_side(result, sign)
    if len(columns) < 2:
        return {}
    rows = []
    for number, path in enumerate(trajectories(result, metric, columns)):
        figures = _of_trajectory(path)
        if clip is not None:
            figures |= _of_clip(clip.images[number, columns], path.strengths, clip, sign)
        else:
            seen = result.images if result.latents is None else result.latents
            figures["identity"] = field.mean(field.clip_similarities(seen[number, columns].flatten(1)))
        rows.append(figures)
    return {measure: field.mean([row[measure] for row in rows]) for measure in rows[0]}


def _overall(result: SweepResult) -> dict[str, float]:
    """Over both sides, in latents (pixels without them): how straight the way along the line between both ends is."""
    strengths = result.spec.strengths
    seen = (result.images if result.latents is None else result.latents).flatten(2)
    low, high = strengths.index(min(strengths)), strengths.index(max(strengths))
    along = [field.linearity(strengths, (row @ (row[high] - row[low])).tolist()) for row in seen]
    return {"linearity": field.mean(along), "lowest": min(strengths), "highest": max(strengths)}


def report_card(result: SweepResult, metric: Metric, clip: Clip | None = None, title: str = "") -> ReportCard:
    """SliderError for a sweep of one strength."""
    need(len(set(result.spec.strengths)) > 1, "A report card needs a sweep of two strengths or more.", "report_card.one_strength")
    sides = {name: _side(result, metric, clip, sign) for name, sign in SIDES.items()}
    start = result.spec.strengths[result.zero]
    curve = {start: 0.0}
    for sign in SIDES.values():
        columns = columns_of_side(result, sign)
        if len(columns) > 1:
            paths = trajectories(result, metric, columns)
            for place, column in enumerate(columns[1:], start=1):
                curve[result.spec.strengths[column]] = field.mean([path.distances[place] for path in paths])
    identity = "CLIP" if clip is not None else ("pixels" if result.latents is None else "latents")
    rising = dict(sorted(curve.items()))
    return ReportCard(title, metric.name, metric.note, identity, len(result.images), start, sides, _overall(result), rising)
