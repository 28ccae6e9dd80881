"""The samples that can share a batch: of one group, one bucket and one size. Each such lane is walked in shuffled passes.

A pass that cannot fill its last batch is continued by the next pass, so over time every image comes as often as its neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from ..config.checks import SliderError
from ..encode.encoder import Sample

Unit = tuple[Sample, ...]  # what is drawn: one sample, or a positive and its negative


class Walk:
    """An endless shuffled walk over `count` places in visits of `size`; a pass depends on the seed and its number only.

    `distinct`: no place twice in one visit, as long as there are enough of them.
    """

    def __init__(self, count: int, size: int, seed: str, distinct: bool) -> None:
        self._count = count
        self._size = size
        self._seed = seed
        self._distinct = distinct
        self._passes: list[list[int]] = []  # so far: with `distinct` each depends on the one before

    def visit(self, number: int) -> list[int]:
        """The places of a visit, counted from 0."""
        places = []
        for position in range(number * self._size, (number + 1) * self._size):
            places.append(self._pass(position // self._count)[position % self._count])
        return places

    def _pass(self, number: int) -> list[int]:
        while len(self._passes) <= number:
            at = len(self._passes)
            shuffled = random.Random(f"{self._seed}/{at}").sample(range(self._count), self._count)
            self._passes.append(self._without_repeats(shuffled, at) if self._distinct else shuffled)
        return self._passes[number]

    def _without_repeats(self, shuffled: list[int], number: int) -> list[int]:
        """The pass in an order that does not begin with places of a visit that it shares with the pass before."""
        missing = -number * self._count % self._size  # places that this pass adds to a visit begun before
        if not missing:
            return shuffled
        taken = self._passes[-1][max(0, self._count - (self._size - missing)) :]
        first = [place for place in shuffled if place not in taken][:missing]
        return first + [place for place in shuffled if place not in first]


@dataclass(frozen=True)
class Lane:
    """Units of one bucket that fit one batch. An epoch gives it `turns` batches, drawn by `weight` among its group's lanes."""

    group: int | str
    units: tuple[Unit, ...]
    weight: float
    turns: int
    walk: Walk
    partners: tuple[Sample, ...] = ()  # negatives of that size, of which each unit meets one: where pairs are drawn at random
    partner_walk: Walk | None = None

    def visit(self, number: int) -> list[Unit]:
        """The units of a visit, counted from 0."""
        units = [self.units[place] for place in self.walk.visit(number)]
        if self.partner_walk is None:
            return units
        partners = [self.partners[place] for place in self.partner_walk.visit(number)]
        return [(unit[0], partner) for unit, partner in zip(units, partners, strict=True)]


@dataclass(frozen=True)
class LaneMaker:
    """Makes the lanes of a run. `distinct`: no image twice in one batch, as long as there are enough of them."""

    seed: int
    distinct: bool

    def lanes(self, group: int | str, units: Sequence[Unit], size: int, partners: Sequence[Sample] = ()) -> list[Lane]:
        """The units of a group by bucket and size, in batches of `size` units. A bucket's sizes share its probability by their
        number of images. `partners`: negatives to draw from, where no pairs are given."""
        by_kind: dict[tuple[str, tuple[int, ...]], list[Unit]] = {}
        in_bucket: dict[str, int] = {}
        for unit in units:
            bucket = unit[0].bucket
            by_kind.setdefault((bucket, tuple(unit[0].latent.shape)), []).append(unit)
            in_bucket[bucket] = in_bucket.get(bucket, 0) + 1
        lanes = []
        for (bucket, shape), some in by_kind.items():
            # alone in its group a lane has the group's own name, and with it the group's order
            name = f"{group}/{bucket}/{'x'.join(map(str, shape))}" if len(by_kind) > 1 else str(group)
            weight = some[0][0].probability * len(some) / in_bucket[bucket]
            turns = -(-len(some) * (1 + some[0][0].repeats) // size)
            same_size = tuple(partner for partner in partners if tuple(partner.latent.shape) == shape)
            if partners and not same_size:
                raise SliderError(
                    f"Pairs cannot be drawn at random: no negative image has the size of latent {shape}, as a positive has. "
                    "Add negative images of that size.",
                    "batches.no_partner",
                )
            seed = f"{self.seed}/{name}"
            walk = Walk(len(some), size, seed, self.distinct)
            partner_walk = Walk(len(same_size), size, f"{seed}/partners", self.distinct) if same_size else None
            lanes.append(Lane(group, tuple(some), weight, turns, walk, same_size, partner_walk))
        return lanes
