"""Early progress. A raw diffusion loss is noise; compared with the base model on the same noise it shows within a few steps.

    explained share   1 - loss(at the images' strength) / loss(at strength 0), the error of the clean latent, for each sign
                      0: the slider does nothing; negative: it harms; 1 would be a perfect explanation of the images
                      of a text slider: the error against its training target
    symmetric part    |d(+s) + d(-s)| / |d(+s) - d(-s)| of the displacement d(s) = v(x, s) - v(x, 0), all images together
                      0: the two ends are mirror images; 1: as much in common as apart; above: both ends are the same thing
    shifted score     the mean explained share on the same images shifted a little: much less for an overfitted slider

The noise is fixed and is never trained on, so two readings differ by what was learned in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch

from ..backend import Backend, seeded
from ..encode.encoder import Sample
from ..encode.noised import Noised, at_levels
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..objective.formulas import JITTER
from ..objective.noising import shifted
from ..objective.prompt_targets import measured_on, with_prompt_targets
from ..objective.step_loss import clean_error

LEVELS = (0.6, 0.7, 0.8, 0.9)  # positions in the noise schedule, most of what a picture's layout is decided at
MIDDLE = 0.7  # where the symmetric part and the shifted images are read


@dataclass(frozen=True)
class Reading:
    """The progress after `step` finished steps: explained shares of both signs, symmetric part and shifted score."""

    step: int
    positive: float
    negative: float
    symmetric: float = 0.0
    shifted: float = 0.0

    @property
    def explained(self) -> tuple[float, float]:
        return self.positive, self.negative

    @property
    def mean(self) -> float:
        return (self.positive + self.negative) / 2


@dataclass(frozen=True)
class _Base:
    """What the base model does without the slider, which never changes: losses per sample, and predictions at MIDDLE."""

    losses: torch.Tensor
    shifted_losses: torch.Tensor
    predictions: list[torch.Tensor]


class Probe:
    """Fixed images and noise to read progress on. One reading costs len(LEVELS) + 3 forward passes of up to 2 * `pairs` samples,
    in as many parts as there are sizes among them; the first reading len(LEVELS) + 2 more, for the base model."""

    def __init__(self, samples: Sequence[Sample], seed: int, pairs: int = 4) -> None:
        samples = measured_on(samples)
        positive = [s for s in samples if s.strength > 0][:pairs]
        negative = [s for s in samples if s.strength < 0][:pairs]
        self.samples = positive + negative
        self.signs = torch.tensor([1.0] * len(positive) + [-1.0] * len(negative))
        by_shape: dict[torch.Size, list[int]] = {}
        for number, sample in enumerate(self.samples):
            by_shape.setdefault(sample.latent.shape, []).append(number)
        self.parts = list(by_shape.values())  # numbers of the samples of one size
        generator = seeded(seed, "probe")  # no step of training has this place
        self.noise = []  # by part and level
        for shape, part in by_shape.items():
            self.noise.append([torch.randn(len(part), *shape, generator=generator) for _ in LEVELS])
        self._base: _Base | None = None
        self._prompt_targets: dict[tuple[int, float, bool], torch.Tensor] = {}  # by part, level and whether shifted

    def _batch(self, backend: Backend, number: int, level: float, shift: bool = False) -> Noised:
        """The samples of a part at a level; of a text slider with its training targets, which are computed once."""
        some = [self.samples[n] for n in self.parts[number]]
        latents = [s.latent for s in some]
        masks = [s.mask for s in some]
        if shift:
            latents = [shifted(latent, _small_shift(latent)) for latent in latents]
            masks = [None if mask is None else shifted(mask, _small_shift(mask)) for mask in masks]
        noise = self.noise[number][LEVELS.index(level)].to(backend.device)
        sigma = backend.sigmas(torch.full((len(some),), level, device=backend.device))
        batch = at_levels(backend, torch.stack(latents).to(backend.device), noise, sigma, [s.cond for s in some], masks)
        if some[0].prompt_pair is None:
            return batch
        key = (number, level, shift)
        if key not in self._prompt_targets:
            self._prompt_targets[key] = with_prompt_targets(backend, batch, some).right.cpu()
        return replace(batch, right=self._prompt_targets[key].to(batch.right))

    def _losses(self, backend: Backend, adapter: Adapter | None, levels: Sequence[float], shift: bool = False) -> torch.Tensor:
        """(samples,) the loss over `levels`, with the slider at each sample's strength or, with no adapter, without it."""
        total = torch.zeros(len(self.samples))
        for number, part in enumerate(self.parts):
            batches = [self._batch(backend, number, level, shift) for level in levels]
            strengths = [self.samples[n].strength for n in part]
            with at_strength(adapter, backend.module, strengths) if adapter else nullcontext():
                for batch in batches:
                    total[part] += clean_error(backend, batch).cpu()
        return total

    def _predictions(self, backend: Backend, adapter: Adapter | None, sign: float = 1.0) -> list[torch.Tensor]:
        """Predictions at MIDDLE, part by part: with the slider at `sign` times each sample's strength, or without it."""
        predictions = []
        for part, noises in zip(self.parts, self.noise, strict=True):
            some = [self.samples[n] for n in part]
            latent = torch.stack([s.latent for s in some]).to(backend.device)
            sigma = backend.sigmas(torch.full((len(some),), MIDDLE, device=backend.device))
            x = backend.add_noise(latent, noises[LEVELS.index(MIDDLE)].to(backend.device), sigma)
            with at_strength(adapter, backend.module, [sign * s.strength for s in some]) if adapter else nullcontext():
                predictions.append(backend.predict(x, sigma, [s.cond for s in some]).float())
        return predictions

    def _symmetric_part(self, backend: Backend, adapter: Adapter, base: Sequence[torch.Tensor]) -> float:
        """Size of the symmetric part of the displacement from `base` against the antisymmetric part."""
        symmetric = antisymmetric = 0.0
        at_plus = self._predictions(backend, adapter, 1.0)
        at_minus = self._predictions(backend, adapter, -1.0)
        for plus, minus, without in zip(at_plus, at_minus, base, strict=True):
            symmetric += float((plus + minus - 2 * without.to(plus)).square().sum())
            antisymmetric += float((plus - minus).square().sum())
        return (symmetric / antisymmetric) ** 0.5 if antisymmetric else 0.0

    def _base_of(self, backend: Backend) -> _Base:
        if self._base is None:
            shifted_losses = self._losses(backend, None, (MIDDLE,), shift=True)
            losses = self._losses(backend, None, LEVELS)
            self._base = _Base(losses, shifted_losses, [t.cpu() for t in self._predictions(backend, None)])
        return self._base

    @torch.no_grad()
    def read(self, backend: Backend, adapter: Adapter, step: int = 0) -> Reading:
        """The progress of the slider as it stands. Call inside `backend.borrowed()`."""
        base = self._base_of(backend)
        losses = self._losses(backend, adapter, LEVELS)
        shifted_losses = self._losses(backend, adapter, (MIDDLE,), shift=True)
        positive = self.signs == 1
        negative = self.signs == -1
        return Reading(
            step,
            _explained(losses[positive], base.losses[positive]),
            _explained(losses[negative], base.losses[negative]),
            self._symmetric_part(backend, adapter, base.predictions),
            _explained(shifted_losses, base.shifted_losses),
        )


def _explained(losses: torch.Tensor, base: torch.Tensor) -> float:
    return float(1 - losses.sum() / base.sum())


def _small_shift(picture: torch.Tensor) -> tuple[int, int]:
    """As far as training itself may move an image, and at least by one place."""
    height, width = picture.shape[-2:]
    return max(1, round(JITTER * height)), max(1, round(JITTER * width))
