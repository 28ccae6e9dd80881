"""The early sign. A raw diffusion loss is noise; against the base model on the same noise it can be read within a few steps.

    gain(sign)  1 - loss(at the images' strength) / loss(at strength 0), the error of the clean latent
                0: the slider does nothing; negative: it harms; 1 would be a perfect explanation of the images
                of a slider from words: the error against what the words ask for
    even        |d(+s) + d(-s)| / |d(+s) - d(-s)| of the displacement d(s) = v(x, s) - v(x, 0), all images together
                0: the two ends are mirror images; 1: as much in common as apart; above: both ends are the same thing
    moved       the mean gain on the same images moved a little: of a slider that has learned the pictures by heart, much less

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
from ..objective.noising import JITTER, shifted
from ..objective.prompt_targets import measured_on, with_prompt_targets
from ..objective.step_loss import clean_error

LEVELS = (0.6, 0.7, 0.8, 0.9)  # positions in the noise schedule, most of what a picture's layout is decided at
MIDDLE = 0.7  # where the even part and the moved images are looked at


@dataclass(frozen=True)
class Reading:
    """What the probe saw after `step` finished steps."""

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


class Probe:
    """Fixed images and noise to read the gain on. One reading costs len(LEVELS) + 3 forward passes of up to 2 * `pairs` samples,
    in as many parts as there are sizes among them; the first reading len(LEVELS) + 2 more, for the base model."""

    def __init__(self, samples: Sequence[Sample], seed: int, pairs: int = 4) -> None:
        samples = measured_on(samples)
        sides = [[s for s in samples if s.strength > 0], [s for s in samples if s.strength < 0]]
        self.samples = [s for side in sides for s in side[:pairs]]
        self.signs = torch.tensor([1.0 if s.strength > 0 else -1.0 for s in self.samples])
        shapes = dict.fromkeys(s.latent.shape for s in self.samples)
        self.parts = [[n for n, s in enumerate(self.samples) if s.latent.shape == shape] for shape in shapes]
        generator = seeded(seed, "probe")  # no step of training has this place
        self.noise = [
            [torch.randn(len(part), *shape, generator=generator) for _ in LEVELS]
            for part, shape in zip(self.parts, shapes, strict=True)
        ]
        self.base: tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]] | None = None  # without the slider, never changes
        self._asked: dict[tuple[int, float, bool], torch.Tensor] = {}  # what words ask for, by part, level and aside

    def _batch(self, backend: Backend, number: int, level: float, aside: bool) -> Noised:
        """The samples of a part at a level; of words, with what they ask for, which the model is asked once."""
        some, noise = [self.samples[n] for n in self.parts[number]], self.noise[number][LEVELS.index(level)]
        latents, masks = [s.latent for s in some], [s.mask for s in some]
        if aside:
            latents = [shifted(latent, _step_aside(latent)) for latent in latents]
            masks = [None if m is None else shifted(m, _step_aside(m)) for m in masks]
        sigma = backend.sigmas(torch.full((len(some),), level, device=backend.device))
        latent, cond = torch.stack(latents).to(backend.device), [s.cond for s in some]
        batch = at_levels(backend, latent, noise.to(backend.device), sigma, cond, masks)
        if some[0].prompt_pair is None:
            return batch
        key = (number, level, aside)
        if key not in self._asked:
            self._asked[key] = with_prompt_targets(backend, batch, some).right.cpu()
        return replace(batch, right=self._asked[key].to(batch.right))

    def _losses(self, backend: Backend, adapter: Adapter | None, levels: Sequence[float], aside: bool = False) -> torch.Tensor:
        """(samples,) the loss over `levels`, with the slider at each sample's strength or, with no adapter, without it."""
        total = torch.zeros(len(self.samples))
        for number, part in enumerate(self.parts):
            batches = [self._batch(backend, number, level, aside) for level in levels]
            strengths = [self.samples[n].strength for n in part]
            with at_strength(adapter, backend.module, strengths) if adapter else nullcontext():
                for batch in batches:
                    total[part] += clean_error(backend, batch).cpu()
        return total

    def _middle(self, backend: Backend, adapter: Adapter | None, sign: float = 1.0) -> list[torch.Tensor]:
        """The answers at MIDDLE, part by part: with the slider at `sign` times each sample's strength, or without it."""
        found = []
        for part, noises in zip(self.parts, self.noise, strict=True):
            some = [self.samples[n] for n in part]
            latent, cond = torch.stack([s.latent for s in some]).to(backend.device), [s.cond for s in some]
            sigma = backend.sigmas(torch.full((len(some),), MIDDLE, device=backend.device))
            x = backend.add_noise(latent, noises[LEVELS.index(MIDDLE)].to(backend.device), sigma)
            with at_strength(adapter, backend.module, [sign * s.strength for s in some]) if adapter else nullcontext():
                found.append(backend.predict(x, sigma, cond).float())
        return found

    def _even(self, backend: Backend, adapter: Adapter, base: Sequence[torch.Tensor]) -> float:
        """Size of the even part of the displacement from `base` against the odd part."""
        symmetric = odd = 0.0
        ends = (self._middle(backend, adapter, sign) for sign in (1.0, -1.0))
        for plus, minus, without in zip(*ends, base, strict=True):
            symmetric += float((plus + minus - 2 * without.to(plus)).square().sum())
            odd += float((plus - minus).square().sum())
        return (symmetric / odd) ** 0.5 if odd else 0.0

    @torch.no_grad()
    def read(self, backend: Backend, adapter: Adapter, step: int = 0) -> Reading:
        """The gains, the even part and the gain on moved images. Call inside `backend.borrowed()`."""
        if self.base is None:
            aside = self._losses(backend, None, (MIDDLE,), aside=True)
            self.base = self._losses(backend, None, LEVELS), aside, [t.cpu() for t in self._middle(backend, None)]
        base, base_aside, without = self.base
        now, aside = self._losses(backend, adapter, LEVELS), self._losses(backend, adapter, (MIDDLE,), aside=True)
        explained_shares = [float(1 - now[self.signs == sign].sum() / base[self.signs == sign].sum()) for sign in (1, -1)]
        return Reading(step, *explained_shares, self._even(backend, adapter, without), float(1 - aside.sum() / base_aside.sum()))


def _step_aside(picture: torch.Tensor) -> tuple[int, int]:
    """As far as training itself may move an image, and at least by one place."""
    height, width = picture.shape[-2:]
    return max(1, round(JITTER * height)), max(1, round(JITTER * width))
