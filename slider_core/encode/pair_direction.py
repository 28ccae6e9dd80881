"""The way from a dataset's negative images to its positive ones, in latent space: what a sweep is measured along."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..backend import Backend
from ..config.checks import SliderError
from ..data.dataset import Dataset
from ..data.fitting import Fitted, fittings
from .disk_cache import DiskCache
from .encoder import Encoder

MOST_IMAGES = 64  # of each side; of a larger dataset the first


def pair_direction(
    dataset: Dataset, backend: Backend, shape: Sequence[int], pixels: tuple[int, int], disk: DiskCache | None = None
) -> torch.Tensor:
    """The latents' mean change for one unit of strength: (mean of positive - mean of negative) / (difference of strengths).

    `shape` is that of one latent of the sweep, (C, H, W) or (C, T, H, W), and `pixels` (height, width) of its picture. Images are
    encoded at that area and their latents scaled to that shape. SliderError when a side is missing.
    """
    if dataset.trouble:
        raise SliderError(dataset.trouble)
    encoder = Encoder(backend, disk)
    resolution = max(backend.image_step, round(math.sqrt(pixels[0] * pixels[1])))
    fitted = fittings(dataset, resolution, backend.image_step)
    sides = [[f for f in fitted if sign * f.spec.strength > 0][:MOST_IMAGES] for sign in (1, -1)]
    if not all(sides):
        raise SliderError("The sweep's dataset needs images above 0 and below 0 to measure along.")
    positive, negative = (_mean([_encoded(encoder, f, dataset, shape) for f in side]) for side in sides)
    apart = sum(f.spec.strength for f in sides[0]) / len(sides[0]) - sum(f.spec.strength for f in sides[1]) / len(sides[1])
    return (positive - negative) / apart


def _mean(latents: Sequence[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(latents)).mean(0)


@torch.no_grad()
def _encoded(encoder: Encoder, fitted: Fitted, dataset: Dataset, shape: Sequence[int]) -> torch.Tensor:
    """A latent of the sweep's shape: an image stands still over the frames of a clip."""
    latent = encoder.latent(fitted, dataset.spec)[0].float()
    if latent.ndim == 4:
        latent = latent[:, :1].expand(-1, shape[1], -1, -1) if len(shape) == 4 else latent[:, 0]
    frames = latent.movedim(1, 0) if latent.ndim == 4 else latent[None]
    scaled = torch.nn.functional.interpolate(frames, tuple(shape[-2:]), mode="bilinear", antialias=True, align_corners=False)
    found = scaled.movedim(0, 1) if latent.ndim == 4 else scaled[0]
    if tuple(found.shape) != tuple(shape):
        sizes = f"The dataset's latents are {tuple(found.shape)} and the sweep's {tuple(shape)}"
        raise SliderError(f"{sizes}: use the model's own VAE.")
    return found
