"""The batch of every step: a pure function of (samples, spec, step), so that a resumed run is the same run.

Rotating: positive -> negative -> neutral, one group a step (the cycle of SimpleTuner's slider guide).
Paired:   pairs -> pairs -> neutral; a step takes whole pairs, both signs in one batch.
Text sliders are a group of their own, after each step of images; a step takes latents, both signs of each in one batch.

Within a group the bucket of a step is drawn by probability. A bucket is exhausted when an epoch has shown each of its images
1 + repeats times. Rotating, an exhausted group leaves the cycle; when all are exhausted, the next epoch begins. Paired, each
group has epochs of its own, so that every third step stays neutral.

A step that is accumulated is the step of a batch as large as its parts together (`batch_parts`).

A neutral image comes twice, at +s and -s with the same noise, and is to stay as it is at both (step_loss.py). A strength of 0
could teach nothing, because there the adapter has no effect.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from ..config.checks import SliderError
from ..config.training import TrainSpec
from ..encode.encoder import Sample, pairs_of
from .batch import Batch
from .batch_lanes import Lane, LaneMaker, Unit

Group = int | str
PAIRS, TEXT = "pairs", "words"  # group names are part of the seeds
POSITIVE, NEGATIVE, NEUTRAL = 1, -1, 0
NEAREST, FARTHEST = 0.25, 2.0  # strengths of neutral images, in units of the images' own


class Plan:
    """The lanes of a run and the order of its groups. `together`: all groups share one epoch, in which exhausted groups leave."""

    def __init__(self, order: Sequence[Group], lanes: Sequence[Lane], reach: float, seed: int, together: bool) -> None:
        self.order = tuple(order)
        self.lanes = tuple(lanes)
        self.reach = reach
        self.seed = seed
        self.together = together
        self._epochs: dict[tuple[Group, ...], tuple[int, list[int]]] = {}  # by order: the epoch that was computed last

    def batch(self, step: int) -> Batch:
        """All samples of `step` (from 0), each with the caption that is drawn for it."""
        batch = self._whole_batch(step)
        if not any(sample.other_conds or len(sample.swapped_conds) > 1 for sample in batch.samples):
            return batch
        samples = zip(batch.samples, batch.noise, strict=True)
        return replace(batch, samples=tuple(_captioned(sample, f"{self.seed}/{step}/caption {n}") for sample, n in samples))

    def _whole_batch(self, step: int) -> Batch:
        lane, visit = self.turn(step)
        units = lane.visit(visit)
        numbers = tuple(range(len(units)))
        if lane.group == NEUTRAL:
            return self._neutral_batch(step, units)
        samples = []
        for side in range(len(units[0])):
            samples += [unit[side] for unit in units]
        paired = len(units[0]) == 2
        text = lane.group == TEXT
        aligned = paired and not lane.partners and not text and all(s.aligned for s in samples)
        strengths = tuple(s.strength for s in samples)
        return Batch(step, tuple(samples), strengths, numbers * len(units[0]), False, aligned, text_slider=text)

    def _neutral_batch(self, step: int, units: Sequence[Unit]) -> Batch:
        """Each sample at a random strength and at its opposite."""
        samples = tuple(unit[0] for unit in units)
        draw = random.Random(f"{self.seed}/{step}/neutral")
        strengths = tuple(self.reach * draw.uniform(NEAREST, FARTHEST) for _ in samples)
        opposite = tuple(-strength for strength in strengths)
        return Batch(step, samples * 2, strengths + opposite, tuple(range(len(samples))) * 2, neutral=True)

    def turn(self, step: int) -> tuple[Lane, int]:
        """The lane of `step`, and how many batches it has given before."""
        if self.together:
            return self._turn_of(self.order, self.lanes, step)
        cycle, place = divmod(step, len(self.order))
        group = self.order[place]
        turns_before = cycle * self.order.count(group) + self.order[:place].count(group)
        lanes = [lane for lane in self.lanes if lane.group == group]
        return self._turn_of((group,), lanes, turns_before)

    def _turn_of(self, order: tuple[Group, ...], lanes: Sequence[Lane], step: int) -> tuple[Lane, int]:
        epoch, place = divmod(step, sum(lane.turns for lane in lanes))
        if order not in self._epochs or self._epochs[order][0] != epoch:
            self._epochs[order] = epoch, _epoch_turns(order, lanes, f"{self.seed}/turns/{epoch}")
        turns = self._epochs[order][1]
        lane = lanes[turns[place]]
        return lane, epoch * lane.turns + turns[:place].count(turns[place])


def _captioned(sample: Sample, seed: str) -> Sample:
    """The sample with one of its captions; both of a pair with that of the same place where they have as many."""
    share = random.Random(seed).random()
    conds, swapped = (sample.cond, *sample.other_conds), sample.swapped_conds
    cond = conds[int(share * len(conds))]
    return replace(sample, cond=cond, swapped_conds=swapped and (swapped[int(share * len(swapped))],))


def _epoch_turns(order: Sequence[Group], lanes: Sequence[Lane], seed: str) -> list[int]:
    """The lane of every step of an epoch, by number."""
    draw = random.Random(seed)
    left = [lane.turns for lane in lanes]
    turns = []
    position = 0
    while any(left):
        group = order[position % len(order)]
        position += 1
        candidates = [number for number, lane in enumerate(lanes) if lane.group == group and left[number]]
        if not candidates:
            continue
        number = candidates[0]
        if len(candidates) > 1:
            number = draw.choices(candidates, [lanes[n].weight for n in candidates])[0]
        left[number] -= 1
        turns.append(number)
    return turns


def plan(samples: Sequence[Sample], spec: TrainSpec) -> Plan:
    """How a run goes through its samples. Raises SliderError when a sign has no samples."""
    text_pairs = pairs_of([s for s in samples if s.prompt_pair is not None])
    images = [s for s in samples if s.prompt_pair is None]
    positive = [s for s in images if s.side > 0]
    negative = [s for s in images if s.side < 0]
    if bool(positive) != bool(negative) or not (positive or text_pairs):
        counts = f"{len(positive)} positive and {len(negative)} negative ones"
        message = f"Training needs images of both sides, and there are {counts}: add the missing ones."
        raise SliderError(message, "batches.one_side")
    whole = spec.batch * spec.accumulate
    half = max(1, spec.batch // 2) * spec.accumulate
    maker = LaneMaker(spec.seed, distinct=spec.accumulate > 1)
    if spec.paired:
        order: list[Group] = [PAIRS, PAIRS, NEUTRAL]
        lanes = _pair_lanes(maker, images, positive, negative, half)
    else:
        order = [POSITIVE, NEGATIVE, NEUTRAL]
        lanes = maker.lanes(POSITIVE, [(s,) for s in positive], whole)
        lanes += maker.lanes(NEGATIVE, [(s,) for s in negative], whole)
    lanes += maker.lanes(NEUTRAL, [(s,) for s in images if s.side == 0], half)
    lanes += maker.lanes(TEXT, text_pairs, half)
    if text_pairs:
        order = _with_text(order) if positive else [TEXT, NEUTRAL]
    groups = {lane.group for lane in lanes}
    reach = max((abs(s.strength) for s in images if s.strength), default=1.0)
    return Plan([group for group in order if group in groups], lanes, reach, spec.seed, together=not spec.paired)


def _pair_lanes(
    maker: LaneMaker, images: Sequence[Sample], positive: Sequence[Sample], negative: Sequence[Sample], size: int
) -> list[Lane]:
    """The lanes of the pairs; where there are none, each positive meets negatives of its size at random."""
    pairs = pairs_of(images)
    if pairs or not positive:
        return maker.lanes(PAIRS, pairs, size)
    return maker.lanes(PAIRS, [(s,) for s in positive], size, negative)


def _with_text(order: Sequence[Group]) -> list[Group]:
    """A step of text after each step of positive, negative or paired images."""
    result: list[Group] = []
    for group in order:
        result.append(group)
        if group != NEUTRAL:
            result.append(TEXT)
    return result
