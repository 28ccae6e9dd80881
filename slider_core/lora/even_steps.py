"""A dial whose steps look even: its places, and the strengths that they stand for.

The way from 0 to a strength is the sum of how far apart neighbouring pictures look on it. A place of the dial is the way as a
share of that to strength 1 (or -1): equal steps of the dial go equal ways, 0 is 0, +-1 are +-1. Each side of 0 has a length of
its own. This is the second half of FreeSliders' ASTD (arXiv 2511.00103: 7 strengths, 30 samples); the first, where the range
ends, is the calibration's.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

from ..config.checks import is_number, parse_json

DIGITS = 4  # after the point, of places and strengths
Point = tuple[float, float]


@dataclass(frozen=True)
class EvenSteps:
    """`points`: (place of the dial, calibrated strength), both rising, (0, 0) among them. Straight lines join them; beyond the
    ends, where nothing was measured, a place more is a strength more. ValueError for other points."""

    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        for before, after in itertools.pairwise(self.points):
            if not (before[0] < after[0] and before[1] < after[1]):
                raise ValueError(f"the places {before} and {after} do not both rise")
        if len(self.points) < 2 or (0.0, 0.0) not in self.points:
            raise ValueError("a dial has a place 0 and another")

    @classmethod
    def from_json(cls, text: str) -> EvenSteps:
        """Of the header. ValueError or another fault of Python's own where the text is none."""
        points = []
        for place, strength in parse_json(text, "header", "slider_info.damaged"):
            if not is_number(place) or not is_number(strength):
                raise ValueError("a place and a strength are numbers")
            points.append((float(place), float(strength)))
        return cls(tuple(points))

    def strength(self, place: float) -> float:
        """The calibrated strength at a place of the dial."""
        number = bisect_right(self.points, place, key=itemgetter(0))
        if number in (0, len(self.points)):
            end = self.points[0 if number == 0 else -1]
            return end[1] + (place - end[0])
        (low, weak), (high, strong) = self.points[number - 1], self.points[number]
        return weak + (place - low) * ((strong - weak) / (high - low))


def even_steps(sides: Mapping[float, tuple[Sequence[float], Sequence[float]]]) -> EvenSteps | None:
    """The dial of a slider. `sides`: by sign (1.0, -1.0) strengths that rise from 0, (n + 1,) without their sign, and how far
    apart neighbours look, (n,), any unit. None where no side reaches 1 and changes on the way."""
    points: list[Point] = [(0.0, 0.0)]
    for sign, (strengths, distances) in sides.items():
        points += [(sign * place, sign * strength) for place, strength in _side(strengths, distances)]
    return EvenSteps(tuple(sorted(points))) if len(points) > 1 else None


def _side(strengths: Sequence[float], distances: Sequence[float]) -> list[Point]:
    """The places of one side beyond 0."""
    way = list(itertools.accumulate(distances, initial=0.0))
    if strengths[-1] < 1:
        return []
    to_1 = _between(strengths, way, 1.0)
    if not to_1 > 0:
        return []
    measured = [(round(length / to_1, DIGITS), round(strength, DIGITS)) for length, strength in zip(way, strengths, strict=True)]
    below = [point for point in measured if max(point) < 1]
    above = [point for point in measured if min(point) > 1]
    points = [(0.0, 0.0)]
    for point in (*below, (1.0, 1.0), *above):
        if point[0] > points[-1][0] and point[1] > points[-1][1]:  # strengths that look alike are one place
            points.append(point)
    return points[1:]


def _between(strengths: Sequence[float], way: Sequence[float], strength: float) -> float:
    """How long the way is to a strength."""
    last = min(bisect_right(strengths, strength), len(strengths) - 1)
    low, high = strengths[last - 1], strengths[last]
    return way[last - 1] + (strength - low) / (high - low) * (way[last] - way[last - 1])
