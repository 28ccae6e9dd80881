"""Attributes measured back from an image of the world, by its geometry (faces.py).

`render` is inverted in closed form (areas, centroid, a weighted parabola), so a measure goes on beyond [-1, 1] instead of
saturating as a trained regressor would. Cost: a few milliseconds per hundred images on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..config.checks import need
from .faces import (
    BACKGROUNDS,
    CENTRE_X,
    CENTRE_Y,
    EYE_A,
    EYE_B0,
    EYE_B1,
    EYE_X,
    EYE_Y,
    MOUTH_COLOUR,
    MOUTH_H,
    MOUTH_W,
    PUPIL_COLOUR,
    RADIUS,
    RADIUS_PER_SIZE,
    SHIFT,
    SIZE,
    SKINS,
    WHITE,
    Palette,
    pixel_grid,
)

# what anti-aliasing takes from the measure of a thin part: true = gain * read + offset, fitted on 1500 renders
EYES_FIT, MOUTH_FIT = (1.118, 0.239), (1.073, 0.019)
MARGIN = 2  # pixels at the edge that show the background alone
LEAST_FACE, LEAST_MOUTH = 60, 0.02  # pixels; share of the face's squared radius


@dataclass(frozen=True)
class Measured:
    """Attributes measured from one image. A continuous one is NaN where the image shows no such part (no mouth, no face)."""

    mouth: float
    eyes: float
    size: float
    x: float
    y: float
    skin: str
    background: str


@dataclass(frozen=True)
class _Disk:
    """Centre and radius of a face, in pixels."""

    x: torch.Tensor
    y: torch.Tensor
    r: torch.Tensor


def measure(images: torch.Tensor) -> list[Measured]:
    """Attributes of images of the world. `images`: (N, 3, 64, 64) float in [0, 1]; one `Measured` per image.

    Raises SliderError for another shape.
    """
    fits = images.ndim == 4 and tuple(images.shape[1:]) == (3, SIZE, SIZE)
    need(fits, f"measure needs images of shape (N, 3, {SIZE}, {SIZE}), got {tuple(images.shape)}.", "faces.shape")
    return [_measure_one(image) for image in images.detach().float().cpu().clamp(0, 1)]


def _measure_one(image: torch.Tensor) -> Measured:
    px, py = (axis[0].expand(SIZE, SIZE) for axis in pixel_grid())
    frame = torch.ones(SIZE, SIZE, dtype=torch.bool)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    background = _median(image, frame)
    face = ((image - background[:, None, None]).norm(dim=0) > 0.15).float()
    if face.sum() < LEAST_FACE:
        nan = float("nan")
        return Measured(nan, nan, nan, nan, nan, _nearest(background, SKINS), _nearest(background, BACKGROUNDS))
    rough = _disk(face, px, py)
    skin = _median(image, _forehead(rough, px, py))
    radius = ((px - rough.x) ** 2 + (py - rough.y) ** 2).sqrt() / rough.r
    cover = torch.where(radius < 0.85, torch.ones_like(radius), _toward(image, background, skin) * (radius < 1.25))
    disk = _disk(cover, px, py)
    x = (px - disk.x) / disk.r
    y = (py - disk.y) / disk.r
    return Measured(
        _fit(_mouth(image, skin, x, y, disk.r), MOUTH_FIT),
        _fit(_eyes(image, skin, x, y, disk.r), EYES_FIT),
        float((disk.r - RADIUS) / RADIUS_PER_SIZE),
        float((disk.x - CENTRE_X) / SHIFT),
        float((disk.y - CENTRE_Y) / SHIFT),
        _nearest(skin, SKINS),
        _nearest(background, BACKGROUNDS),
    )


def _disk(cover: torch.Tensor, px: torch.Tensor, py: torch.Tensor) -> _Disk:
    """The disk with the centroid and the area of a cover (H, W) of 0 to 1."""
    total = cover.sum()
    return _Disk((cover * px).sum() / total, (cover * py).sum() / total, (total / math.pi).sqrt())


def _forehead(disk: _Disk, px: torch.Tensor, py: torch.Tensor) -> torch.Tensor:
    """A part of the face that is skin whatever its attributes."""
    high = (py - disk.y < -0.5 * disk.r) & (py - disk.y > -0.85 * disk.r)
    return ((px - disk.x).abs() < 0.5 * disk.r) & high


def _eyes(image: torch.Tensor, skin: torch.Tensor, x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """White or dark, so anything that is not skin, as an area; both eyes have 2 pi a b."""
    not_skin = torch.maximum(_toward(image, skin, torch.tensor(WHITE)), _toward(image, skin, torch.tensor(PUPIL_COLOUR)))
    area = (not_skin * (((x.abs() - EYE_X).abs() < 0.33) & ((y - EYE_Y).abs() < 0.36))).sum() / r**2
    return (area / (2 * math.pi * EYE_A) - EYE_B0) / EYE_B1


def _mouth(image: torch.Tensor, skin: torch.Tensor, x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """The parabola through the red pixels: y = a + b x + c x^2, c = -2 MOUTH_H mouth / MOUTH_W^2."""
    red = _toward(image, skin, torch.tensor(MOUTH_COLOUR)) ** 2 * ((x.abs() < 0.62) & (y > 0.08) & (y < 0.86))
    if not red.sum() / r**2 > LEAST_MOUTH:
        return torch.tensor(float("nan"))
    weight = red.flatten()
    u = x.flatten()
    design = torch.stack([torch.ones_like(u), u, u**2], dim=1)
    gram = (design * weight[:, None]).T @ design + 1e-4 * torch.eye(3)
    coefficients = torch.linalg.solve(gram, (design * weight[:, None]).T @ y.flatten())
    return -coefficients[2] * MOUTH_W**2 / (2 * MOUTH_H)


def _median(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    pixels = image[:, mask] if mask.any() else image.flatten(1)
    return pixels.median(dim=1).values


def _nearest(colour: torch.Tensor, palette: Palette) -> str:
    names = list(palette)
    return names[int((torch.tensor([palette[n] for n in names]) - colour).norm(dim=1).argmin())]


def _toward(image: torch.Tensor, start: torch.Tensor, end: torch.Tensor) -> torch.Tensor:
    """How far each pixel is from colour `start` to colour `end`, 0 to 1."""
    way = (end - start)[:, None, None]
    return (((image - start[:, None, None]) * way).sum(0) / way.square().sum().clamp_min(1e-4)).clamp(0, 1)


def _fit(read: torch.Tensor, fit: tuple[float, float]) -> float:
    gain, offset = fit
    return gain * float(read) + offset
