"""The measurable world: cartoon faces drawn from attributes, and attributes measured back from an image.

The embedded model (model.py) was trained on renders of this world, so that what a slider does can be *measured*, not only
looked at. Continuous attributes live in [-1, 1] (`render` accepts more); `skin` and `background` are classes.

Both directions share one geometry, in units of the face radius r and the face centre:

    eyes    two ellipses at (+-EYE_X, EYE_Y), half-axes EYE_A and EYE_B0 + EYE_B1 * eyes
    mouth   y(u) = MOUTH_Y + MOUTH_H * mouth * (1 - 2 u^2), u = x / MOUTH_W in [-1, 1]

`measure` inverts it in closed form (areas, centroid, a weighted parabola), so it goes on beyond [-1, 1] instead of saturating as
a trained regressor would. Cost: a few milliseconds per hundred images on a CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ..config.checks import need

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
# what anti-aliasing takes from the measure of a thin part: true = gain * read + offset, fitted on 1500 renders
EYES_FIT, MOUTH_FIT = (1.118, 0.239), (1.073, 0.019)
MARGIN = 2  # pixels at the edge that show the background alone
LEAST_FACE, LEAST_MOUTH = 60, 0.02  # pixels; share of the face's squared radius


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


def _pixel_grid() -> tuple[torch.Tensor, torch.Tensor]:
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
    value = {}
    for name in CONTINUOUS:
        value[name] = torch.tensor([getattr(face, name) for face in faces]).float()[:, None, None]
    px, py = _pixel_grid()
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


# --- measuring


@dataclass(frozen=True)
class _Disk:
    """Centre and radius of a face, in pixels."""

    x: torch.Tensor
    y: torch.Tensor
    r: torch.Tensor


def measure(images: torch.Tensor) -> list[Face]:
    """The faces in images of the world, (N, 3, 64, 64) float in [0, 1]. A continuous attribute is NaN where the image shows no
    such part (no mouth, no face). Raises SliderError for another shape."""
    fits = images.ndim == 4 and tuple(images.shape[1:]) == (3, SIZE, SIZE)
    need(fits, f"measure needs images of shape (N, 3, {SIZE}, {SIZE}), got {tuple(images.shape)}.", "faces.shape")
    return [_measure_one(image) for image in images.detach().float().cpu().clamp(0, 1)]


def _measure_one(image: torch.Tensor) -> Face:
    px, py = (axis[0].expand(SIZE, SIZE) for axis in _pixel_grid())
    frame = torch.ones(SIZE, SIZE, dtype=torch.bool)
    frame[MARGIN:-MARGIN, MARGIN:-MARGIN] = False
    background = _median(image, frame)
    face = ((image - background[:, None, None]).norm(dim=0) > 0.15).float()
    if face.sum() < LEAST_FACE:
        nan = math.nan
        return Face(nan, nan, nan, nan, nan, _nearest(background, SKINS), _nearest(background, BACKGROUNDS))
    rough = _disk(face, px, py)
    skin = _median(image, _forehead(rough, px, py))
    radius = ((px - rough.x) ** 2 + (py - rough.y) ** 2).sqrt() / rough.r
    cover = torch.where(radius < 0.85, torch.ones_like(radius), _toward(image, background, skin) * (radius < 1.25))
    disk = _disk(cover, px, py)
    x = (px - disk.x) / disk.r
    y = (py - disk.y) / disk.r
    return Face(
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


def mouth_place(face: Face) -> torch.Tensor:
    """(64, 64) bool: where the mouth of a face of that size and place can be, however it is bent."""
    px, py = (axis[0] for axis in _pixel_grid())
    r = RADIUS + RADIUS_PER_SIZE * face.size
    return _mouth_place((px - CENTRE_X - SHIFT * face.x) / r, (py - CENTRE_Y - SHIFT * face.y) / r)


def _mouth_place(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.abs() < 0.62) & (y > 0.08) & (y < 0.86)


def _mouth(image: torch.Tensor, skin: torch.Tensor, x: torch.Tensor, y: torch.Tensor, r: torch.Tensor) -> torch.Tensor:
    """The parabola through the red pixels: y = a + b x + c x^2, c = -2 MOUTH_H mouth / MOUTH_W^2."""
    red = _toward(image, skin, torch.tensor(MOUTH_COLOUR)) ** 2 * _mouth_place(x, y)
    if not red.sum() / r**2 > LEAST_MOUTH:
        return torch.tensor(math.nan)
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
