"""Samples at their noise levels, with the scales that turn a prediction into a clean latent.

A noised latent is x = a x0 + b noise. With x held fixed, another answer x0 + d for the clean latent changes the right
prediction by k d. a, b and k are read off the backend, so the objectives can speak of clean latents in the model's own prediction
space, be it eps, v or flow:

    flow   a = 1 - sigma   b = sigma    k = -1 / sigma
    eps    a = 1           b = sigma    k = -1 / sigma"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..backend import Backend, Conditioning
from .encoder import Sample


@dataclass(frozen=True)
class Noised:
    """Samples at their noise levels; every tensor has one row per sample. `scale` is k, `ratio` a / b, (B, 1, ..., 1)."""

    latent: torch.Tensor
    noise: torch.Tensor
    sigma_B: torch.Tensor
    x: torch.Tensor
    right: torch.Tensor  # the right prediction for `latent`
    scale: torch.Tensor
    ratio: torch.Tensor
    cond: tuple[Conditioning, ...]
    masks: tuple[torch.Tensor | None, ...] = ()
    swapped_cond: tuple[Conditioning, ...] = ()  # of each row once its partner stands in its place; empty: the partner's own

    def swapped(self) -> Noised:
        """The second half of the batch before the first: a pair's negative in its positive's place."""
        half = len(self.latent) // 2
        swapped = self.rows([*range(half, 2 * half), *range(half)])
        return replace(swapped, cond=self.swapped_cond, swapped_cond=()) if self.swapped_cond else swapped

    def rows(self, order: Sequence[int]) -> Noised:
        """These rows of the batch, in this order."""
        rows = list(order)
        cond = tuple(self.cond[i] for i in rows)
        masks = tuple(self.masks[i] for i in rows)
        levels = (self.latent[rows], self.noise[rows], self.sigma_B[rows])
        swapped = tuple(self.swapped_cond[i] for i in rows) if self.swapped_cond else ()
        return Noised(*levels, self.x[rows], self.right[rows], self.scale[rows], self.ratio[rows], cond, masks, swapped)


def at_levels(
    backend: Backend,
    latent: torch.Tensor,
    noise: torch.Tensor,
    sigma_B: torch.Tensor,
    cond: Sequence[Conditioning],
    masks: Sequence[torch.Tensor | None] = (),
) -> Noised:
    """Latents with that noise at those levels."""
    one = latent.new_ones(len(latent), *[1] * (latent.ndim - 1))
    signal = backend.add_noise(one, 0 * one, sigma_B)
    spread = backend.add_noise(0 * one, one, sigma_B)
    ratio = signal / spread
    return Noised(
        latent,
        noise,
        sigma_B,
        backend.add_noise(latent, noise, sigma_B),
        backend.target(latent, noise, sigma_B).float(),
        backend.target(one, -ratio, sigma_B).float(),
        ratio.float(),
        tuple(cond),
        tuple(masks) or (None,) * len(latent),
    )


def of_samples(batch: Noised, samples: Sequence[Sample]) -> Noised:
    """The batch of these samples, which knows what they are asked with at their partners' latents."""
    swapped = tuple(sample.swapped_conds[0] for sample in samples if sample.swapped_conds)
    return replace(batch, swapped_cond=swapped) if len(swapped) == len(samples) else batch


def predict(backend: Backend, batch: Noised) -> torch.Tensor:
    """The model's prediction in float32, with whatever slider is attached."""
    return backend.predict(batch.x, batch.sigma_B, batch.cond).float()
