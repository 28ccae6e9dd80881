"""How much of the displacement that is wanted a slider makes, on fixed noise that no step is trained on.

With d the slider's displacement of the clean latent at a sample's own strength and d* the one that is wanted there, by sign:

    learned share   e  = 1 - |d - d*|^2 / |d*|^2      0: nothing, 1: all of it, negative: it harms
    best strength   s* = <d, d*> / <d, d>             that best explains d*, in units of the sample's own; far above 1: unfinished

What is wanted: of pairs that line up, the objective's own displacement (that of `displacement` where it has none), which no noise
blurs; of a text slider, its training target; of other images, the way to the image itself, most of which is noise that nobody
can foresee. There e is the share of the base model's error that the slider takes away, and a few percent are much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import torch

from ..backend import Backend, seeded
from ..config.training import Objective
from ..encode.encoder import Sample, pairs_of, widest_pairs
from ..encode.noised import Noised, at_levels, of_samples, predict
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..objective.formulas import FORMULAS, TrainingTarget, shares_of
from ..objective.prompt_targets import measured_on, with_prompt_targets
from ..objective.step_loss import masked_mean

LEVELS = (0.75, 0.9)  # positions in the noise schedule
PAIRS = 4  # that are read; of other images so many on each side


class Wanted(str, Enum):
    """What a slider is measured against."""

    PAIRS = "pairs"
    PROMPTS = "prompts"
    IMAGES = "images"


@dataclass(frozen=True)
class Shares:
    """Sums over one sign: <d, d*>, |d|^2 and |d*|^2, each the mean over a latent's places."""

    along: float = 0.0
    size: float = 0.0
    wanted: float = 0.0

    def at(self, strength: float) -> float:
        """The learned share at so many times the samples' own strength, if the displacement grows in proportion."""
        if not self.wanted:
            return 0.0
        return (2 * strength * self.along - strength**2 * self.size) / self.wanted

    @property
    def best(self) -> float:
        """The strength that best explains what is wanted; 0 for a slider without effect or one that goes the wrong way."""
        return max(0.0, self.along / self.size) if self.size else 0.0

    def __add__(self, other: Shares) -> Shares:
        return Shares(self.along + other.along, self.size + other.size, self.wanted + other.wanted)


@dataclass(frozen=True)
class _Part:
    """Samples of one size at one level: where the model is asked, and what it is to answer there."""

    level: float
    target: TrainingTarget
    strengths: tuple[float, ...]
    base: torch.Tensor  # the frozen model's answer, on the CPU


def wanted_of(samples: Sequence[Sample]) -> Wanted:
    """What sliders on these samples are measured against."""
    measured = measured_on(samples)
    if measured and measured[0].prompt_pair is not None:
        return Wanted.PROMPTS
    pairs = [pair for pair in pairs_of(measured) if len(pair) == 2]
    return Wanted.PAIRS if pairs and all(s.aligned for pair in pairs for s in pair) else Wanted.IMAGES


def _read_samples(samples: Sequence[Sample], wanted: Wanted) -> list[Sample]:
    """The positives that are read, then the negatives; of pairs in the same order."""
    measured = measured_on(samples)
    if wanted is Wanted.PAIRS:
        pairs = widest_pairs(measured)[:PAIRS]
        return [pair[0] for pair in pairs] + [pair[1] for pair in pairs]
    return [s for s in measured if s.strength > 0][:PAIRS] + [s for s in measured if s.strength < 0][:PAIRS]


