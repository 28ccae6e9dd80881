"""What comes next. A batch is a pure function of (samples, spec, step), so a resumed run is the same run.

Rotating: positive -> negative -> neutral, one group a step (the cycle of SimpleTuner's slider guide).
Paired:   pairs -> pairs -> neutral; a step takes whole pairs, both signs in one batch.
Words are a group of their own that comes after each step of images; a step takes latents, both signs of each in one batch.

In a group one bucket has its turn, drawn by probability. A bucket is exhausted when an epoch has shown each of its images
1 + repeats times, and leaves. Rotating, an exhausted group leaves too and the cycle goes on with what is left; when nothing
is left, the next epoch begins. Paired, each group has epochs of its own, so that every third step stays neutral.

Each bucket is walked in a shuffled order that is drawn anew for every pass, and a batch that a pass cannot fill takes the
first of the next pass, so over time every image comes as often as its neighbours. Images of one size stay together.

A step that is accumulated is the step of a batch as large as its parts together (`parts`), but no image comes twice in it as
long as there are enough of them.

A neutral image comes twice, at +s and -s with the same noise, and stays as it is at both (objective.py). A strength of 0 could
teach nothing, because there the adapter is silent.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ..config.checks import SliderError
from ..config.training import TrainSpec
from ..encode.encoder import Sample, pairs_of

PAIRS, WORDS = "pairs", "words"
NEUTRAL = 0
NEAREST, FARTHEST = 0.25, 2.0  # strengths of neutral images, in units of the images' own
Unit = tuple[Sample, ...]  # what is drawn: one sample, or a positive and its negative


@dataclass(frozen=True)
class Batch:
    """One optimizer step's samples. Samples with the same number in `noise` share noise and timestep."""

    step: int
    samples: tuple[Sample, ...]
    strengths: tuple[float, ...]
    noise: tuple[int, ...]
    neutral: bool
    aligned: bool = False  # whole pairs that line up: the first half of the samples are the positives, in the same order
    draws: int = 0  # numbers in `noise` over all parts of the step; 0: those that are here
    text_slider: bool = False  # the same latents at plus, then at minus: prompts give the targets


@dataclass(frozen=True)
class Lane:
    """The units of one bucket that fit one batch: of one group and one size. An epoch gives it `turns` batches."""

    group: int | str
    name: str
    units: tuple[Unit, ...]
    weight: float
    turns: int
    partners: tuple[Sample, ...] = ()  # negatives of that size, of whom each unit meets one: where pairs are drawn at random


@lru_cache(maxsize=64)
def _shuffled(count: int, seed: str, epoch: int) -> tuple[int, ...]:
    return tuple(random.Random(f"{seed}/{epoch}").sample(range(count), count))


@lru_cache(maxsize=256)
def _passes(_count: int, _wanted: int, _seed: str) -> list[tuple[int, ...]]:
    """The passes of a walk as far as they were asked for: each depends on the one before."""
    return []


def _apart(count: int, wanted: int, seed: str, epoch: int) -> tuple[int, ...]:
    """A shuffled pass that begins with others than the pass before has already given to a visit that both share."""
    known = _passes(count, wanted, seed)
    while len(known) <= epoch:
        order, open_ = _shuffled(count, seed, len(known)), -len(known) * count % wanted
        given = known[-1][max(0, count - (wanted - open_)) :] if open_ else []
        first = [index for index in order if index not in given][:open_]
        known.append((*first, *(index for index in order if index not in first)))
    return known[epoch]


