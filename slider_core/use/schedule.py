"""When a slider acts: a window over the sampling, and a curve inside it. Nothing here knows a model.

Percents are ComfyUI's: 0 is the first sigma of the model's noise schedule, 1 the last, whatever the number of steps, and a
percent is turned into a sigma by the model itself. To leave a picture's layout alone and then slide is Concept Sliders' trick
(Gandikota et al. 2023, section 4): start at 0.2 to 0.4.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from dataclasses import dataclass
from enum import Enum

from ..config.checks import need

FORM = 'write it as "0: 0, 0.3: 0, 0.6: 1" (percent of the sampling: share of the strength)'
MOST_POINTS = 1000


class Mode(str, Enum):
    """How a slider is put on a model: into the weights, or beside them at every call."""

    AUTO = "auto"
    MERGE = "merge"
    LIVE = "live"


def parse_points(text: str) -> tuple[tuple[float, float], ...]:
    """Points of a curve from `0: 0, 0.5: 1`: (percent, share of the strength). Empty text is no curve.

    Raises SliderError that names the point.
    """
    entries = map(str.strip, text.replace("\n", ",").split(","))
    points = tuple(map(_point, filter(None, entries)))
    need(len(points) <= MOST_POINTS, f"The curve has {len(points)} points; {MOST_POINTS} at most.", "curve.too_long")
    return points


def _point(entry: str) -> tuple[float, float]:
    try:
        percent, share = map(float, entry.split(":"))
    except ValueError:
        percent, share = math.nan, math.nan
    need(math.isfinite(percent) and math.isfinite(share), f'Curve: "{entry}" is no point; {FORM}.', "curve.point")
    return percent, share


@dataclass(frozen=True)
class Window:
    """A slider acts from `start` to `end`, both counted in, at `points` (percent, share of its strength) joined by lines.

    Before the first point and after the last the curve stays level; without points it is 1.
    """

    start: float = 0.0
    end: float = 1.0
    points: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        inside = 0 <= self.start <= 1 and 0 <= self.end <= 1
        message = f"start_percent {self.start:g} and end_percent {self.end:g} must lie between 0 and 1."
        need(inside, message, "window.outside")
        message = f"start_percent {self.start:g} does not lie before end_percent {self.end:g}: the slider would never act."
        need(self.start < self.end, message, "window.never")
        percents = [percent for percent, _ in self.points]
        for before, after in itertools.pairwise(percents):
            message = f"Curve: {after:g} comes after {before:g}; put the points in order, each percent once."
            need(before < after, message, "curve.order")
        for percent in percents:
            need(0 <= percent <= 1, f"Curve: the percent {percent:g} does not lie between 0 and 1; {FORM}.", "curve.outside")

    @property
    def changes(self) -> bool:
        """Whether the strength is not the same throughout."""
        return self.start > 0 or self.end < 1 or any(share != 1 for _, share in self.points)

    def share(self, percent: float) -> float:
        """The curve at a percent inside the window."""
        if not self.points:
            return 1.0
        place = bisect_right([at for at, _ in self.points], percent)
        if place == 0:
            return self.points[0][1]
        if place == len(self.points):
            return self.points[-1][1]
        (before, share_before), (after, share_after) = self.points[place - 1 : place + 1]
        return share_before + (share_after - share_before) * (percent - before) / (after - before)
