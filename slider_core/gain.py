"""The early sign. A raw diffusion loss is noise; against the base model on the same noise it can be read within a few steps.

    gain(sign) = 1 - loss(at the images' strength) / loss(at strength 0)

0: the slider does nothing; negative: it harms; 1 would be a perfect explanation of the images. The noise is fixed and is
never trained on, so two readings differ by what was learned in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch

from .adapter import Adapter
from .backend import Backend
from .cache import Sample
from .objective import prediction_error, seeded

LEVELS = (0.3, 0.5, 0.7, 0.9)  # positions in the noise schedule, most of what a picture's layout is decided at


class Probe:
    """Fixed images and noise to read the gain on. One reading costs len(LEVELS) forward passes of up to 2 * `pairs` samples,
    in as many parts as there are sizes among them."""

    def __init__(self, samples: Sequence[Sample], seed: int, pairs: int = 4) -> None:
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
        self.base: torch.Tensor | None = None

    def _losses(self, backend: Backend, adapter: Adapter | None) -> torch.Tensor:
        """(samples,) the loss over all levels, with the slider at each sample's strength or, with no adapter, without it."""
        total = torch.zeros(len(self.samples))
        for part, noises in zip(self.parts, self.noise, strict=True):
            some = [self.samples[n] for n in part]
            latent = torch.stack([s.latent for s in some]).to(backend.device)
            cond, masks = [s.cond for s in some], [s.mask for s in some]
            with adapter.at(backend.module, [s.strength for s in some]) if adapter else nullcontext():
                for level, noise in zip(LEVELS, noises, strict=True):
                    sigma = backend.sigmas(torch.full((len(some),), level, device=backend.device))
                    total[part] += prediction_error(backend, latent, noise.to(backend.device), sigma, cond, masks).cpu()
        return total

    @torch.no_grad()
    def read(self, backend: Backend, adapter: Adapter) -> tuple[float, float]:
        """(gain of the positive side, gain of the negative side). Call inside `backend.borrowed()`."""
        if self.base is None:
            self.base = self._losses(backend, None)
        now = self._losses(backend, adapter)
        return tuple(  # type: ignore[return-value]
            float(1 - now[self.signs == sign].sum() / self.base[self.signs == sign].sum()) for sign in (1, -1)
        )
