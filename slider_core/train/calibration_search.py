"""Finds the strength, on each side, that best explains the images of that side; their geometric mean is the slider's unit, so
that +1 shows the positive images and -1 the negative ones.

Along the strength the error of the predicted clean image (calibration_errors.py) is nearly a parabola, read at a few strengths.
Where it meets the error at strength 0 again the slider begins to harm: the end of its useful range.

One unit serves both sides. What the base model misses on both images of a pair alike (they share their noise) pulls the two
sides apart and their geometric mean hardly at all: drawn pictures are more even at one unit than at a unit for each side, and two
noises agree better on it (docs/benchmarks.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from ..backend import Backend
from ..config.checks import SliderError
from ..encode.encoder import Sample
from ..lora.slider_adapter import Adapter
from ..objective.prompt_targets import measured_on
from .calibration import TOO_FLAT, Calibration, Side
from .calibration_errors import ErrorMeter, OnPass

FIRST = (0.5, 1.0, 2.0)  # strengths that are tried, in units that double or halve until the best lies between them
AROUND = (1.0, 1.5, 3.0)  # of the best strength: for what is explained there, the curve and the end of the range
DOUBLINGS = 7


def _lowest_point(points: Sequence[tuple[float, float]]) -> float:
    """Where the parabola through three points has its lowest."""
    (a, fa), (b, fb), (c, fc) = points
    up = (b - a) * (fb - fc)
    down = (b - c) * (fb - fa)
    bend = up - down
    return b - ((b - a) * up - (b - c) * down) / (2 * bend) if bend else b


class _Search:
    """One side's errors by strength; `pending` are the strengths to read next, none once the best lies between two readings."""

    def __init__(self, base: float) -> None:
        self.errors = {0.0: base}
        self.unit = 1.0
        self.attempts = DOUBLINGS
        self.failed = False
        self.pending = list(FIRST)

    def take(self, strength: float, error: float) -> None:
        """A reading; when it was the last that was pending, choose the next ones."""
        self.errors[strength] = error if math.isfinite(error) else math.inf
        self.pending = [s for s in self.pending if s not in self.errors]
        if self.pending:
            return
        lowest = min(self.errors, key=self.errors.__getitem__)
        self.attempts -= 1
        if 0 < lowest < max(self.errors):
            return
        if self.attempts <= 0:
            self.failed = True
            return
        self.unit *= 2 if lowest else 0.5
        for factor in FIRST:
            if factor * self.unit not in self.errors:
                self.pending.append(factor * self.unit)

    def best(self) -> float:
        strengths = sorted(self.errors)
        place = strengths.index(min(strengths, key=self.errors.__getitem__))
        if place in (0, len(strengths) - 1):
            return self.unit
        around = [(s, self.errors[s]) for s in strengths[place - 1 : place + 2]]
        return _lowest_point(around) if all(math.isfinite(error) for _, error in around) else strengths[place]

    def side(self) -> Side | None:
        """The result; None when no strength explains the images better than the base model does."""
        if self.failed:
            return None
        best = self.best()
        curve = []
        for strength, error in sorted(self.errors.items()):
            if math.isfinite(error) and strength <= 4 * best:
                curve.append((strength, 1 - error / self.errors[0.0]))
        if max(share for _, share in curve) < TOO_FLAT:
            return None
        return Side(best, _range_end(curve, best), tuple(curve))


def _range_end(curve: Sequence[tuple[float, float]], best: float) -> float:
    """The first strength beyond the best one where nothing is explained any more, between two readings."""
    for (a, share_a), (b, share_b) in itertools.pairwise(curve):
        if b > best and share_b <= 0 < share_a:
            return a + (b - a) * share_a / (share_a - share_b)
    return curve[-1][0]


def _read(meter: ErrorMeter, searches: Sequence[_Search], strengths: Sequence[float]) -> None:
    for search, strength, error in zip(searches, strengths, meter.errors(*strengths), strict=True):
        search.take(strength, error)


@torch.no_grad()
def calibrate(
    backend: Backend,
    adapter: Adapter,
    samples: Sequence[Sample],
    seed: int = 0,
    on_pass: OnPass | None = None,
    one_way: bool = False,
) -> Calibration:
    """Measure a slider on images of both sides. Raises SliderError when a side has none, or the weights are not finite.

    `on_pass` is called after each forward pass; an exception out of it ends the measurement. `one_way`: the slider has no
    minus side, and none is measured.

    Cost: at each strength couples * levels * noises * 2 samples, in passes of ROWS; usually six strengths, and the base model at
    eight levels: about 180 passes for six pairs.
    """
    if not adapter.finite():
        message = "The slider's weights are not finite: train it anew at a lower learning rate."
        raise SliderError(message, "calibration.not_finite")
    with backend.borrowed():
        backend.prepare(adapter.paths, samples[0].latent, samples[0].cond)
        meter = ErrorMeter(backend, adapter, samples, seed, on_pass, one_way)
        searches = [_Search(error) for error in meter.errors(*[0.0] * (1 if one_way else 2))]
        while any(search.pending for search in searches):
            meter.expect(max(len(search.pending) for search in searches) + len(AROUND))
            strengths = []
            for search in searches:
                strengths.append(search.pending[0] if search.pending else search.best())
            _read(meter, searches, strengths)
        for factor in AROUND:
            _read(meter, searches, [factor * search.best() for search in searches])
        shown = "the images" if measured_on(samples)[0].prompt_pair is None else "the prompts"
        sides = [search.side() for search in searches]
        return Calibration(sides[0], None if one_way else sides[1], meter.passed.count, shown, one_way=one_way)