def _walk(count: int, wanted: int, visit: int, seed: str, apart: bool = False) -> list[int]:
    """`wanted` indices below `count` for the `visit`-th visit of an endless shuffled walk; `apart`: no two alike if possible."""
    places = range(visit * wanted, (visit + 1) * wanted)
    orders = {
        epoch: _apart(count, wanted, seed, epoch) if apart else _shuffled(count, seed, epoch)
        for epoch in dict.fromkeys(place // count for place in places)
    }
    return [orders[place // count][place % count] for place in places]


def _sign(sample: Sample) -> int:
    return (sample.strength > 0) - (sample.strength < 0)


def _lanes(group: int | str, units: Sequence[Unit], wanted: int) -> list[Lane]:
    """The units of a group by bucket and size. A bucket's probability is shared by its sizes as its images are."""
    parts: dict[tuple[str, tuple[int, ...]], list[Unit]] = {}
    for unit in units:
        parts.setdefault((unit[0].bucket, tuple(unit[0].latent.shape)), []).append(unit)
    whole = {name: sum(len(some) for (bucket, _), some in parts.items() if bucket == name) for name, _ in parts}
    many = len(parts) > 1  # alone in its group a lane keeps the group's own name, and with it its order
    return [
        Lane(
            group,
            f"{group}/{name}/{'x'.join(map(str, shape))}" if many else str(group),
            tuple(some),
            some[0][0].probability * len(some) / whole[name],
            -(-len(some) * (1 + some[0][0].repeats) // wanted),
        )
        for (name, shape), some in parts.items()
    ]


def _unpaired(samples: Sequence[Sample], wanted: int) -> list[Lane]:
    """Positives by bucket and size, each with the negatives that it may meet; for samples that no pair holds together."""
    lanes = _lanes(PAIRS, [(s,) for s in samples if s.strength > 0], wanted)
    negatives = [s for s in samples if s.strength < 0]
    found = [
        replace(lane, partners=tuple(s for s in negatives if s.latent.shape == lane.units[0][0].latent.shape)) for lane in lanes
    ]
    if not all(lane.partners for lane in found):
        raise SliderError("Pairs cannot be drawn at random: some positive images have a size that no negative one has.")
    return found


@dataclass(frozen=True)
class Plan:
    """The lanes of a run and the order in which groups come; a pure function of samples and spec.

    `together`: the groups have one epoch, in which the exhausted leave; else each has epochs of its own.
    """

    order: tuple[int | str, ...]
    lanes: tuple[Lane, ...]
    wanted: dict[int | str, int]  # units of a batch, by group
    reach: float
    seed: int
    together: bool
    apart: bool  # steps are accumulated, and no image shall come twice in one

    def turn(self, step: int) -> tuple[Lane, int]:
        """The lane whose turn step is, and how many batches it has given before."""
        order, lanes = self.order, self.lanes
        if not self.together:
            round_, place = divmod(step, len(order))
            group = order[place]
            step = round_ * order.count(group) + order[:place].count(group)
            order, lanes = (group,), tuple(lane for lane in lanes if lane.group == group)
        epoch, place = divmod(step, sum(lane.turns for lane in lanes))
        turns = _epoch(order, tuple((x.group, x.weight, x.turns) for x in lanes), self.seed, epoch)
        lane = lanes[turns[place]]
        return lane, epoch * lane.turns + turns[:place].count(turns[place])

    def batch(self, step: int) -> Batch:
        """All samples of `step` (from 0)."""
        lane, visit = self.turn(step)
        place = f"{self.seed}/{lane.name}"
        picked = [lane.units[i] for i in _walk(len(lane.units), self.wanted[lane.group], visit, place, self.apart)]
        numbers = tuple(range(len(picked)))
        if lane.group == NEUTRAL:
            chosen = tuple(unit[0] for unit in picked)
            draw = random.Random(f"{self.seed}/{step}/neutral")  # anywhere in the useful range
            reach = tuple(self.reach * draw.uniform(NEAREST, FARTHEST) for _ in picked)
            return Batch(step, (*chosen, *chosen), (*reach, *(-r for r in reach)), numbers * 2, neutral=True)
        if lane.partners:
            met = _walk(len(lane.partners), len(picked), visit, f"{place}/partners", self.apart)
            picked = [(unit[0], lane.partners[i]) for unit, i in zip(picked, met, strict=True)]
        sides = len(picked[0])
        chosen = tuple(unit[side] for side in range(sides) for unit in picked)
        words = lane.group == WORDS
        aligned = sides == 2 and not lane.partners and all(s.aligned for s in chosen) and not words
        strengths = tuple(s.strength for s in chosen)
        return Batch(step, chosen, strengths, numbers * sides, neutral=False, aligned=aligned, text_slider=words)


@lru_cache(maxsize=4)
def _epoch(
    order: tuple[int | str, ...], lanes: tuple[tuple[int | str, float, int], ...], seed: int, epoch: int
) -> tuple[int, ...]:
    """The lane of every step of an epoch, by number."""
    draw, left, found, at = random.Random(f"{seed}/turns/{epoch}"), [turns for *_, turns in lanes], [], 0
    while any(left):
        group, at = order[at % len(order)], at + 1
        open_ = [n for n, (mine, *_) in enumerate(lanes) if mine == group and left[n]]
        if open_:
            number = open_[0] if len(open_) == 1 else draw.choices(open_, [lanes[n][1] for n in open_])[0]
            left[number] -= 1
            found.append(number)
    return tuple(found)


def plan(samples: Sequence[Sample], spec: TrainSpec) -> Plan:
    """How a run goes through its samples. Raises SliderError when a sign has no samples."""
    words = pairs_of([s for s in samples if s.prompt_pair is not None])
    samples = [s for s in samples if s.prompt_pair is None]
    sides = {_sign(s) for s in samples} - {NEUTRAL}
    if len(sides) == 1 or not (sides or words):
        raise SliderError("Training needs positive and negative samples; one side is empty.")
    neutral = [(s,) for s in samples if s.strength == 0]
    whole, half = spec.batch * spec.accumulate, max(1, spec.batch // 2) * spec.accumulate
    units: dict[int | str, list[Unit]]
    if not spec.paired:
        units = {sign: [(s,) for s in samples if _sign(s) == sign] for sign in (1, -1)}
        order, wanted = [1, -1, NEUTRAL], {1: whole, -1: whole, NEUTRAL: half}
    else:
        units, order, wanted = {PAIRS: pairs_of(samples)}, [PAIRS, PAIRS, NEUTRAL], {PAIRS: half, NEUTRAL: half}
    units[NEUTRAL] = neutral
    if words:
        units[WORDS], wanted[WORDS] = words, half
        order = [g for group in order for g in ((group,) if group == NEUTRAL else (group, WORDS))] if sides else [WORDS, NEUTRAL]
    lanes = [lane for group, some in units.items() for lane in _lanes(group, some, wanted[group])]
    if sides and PAIRS in units and not units[PAIRS]:
        lanes = _unpaired(samples, half) + lanes
    reach = max((abs(s.strength) for s in samples if s.strength), default=1.0)
    there = {lane.group for lane in lanes}
    together = not spec.paired
    return Plan(tuple(g for g in order if g in there), tuple(lanes), wanted, reach, spec.seed, together, spec.accumulate > 1)


def parts(batch: Batch, count: int) -> tuple[Batch, ...]:
    """The batch in `count` equal parts, pairs whole, each with the noise that it has in the whole."""
    units = max(batch.noise) + 1
    ends = [units * n // count for n in range(count + 1)]
    found = []
    for low, high in itertools.pairwise(ends):
        mine = [place for place, number in enumerate(batch.noise) if low <= number < high]
        samples, strengths, noise = (tuple(of[i] for i in mine) for of in (batch.samples, batch.strengths, batch.noise))
        found.append(replace(batch, samples=samples, strengths=strengths, noise=noise, draws=units))
    return tuple(found)


def next_batch(samples: Sequence[Sample], spec: TrainSpec, step: int) -> Batch:
    """All samples of `step` (from 0) under `spec.objective`. Raises SliderError when a sign has no samples."""
    return plan(samples, spec).batch(step)
