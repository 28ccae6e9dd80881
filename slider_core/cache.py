"""Encode each image and each distinct caption once; training never calls the VAE or the text encoder again.

Samples live in memory: a latent is 48 KB on the embedded model, 64 KB on SD at 512 px in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .backend import Backend, Conditioning
from .dataset import Dataset, common_size, load_image


@dataclass(frozen=True)
class Sample:
    """An encoded shot. `pair` numbers the pair it belongs to (the same for its partner), None for an image without one.

    `bucket` names the bucket that it comes from, which has its turn with a `probability` and shows each image 1 + `repeats`
    times an epoch.
    """

    latent: torch.Tensor  # (C, H, W) or (C, T, H, W), float32, CPU
    cond: Conditioning
    strength: float
    pair: int | None
    bucket: str = ""
    probability: float = 1.0
    repeats: int = 0


def encode(dataset: Dataset, backend: Backend, resolution: int | None = None) -> list[Sample]:
    """Encode a dataset with `backend`, at its own resolution unless one is given. Gradients are never recorded here."""
    width, height = common_size(dataset, resolution or backend.resolution, backend.image_step)
    pair_of = {id(shot): number for number, pair in enumerate(dataset.pairs) for shot in pair}
    with torch.no_grad():
        conds = {caption: backend.encode_prompt(caption) for caption in {shot.caption for shot in dataset.shots}}
        samples = []
        for shot in dataset.shots:
            latent = backend.encode_images(load_image(shot.path, width, height)[None])[0]
            samples.append(Sample(latent.float().cpu().clone(), conds[shot.caption], shot.strength, pair_of.get(id(shot))))
    return samples
