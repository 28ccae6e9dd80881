"""The way from a dataset's negative images to its positive ones, in latent space: what a sweep is measured along."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from ..backend import Backend
from ..config.checks import need
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
    dataset.need_equal_sides()
    resolution = max(backend.image_step, round(math.sqrt(pixels[0] * pixels[1])))
    fitted = fittings(dataset, resolution, backend.image_step)
    positives = [one for one in fitted if one.image_sample.strength > 0][:MOST_IMAGES]
    negatives = [one for one in fitted if one.image_sample.strength < 0][:MOST_IMAGES]
    both = bool(positives) and bool(negatives)
    need(both, "The sweep's dataset needs images above 0 and below 0 to measure along.", "sweep.sides")
    encoder = Encoder(backend, disk)
    change = _mean_latent(encoder, positives, dataset, shape) - _mean_latent(encoder, negatives, dataset, shape)
    return change / (_mean_strength(positives) - _mean_strength(negatives))


def _mean_strength(fitted: Sequence[Fitted]) -> float:
    return sum(one.image_sample.strength for one in fitted) / len(fitted)


@torch.no_grad()
def _mean_latent(encoder: Encoder, fitted: Sequence[Fitted], dataset: Dataset, shape: Sequence[int]) -> torch.Tensor:
    latents = [_scaled(latent.float(), shape) for latent, _ in encoder.images(fitted, dataset.spec)]
    return torch.stack(latents).mean(0)


def _scaled(latent: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A latent of the sweep's shape: an image stands still over the frames of a clip."""
    if latent.ndim == 4:
        latent = latent[:, :1].expand(-1, shape[1], -1, -1) if len(shape) == 4 else latent[:, 0]
    frames = latent.movedim(1, 0) if latent.ndim == 4 else latent[None]
    scaled = torch.nn.functional.interpolate(frames, tuple(shape[-2:]), mode="bilinear", antialias=True, align_corners=False)
    scaled = scaled.movedim(0, 1) if latent.ndim == 4 else scaled[0]
    sizes = f"The dataset's latents are {tuple(scaled.shape)} and the sweep's {tuple(shape)}"
    need(tuple(scaled.shape) == tuple(shape), f"{sizes}: use the model's own VAE.", "sweep.latent_shape")
    return scaled
