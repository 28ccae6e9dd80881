"""The measurable world: cartoon faces drawn from attributes, which faces_measure.py reads back from an image.

The embedded model (model.py) was trained on renders of this world, so that what a slider does can be *measured*, not only
looked at. Continuous attributes live in [-1, 1] (`render` accepts more); `skin` and `background` are classes.

Both directions share one geometry, in units of the face radius r and the face centre:

    eyes    two ellipses at (+-EYE_X, EYE_Y), half-axes EYE_A and EYE_B0 + EYE_B1 * eyes
    mouth   y(u) = MOUTH_Y + MOUTH_H * mouth * (1 - 2 u^2), u = x / MOUTH_W in [-1, 1]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

Palette = dict[str, tuple[float, float, float]]
SIZE = 64
CONTINUOUS = ("mouth", "eyes", "size", "x", "y")
SKINS: Palette = {
    "light": (1.00, 0.86, 0.73),
    "tan": (0.90, 0.69, 0.49),
    "brown": (0.67, 0.46, 0.30),
    "dark": (0.45, 0.30, 0.21),
}
BACKGROUNDS: Palette = {
    "blue": (0.33, 0.55, 0.87),
    "teal": (0.20, 0.62, 0.62),
    "green": (0.42, 0.72, 0.40),
    "purple": (0.58, 0.42, 0.80),
    "gray": (0.60, 0.63, 0.67),
}
CLASSES = {"skin": tuple(SKINS), "background": tuple(BACKGROUNDS)}
ATTRIBUTES = CONTINUOUS + tuple(CLASSES)
UNIFORM_STD = 1 / math.sqrt(3)  # standard deviation of a continuous attribute over the world: U(-1, 1)
EYE_X, EYE_Y, EYE_A, EYE_B0, EYE_B1, PUPIL = 0.40, -0.20, 0.22, 0.135, 0.085, 0.12
MOUTH_Y, MOUTH_H, MOUTH_W, MOUTH_T = 0.45, 0.18, 0.50, 0.065
RADIUS, RADIUS_PER_SIZE, CENTRE_X, CENTRE_Y, SHIFT = 20.0, 4.0, 32.0, 33.0, 6.0
WHITE, PUPIL_COLOUR, MOUTH_COLOUR = (1.0, 1.0, 1.0), (0.10, 0.10, 0.13), (0.68, 0.08, 0.14)


@dataclass(frozen=True)
class Face:
    """The attributes of one face. Continuous ones are U(-1, 1) in the world; `skin` and `background` are class names."""

    mouth: float = 0.0
    eyes: float = 0.0
    size: float = 0.0
    x: float = 0.0
    y: float = 0.0
    skin: str = "light"
    background: str = "blue"

    @property
    def caption(self) -> str:
        """What a caption of this world says: skin and background, nothing else."""
        return f"a face with {self.skin} skin on a {self.background} background"


# what can be said of a face besides, of either end of an attribute
PHRASES = {"mouth": ("smiling", "sad"), "eyes": ("open eyes", "closed eyes"), "size": ("large", "small")}


def sample_faces(count: int, generator: torch.Generator) -> list[Face]:
    """`count` faces drawn from the world with `generator`."""
    values = torch.rand(count, len(CONTINUOUS), generator=generator) * 2 - 1
    skins = torch.randint(len(SKINS), (count,), generator=generator)
    backgrounds = torch.randint(len(BACKGROUNDS), (count,), generator=generator)
    faces = []
    for row, skin, background in zip(values.tolist(), skins.tolist(), backgrounds.tolist(), strict=True):
        mouth, eyes, size, x, y = (round(value, 4) for value in row)
        faces.append(Face(mouth, eyes, size, x, y, CLASSES["skin"][skin], CLASSES["background"][background]))
    return faces


def _colours(names: list[str], palette: Palette) -> torch.Tensor:
    return torch.tensor([palette[n] for n in names])[:, :, None, None]


def pixel_grid() -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 1, SIZE) and (1, SIZE, 1): x and y of the pixels' centres."""
    axis = torch.arange(SIZE, dtype=torch.float32) + 0.5
    return axis[None, None, :], axis[None, :, None]


def _paint(canvas: torch.Tensor, colour: torch.Tensor, distance: torch.Tensor) -> torch.Tensor:
    """Lay `colour` where the signed distance (pixels, negative inside) is negative, one pixel of anti-aliasing."""
    cover = (0.5 - distance).clamp(0, 1)[:, None]
    return canvas * (1 - cover) + colour * cover


def _colour(rgb: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor(rgb)[:, None, None]


def render(faces: list[Face]) -> torch.Tensor:
    """Draw faces. Returns (N, 3, 64, 64) float32 in [0, 1]."""
    value = {name: torch.tensor([getattr(f, name) for f in faces]).float()[:, None, None] for name in CONTINUOUS}
    px, py = pixel_grid()
    r = RADIUS + RADIUS_PER_SIZE * value["size"]
    x = (px - CENTRE_X - SHIFT * value["x"]) / r
    y = (py - CENTRE_Y - SHIFT * value["y"]) / r
    canvas = _colours([f.background for f in faces], BACKGROUNDS).expand(-1, 3, SIZE, SIZE)
    canvas = _paint(canvas, _colours([f.skin for f in faces], SKINS), ((x**2 + y**2).sqrt() - 1) * r)
    half = (EYE_B0 + EYE_B1 * value["eyes"]).clamp_min(0.02)
    for side in (-EYE_X, EYE_X):
        canvas = _paint_eye(canvas, x - side, y - EYE_Y, half, r)
    return _paint(canvas, _colour(MOUTH_COLOUR), _mouth_distance(x, y, MOUTH_H * value["mouth"]) * r).contiguous()


def _paint_eye(canvas: torch.Tensor, x: torch.Tensor, y: torch.Tensor, half: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """A white ellipse with half-axes EYE_A and `half`, and the pupil in it; x and y from its centre."""
    q = ((x / EYE_A) ** 2 + (y / half) ** 2).sqrt()
    slope = (((x / EYE_A**2) ** 2 + (y / half**2) ** 2).sqrt() / q.clamp_min(1e-4)).clamp_min(1e-4)
    white = (q - 1) / slope * r
    canvas = _paint(canvas, _colour(WHITE), white)
    pupil = torch.maximum(white, ((x**2 + y**2).sqrt() - PUPIL) * r)
    return _paint(canvas, _colour(PUPIL_COLOUR), pupil)


def _mouth_distance(x: torch.Tensor, y: torch.Tensor, bend: torch.Tensor) -> torch.Tensor:
    """The distance from a line MOUTH_T thick along the parabola."""
    u = (x / MOUTH_W).clamp(-1, 1)
    curve = MOUTH_Y + bend * (1 - 2 * u**2)
    slope = 4 * bend * u / MOUTH_W
    across = (y - curve).abs() / (1 + slope**2).sqrt()
    beyond = (x.abs() - MOUTH_W).clamp_min(0)
    return (across**2 + beyond**2).sqrt() - MOUTH_T
