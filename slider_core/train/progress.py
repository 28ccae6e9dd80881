"""Progress that can be read. A raw diffusion loss is noise; what the slider does against what is wanted of it shows at once.

    learned share     the part of the wanted displacement that the slider makes, for each sign (displacement.py)
                      0: the slider does nothing; negative: it harms; 1: all of what sets the pairs apart
    symmetric part    |d(+s) + d(-s)| / |d(+s) - d(-s)| of the displacement d(s) = v(x, s) - v(x, 0), all images together
                      0: the two ends are mirror images; 1: as much in common as apart; above: both ends are the same thing
    shifted score     the mean learned share on the same images shifted a little: much less for an overfitted slider
    strength          the strength that best explains what is wanted; far above 1: unfinished, or too weak
    reach             the learned share at that strength

The noise is fixed and is never trained on, so two readings differ by what was learned in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ..backend import Backend
from ..config.training import Objective, TrainSpec
from ..encode.called_levels import nearest_levels
from ..encode.encoder import Sample
from ..lora.slider_adapter import Adapter
from ..objective.formulas import FORMULAS, JITTER
from ..objective.noising import few_step_levels, shifted
from ..objective.one_way import is_one_way
from .displacement import LEVELS, DisplacementMeter, Wanted, symmetric_part
from .learning_rate import noise_rate, probed_rate
from .moved_pairs import is_familiar, moved_error, pairs_to_move

FORESEEN = 1 / 9  # of the squared error on images that do not line up: what a slider can be about; the rest is noise
WHOLE_EVERY = 120  # steps between two readings that hold these two; the last of a run does too


@dataclass(frozen=True)
class Reading:
    """The progress after `step` finished steps: learned shares of both signs, symmetric part, shifted score, and the strength
    that would explain most of what is wanted, with the share that it explains. Only a whole reading holds all of it."""

    step: int
    positive: float
    negative: float
    symmetric: float | None = 0.0
    shifted: float | None = 0.0
    strength: float = 0.0
    reach: float = 0.0
    one_way: bool = False  # nothing is wanted of the minus side

    @property
    def explained(self) -> tuple[float, float]:
        return self.positive, self.negative

    @property
    def mean(self) -> float:
        return self.positive if self.one_way else (self.positive + self.negative) / 2

    def summary(self, wanted: Wanted) -> str:
        """One sentence: how much was learned, and of what."""
        minus = "" if self.one_way else f", minus {percent(self.negative)}"
        sides = f"plus {percent(self.positive)}{minus}"
        if wanted is Wanted.IMAGES:
            return f"Takes {percent(self.mean)} off the base model's error on the images ({sides}), most of which is noise."
        return f"Learned share {percent(self.mean)} ({sides})."


def percent(share: float) -> str:
    """A share for a reader; one digit more where it is small."""
    if share <= -10:
        return "below -999 %"
    return f"{share:.1%}".replace("%", " %") if abs(share) < 0.1 else f"{share:.0%}".replace("%", " %")


def read_levels(spec: TrainSpec) -> tuple[float, ...]:
    """Where progress is read: LEVELS, or the nearest of those at which alone a distilled model is trained and called."""
    return nearest_levels(LEVELS, few_step_levels(spec))


class Probe:
    """Fixed images and noise to read progress on. One reading costs len(levels) forward passes of up to 2 PAIRS samples, a whole
    one two more, in as many parts as there are sizes among them; the first of each two to four times as many. The symmetric part
    and the shifted images are read at the first of the levels."""

    def __init__(
        self,
        samples: Sequence[Sample],
        seed: int,
        objective: Objective = Objective.DISPLACEMENT,
        levels: tuple[float, ...] = LEVELS,
    ) -> None:
        self.meter = DisplacementMeter(samples, objective, seed, levels)
        self._levels = levels
        self.wanted = self.meter.wanted
        self.moved_error: float | None = None  # of pictures that are moved, in units of theirs as they are (moved_pairs.py)
        self._samples, self._objective, self._seed = samples, objective, seed
        self._shifted: DisplacementMeter | None = None

    def look(self, spec: TrainSpec, attempt: Callable[..., float]) -> None:
        """Measure once, where the choice hangs on it, whether the model knows moved pictures. `attempt`: as in `rate_along`."""
        pairs = pairs_to_move(self._samples, spec)
        if pairs and self.moved_error is None:
            share = FORMULAS[spec.objective].jitter
            called = few_step_levels(spec)
            self.moved_error = attempt(lambda within: moved_error(within, pairs, share, self._seed, called))

    def rate_by_noise(self, adapter: Adapter, rate: float, attempt: Callable[..., Any]) -> float:
        """`rate`, or a lower one whose noise the adapter as it is bears. `attempt`: as in `rate_along`."""
        return noise_rate(adapter.parameters(), self._moved_from(adapter, attempt), rate, self.meter.seed)

    def rate_along(self, adapter: Adapter, gradients: Sequence[torch.Tensor], attempt: Callable[..., Any]) -> float:
        """The learning rate for the adapter as it is, with these gradients. `attempt` calls a function of the backend, within
        `backend.borrowed()`, on whatever level memory allows."""
        return probed_rate(adapter.parameters(), gradients, self._moved_from(adapter, attempt), self.meter.seed)

    def _moved_from(self, adapter: Adapter, attempt: Callable[..., Any]) -> Callable[[], float]:
        """Measures how far an adapter moves the model from where it does now (_moved_share)."""
        before = attempt(lambda within: self.meter.moved(within, adapter))

        def share(within: Backend) -> float:
            return self._moved_share(within, self.meter.moved(within, adapter), before)

        return lambda: attempt(share)

    @torch.no_grad()
    def _moved_share(self, backend: Backend, moved: Sequence[torch.Tensor], before: Sequence[torch.Tensor]) -> float:
        """How far the displacements lie from those before, in units of what can be wanted; not a number where nothing is."""
        changes = [after - earlier for after, earlier in zip(moved, before, strict=True)]
        plus, minus = self.meter.read(backend, changes)
        both = plus + minus
        wanted = both.wanted * (FORESEEN if self.wanted is Wanted.IMAGES else 1)
        return (both.size / wanted) ** 0.5 if wanted > 0 else float("nan")

    @torch.no_grad()
    def read(self, backend: Backend, adapter: Adapter, step: int = 0, whole: bool = True) -> Reading:
        """The progress of the slider as it stands. Call inside `backend.borrowed()`."""
        moved = self.meter.moved(backend, adapter)
        plus, minus = self.meter.read(backend, moved)
        both = plus + minus
        return Reading(
            step,
            plus.at(1),
            minus.at(1),
            self._symmetric_part(backend, adapter, moved) if whole else None,
            self._shifted_score(backend, adapter) if whole else None,
            both.best,
            both.at(both.best),
            one_way=is_one_way(self.meter.samples),
        )

    def _shifted_score(self, backend: Backend, adapter: Adapter) -> float:
        if self._shifted is None:
            share = JITTER if is_familiar(self.moved_error) else 0.0
            self._shifted = DisplacementMeter(
                [_moved(s, share) for s in self._samples], self._objective, self._seed, self._levels[:1]
            )
        plus, minus = self._shifted.read(backend, self._shifted.moved(backend, adapter))
        return (plus + minus).at(1)

    def _symmetric_part(self, backend: Backend, adapter: Adapter, moved: Sequence[torch.Tensor]) -> float:
        """Size of the symmetric part of the displacement against the antisymmetric part, at the first level."""
        return symmetric_part(moved[:: len(self._levels)], self.meter.moved(backend, adapter, -1.0, self._levels[:1]))


def _moved(sample: Sample, share: float) -> Sample:
    """The sample shifted as far as training itself moves an image, and at least by one place; its mask with it. One with a
    reference image stays in its place."""
    if sample.referenced:
        return sample
    height, width = sample.latent.shape[-2:]
    by = max(1, round(share * height)), max(1, round(share * width))
    mask = None if sample.mask is None else shifted(sample.mask, by)
    return replace(sample, latent=shifted(sample.latent, by), mask=mask)
