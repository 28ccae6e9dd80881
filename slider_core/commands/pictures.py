"""Pictures as files: a PNG, and of clips an animated WebP."""

from __future__ import annotations

from pathlib import Path

import torch

from ..data.fitting import to_pil
from ..lora.safe_files import atomic_write
from ..use.plot_video import Strip, animated, frames_of
from ..use.sweep_export import png


def write_picture(place: Path, picture: torch.Tensor, fps: float) -> str:
    """The name of the file: `place`.png of an image (3, H, W) in [0, 1], `place`.webp of a clip (T, 3, H, W) of bytes."""
    if picture.ndim == 3:
        return _written(place, ".png", png(to_pil(picture)))
    return _written(place, ".webp", animated(frames_of(picture), fps))


def write_strip(place: Path, strip: Strip) -> str:
    """The name of `place`.png, a still; what moves is `place`.webp."""
    if strip.moving:
        _written(place, ".webp", strip.webp())
    return _written(place, ".png", png(strip.still))


def _written(place: Path, ending: str, content: bytes) -> str:
    """`place` may have dots in its name."""
    file = place.with_name(place.name + ending)
    atomic_write(file, content, overwrite=True)
    return file.name
