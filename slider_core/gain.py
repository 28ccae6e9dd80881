"""The early sign. A raw diffusion loss is noise; against the base model on the same noise it can be read within a few steps.

    gain(sign) = 1 - loss(at the images' strength) / loss(at strength 0)

0: the slider does nothing; negative: it harms; 1 would be a perfect explanation of the images. The noise is fixed and is
never trained on, so two readings differ by what was learned in between.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .adapter import Adapter
from .backend import Backend
from .cache import Sample
from .objective import prediction_error, seeded

LEVELS = (0.3, 0.5, 0.7, 0.9)  # positions in the noise schedule, most of what a picture's layout is decided at


class Probe:
    """Fixed images and noise to read the gain on. One reading costs len(LEVELS) forward passes of up to 2 * `pairs` samples."""

    def __init__(self, samples: Sequence[Sample], seed: int, pairs: int = 4) -> None:
        sides = [[s for s in samples if s.strength > 0], [s for s in samples if s.strength < 0]]
        self.samples = [s for side in sides for s in side[:pairs]]
        self.signs = torch.tensor([1.0 if s.strength > 0 else -1.0 for s in self.samples])
        generator = seeded(seed, "probe")  # no step of training has this place
        shape = self.samples[0].latent.shape
        self.noise = [torch.randn(len(self.samples), *shape, generator=generator) for _ in LEVELS]
        self.base: torch.Tensor | None = None

    def _losses(self, backend: Backend) -> torch.Tensor:
        latent = torch.stack([s.latent for s in self.samples]).to(backend.device)
        cond = [s.cond for s in self.samples]
        total = torch.zeros(len(self.samples), device=backend.device)
        for level, noise in zip(LEVELS, self.noise, strict=True):
            sigma = backend.sigmas(torch.full((len(self.samples),), level, device=backend.device))
            total += prediction_error(backend, latent, noise.to(backend.device), sigma, cond)
        return total.cpu()

    @torch.no_grad()
    def read(self, backend: Backend, adapter: Adapter) -> tuple[float, float]:
        """(gain of the positive side, gain of the negative side). Call inside `backend.borrowed()`."""
        if self.base is None:
            self.base = self._losses(backend)
        with adapter.at(backend.module, [s.strength for s in self.samples]):
            now = self._losses(backend)
        return tuple(  # type: ignore[return-value]
            float(1 - now[self.signs == sign].sum() / self.base[self.signs == sign].sum()) for sign in (1, -1)
        )