class DisplacementMeter:
    """Reads both signs of a slider. One reading costs draws x len(LEVELS) forward passes of up to 2 PAIRS samples, in as many
    parts as there are sizes among them; the first as many more for the frozen model, and for prompts four times as many.

    `draws`: noises for each sample and level. Of images that do not line up most of what is read is noise, and one is too few."""

    def __init__(
        self, samples: Sequence[Sample], objective: Objective, seed: int, levels: Sequence[float] = LEVELS, draws: int = 1
    ) -> None:
        self.wanted = wanted_of(samples)
        self.samples = _read_samples(samples, self.wanted)
        self._objective = objective
        self.seed = seed
        self._levels = tuple(levels) * draws
        self._parts: list[_Part] | None = None

    def _groups(self) -> list[list[Sample]]:
        """The samples by size; a pair's are of one size."""
        by_shape: dict[torch.Size, list[Sample]] = {}
        for sample in self.samples:
            by_shape.setdefault(sample.latent.shape, []).append(sample)
        return list(by_shape.values())

    def _noises(self, group: Sequence[Sample], generator: torch.Generator) -> torch.Tensor:
        """Noise for each sample; the two of a pair share theirs."""
        shape = group[0].latent.shape
        if self.wanted is Wanted.IMAGES:
            return torch.randn(len(group), *shape, generator=generator)
        return torch.randn(len(group) // 2, *shape, generator=generator).repeat(2, *[1] * len(shape))

    @torch.no_grad()
    def _made_parts(self, backend: Backend) -> list[_Part]:
        """What is wanted, by size and level. Call it with no slider attached, or a silent one."""
        if self._parts is not None:
            return self._parts
        generator = seeded(self.seed, "displacement")  # no step of training has this place
        parts = []
        for group in self._groups():
            latent = torch.stack([s.latent for s in group]).to(backend.device)
            for level in self._levels:
                noise = self._noises(group, generator).to(backend.device)
                sigma = backend.sigmas(torch.full((len(group),), level, device=backend.device))
                batch = at_levels(backend, latent, noise, sigma, [s.cond for s in group], [s.mask for s in group])
                target = self._target(backend, of_samples(batch, group), group)
                base = predict(backend, target.at) if target.base is None else target.base
                parts.append(_Part(level, target, tuple(s.strength for s in group), base.cpu()))
        self._parts = parts
        return parts

    def _target(self, backend: Backend, batch: Noised, group: Sequence[Sample]) -> TrainingTarget:
        if self.wanted is Wanted.PROMPTS:
            batch = with_prompt_targets(backend, batch, group)
        if self.wanted is not Wanted.PAIRS:
            return TrainingTarget(batch, batch.right)
        formula = FORMULAS[self._objective].from_base or FORMULAS[Objective.DISPLACEMENT].from_base
        assert formula is not None  # displacement has one
        return formula(backend, batch, shares_of([s.strength for s in group], batch.x))

    @torch.no_grad()
    def moved(
        self, backend: Backend, adapter: Adapter, sign: float = 1.0, levels: Sequence[float] | None = None
    ) -> list[torch.Tensor]:
        """Displacements of the clean latent, part by part, at `sign` times the samples' strengths; only parts of these levels.
        Call inside `backend.borrowed()`."""
        displacements = []
        for part in self._made_parts(backend):
            if levels is None or part.level in levels:
                at = part.target.at
                with at_strength(adapter, backend.module, [sign * strength for strength in part.strengths]):
                    displacements.append((predict(backend, at) - part.base.to(at.x.device)) / at.scale)
        return displacements

    def read(self, backend: Backend, moved: Sequence[torch.Tensor]) -> tuple[Shares, Shares]:
        """(plus, minus) of what `moved` has given for all levels."""
        sides = {True: Shares(), False: Shares()}
        for part, displacement in zip(self._made_parts(backend), moved, strict=True):
            at = part.target.at
            wanted = (part.target.prediction - part.base.to(at.x.device)) / at.scale
            products = (displacement * wanted, displacement.square(), wanted.square())
            columns = [masked_mean(product, at.masks).tolist() for product in products]
            for strength, *sums in zip(part.strengths, *columns, strict=True):
                sides[strength > 0] += Shares(*sums)
        return sides[True], sides[False]


def symmetric_part(plus: Sequence[torch.Tensor], minus: Sequence[torch.Tensor]) -> float:
    """The size of what displacements at opposite strengths have in common, over what sets them apart."""
    symmetric = antisymmetric = 0.0
    for one, other in zip(plus, minus, strict=True):
        symmetric += float((one + other).square().sum())
        antisymmetric += float((one - other).square().sum())
    return (symmetric / antisymmetric) ** 0.5 if antisymmetric else 0.0
