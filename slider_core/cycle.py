"""What comes next. A batch is a pure function of (samples, spec, step), so a resumed run is the same run.

Rotating: positive -> negative -> neutral, one group a step, empty groups skipped (the reference's cycle).
Paired:   every step takes whole pairs, both signs in one batch; where there are neutral images, every third step is theirs.
Each group is walked in a shuffled order that is drawn anew for every epoch.

A neutral image comes twice, at +s and -s with the same noise: what must vanish is the even part of the displacement
(objective.py), which a strength of 0 could not teach, because there the adapter is silent.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .cache import Sample
from .config import Objective, SliderError, TrainSpec


@dataclass(frozen=True)
class Batch:
    """One optimizer step's samples. Samples with the same number in `noise` share noise and timestep."""

    step: int
    samples: tuple[Sample, ...]
    strengths: tuple[float, ...]
    noise: tuple[int, ...]
    neutral: bool


def _walk(count: int, wanted: int, visit: int, seed: str) -> list[int]:
    """`wanted` indices below `count` for the `visit`-th visit of an endless shuffled walk."""

    def order(epoch: int) -> list[int]:
        return random.Random(f"{seed}/{epoch}").sample(range(count), count)

    places = range(visit * wanted, (visit + 1) * wanted)
    return [order(place // count)[place % count] for place in places]


def _neutral(step: int, visit: int, group: Sequence[Sample], spec: TrainSpec, reach: float) -> Batch:
    picked = [group[i] for i in _walk(len(group), max(1, spec.batch // 2), visit, f"{spec.seed}/0")]
    numbers = tuple(range(len(picked)))
    return Batch(step, (*picked, *picked), (reach,) * len(picked) + (-reach,) * len(picked), numbers * 2, neutral=True)


def _rotating(samples: Sequence[Sample], spec: TrainSpec, step: int, reach: float) -> Batch:
    groups = {sign: [s for s in samples if (s.strength > 0) - (s.strength < 0) == sign] for sign in (1, -1, 0)}
    order = [sign for sign, group in groups.items() if group]
    sign, visit = order[step % len(order)], step // len(order)
    if sign == 0:
        return _neutral(step, visit, groups[0], spec, reach)
    picked = tuple(groups[sign][i] for i in _walk(len(groups[sign]), spec.batch, visit, f"{spec.seed}/{sign}"))
    return Batch(step, picked, tuple(s.strength for s in picked), tuple(range(len(picked))), neutral=False)


def _paired(samples: Sequence[Sample], spec: TrainSpec, step: int, reach: float) -> Batch:
    pairs: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.pair is not None:
            pairs.setdefault(sample.pair, []).append(sample)
    neutral = [s for s in samples if s.strength == 0]
    if neutral and step % 3 == 2:
        return _neutral(step, step // 3, neutral, spec, reach)
    visit = step - step // 3 if neutral else step
    numbers = _walk(len(pairs), spec.batch // 2, visit, f"{spec.seed}/pairs")
    picked = [sorted(pairs[n], key=lambda s: -s.strength) for n in numbers]
    chosen = tuple(pair[side] for side in (0, 1) for pair in picked)
    return Batch(step, chosen, tuple(s.strength for s in chosen), tuple(range(len(picked))) * 2, neutral=False)


def next_batch(samples: Sequence[Sample], spec: TrainSpec, step: int) -> Batch:
    """The batch of `step` (from 0) under `spec.objective`. Raises SliderError when a sign has no samples."""
    strengths = [abs(s.strength) for s in samples if s.strength]
    if not any(s.strength > 0 for s in samples) or not any(s.strength < 0 for s in samples):
        raise SliderError("Training needs positive and negative samples; one side is empty.")
    draw = _rotating if spec.objective is Objective.DENOISE_ROTATING else _paired
    return draw(samples, spec, step, max(strengths))
