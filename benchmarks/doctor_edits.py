"""Synthetic edits of photographs: what makes the positive and the negative of a pair. Images are (H, W, 3) float32 in [0, 1]."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

Change = Callable[[np.ndarray, bool, random.Random], np.ndarray]  # (scene, is positive, random numbers of this pair)
Flow = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Edit:
    """`directed`: all pairs change in one direction. `says`: findings that are true of it. `part`: as in the corpus, or both."""

    name: str
    make: Callable[[random.Random], Change]
    part: str = "both"
    directed: bool = True
    says: tuple[str, ...] = ()
    can_be_faint: bool = True


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def noisy(picture: Image.Image, sigma: float, rng: random.Random) -> Image.Image:
    array = np.asarray(picture, dtype=np.float32) / 255
    grain = np.random.default_rng(rng.randrange(2**32)).normal(0, sigma, array.shape)
    return Image.fromarray(((array + grain).clip(0, 1) * 255).round().astype(np.uint8))


def moved(picture: Image.Image, by: tuple[int, int]) -> Image.Image:
    """Moved (right, down) in pixels; the edge is repeated."""
    array = np.asarray(picture)
    pad = max(abs(by[0]), abs(by[1]))
    wide = np.pad(array, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    top, left = pad - by[1], pad - by[0]
    return Image.fromarray(wide[top : top + array.shape[0], left : left + array.shape[1]])


def _grid(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(right, down) from 0 to 1 of every pixel."""
    down, right = np.mgrid[: image.shape[0], : image.shape[1]].astype(np.float32)
    return right / image.shape[1], down / image.shape[0]


def _disc(image: np.ndarray, centre: tuple[float, float], radius: float, soft: float = 0.15) -> np.ndarray:
    """(H, W, 1): 1 inside a disc, soft at its edge; radius as a share of the width."""
    right, down = _grid(image)
    tall = image.shape[0] / image.shape[1]
    apart = np.hypot(right - centre[0], (down - centre[1]) * tall) / radius
    return ((1 + soft - apart) / (2 * soft)).clip(0, 1)[..., None]


def _brightness(rng: random.Random) -> Change:
    by = rng.uniform(1.12, 1.5)
    return lambda scene, positive, _: scene * (by if positive else 1.0) / by**0.5


def _contrast(rng: random.Random) -> Change:
    by = rng.uniform(1.25, 1.8)
    return lambda scene, positive, _: (scene - scene.mean()) * (by if positive else 1 / by) + scene.mean()


def _blur(rng: random.Random) -> Change:
    radius = rng.uniform(1.0, 3.0)

    def change(scene: np.ndarray, positive: bool, _: random.Random) -> np.ndarray:
        picture = Image.fromarray((scene * 255).astype(np.uint8))
        return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)) if positive else picture, np.float32) / 255

    return change


def _sharpen(rng: random.Random) -> Change:
    by = rng.uniform(0.8, 2.0)

    def change(scene: np.ndarray, positive: bool, _: random.Random) -> np.ndarray:
        picture = Image.fromarray((scene * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))
        return scene + by * (scene - np.asarray(picture, np.float32) / 255) if positive else scene

    return change


def _tint(rng: random.Random) -> Change:
    colour = np.array([rng.uniform(0.7, 1.3) for _ in range(3)], np.float32)
    return lambda scene, positive, _: scene * (colour if positive else 1 / colour)


def _sepia(rng: random.Random) -> Change:
    share = rng.uniform(0.5, 0.9)
    tone = np.array([1.15, 0.95, 0.7], np.float32)
    return lambda scene, positive, _: scene + positive * share * (scene.mean(-1, keepdims=True) * tone - scene)


def _saturation(rng: random.Random) -> Change:
    more, less = rng.uniform(1.3, 1.9), rng.uniform(0.1, 0.6)

    def change(scene: np.ndarray, positive: bool, _: random.Random) -> np.ndarray:
        grey = scene.mean(-1, keepdims=True)
        coloured = grey + 0.15 * np.array([1.0, 0.2, -1.2], np.float32) * (1 - np.abs(2 * grey - 1)) + (scene - grey)
        return grey + (coloured - grey) * (more if positive else less)

    return change


def _hue(rng: random.Random) -> Change:
    turns = rng.choice((1, 2))
    return lambda scene, positive, _: np.roll(scene * np.array([1.1, 0.9, 1.0], np.float32), turns if positive else 0, -1)


def _painted(rng: random.Random, draw: Callable[[ImageDraw.ImageDraw, float, float, float, str], None], jitter: float) -> Change:
    colour = f"#{rng.randrange(1 << 24):06x}"
    x, y, size = rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.7), rng.uniform(0.09, 0.22)

    def change(scene: np.ndarray, positive: bool, own: random.Random) -> np.ndarray:
        picture = Image.fromarray((scene * 255).astype(np.uint8))
        if positive:
            w, h = picture.size
            at = (x + own.uniform(-jitter, jitter)) * w, (y + own.uniform(-jitter, jitter)) * h
            draw(ImageDraw.Draw(picture), *at, size * min(w, h) * own.uniform(0.85, 1.15), colour)
        return np.asarray(picture, np.float32) / 255

    return change


def _blob(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    pen.ellipse((x - size, y - size, x + size, y + size), colour)


def _glasses(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    width = max(2, round(size / 5))
    for centre in (x - 1.2 * size, x + 1.2 * size):
        pen.ellipse((centre - size, y - size, centre + size, y + size), None, colour, width)
    pen.line((x - 0.3 * size, y, x + 0.3 * size, y), colour, width)


def _stripes(pen: ImageDraw.ImageDraw, x: float, y: float, size: float, colour: str) -> None:
    for step in range(-2, 3):
        pen.line((x - 2 * size, y + step * size / 2, x + 2 * size, y + step * size / 2), colour, max(2, round(size / 6)))


def _recoloured(rng: random.Random) -> Change:
    colour = np.array([rng.uniform(0.3, 1.6) for _ in range(3)], np.float32)
    centre, radius = (rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65)), rng.uniform(0.12, 0.3)

    def change(scene: np.ndarray, positive: bool, own: random.Random) -> np.ndarray:
        place = (centre[0] + own.uniform(-0.08, 0.08), centre[1] + own.uniform(-0.08, 0.08))
        return scene + positive * _disc(scene, place, radius) * (scene * colour - scene)

    return change


def _lit(rng: random.Random) -> Change:
    way = rng.choice((-1, 1)) * rng.uniform(0.5, 0.9)

    def change(scene: np.ndarray, positive: bool, _: random.Random) -> np.ndarray:
        right = _grid(scene)[0][..., None] - 0.5
        return scene * (1 + (way if positive else -way) * right)

    return change


def _vignette(rng: random.Random) -> Change:
    by = rng.uniform(0.5, 0.9)
    return lambda scene, positive, _: scene * (1 - positive * by * (1 - _disc(scene, (0.5, 0.5), 0.42, 0.5)))


def _warped(flow: Flow, low: float, high: float) -> Callable[[random.Random], Change]:
    """A warp about a centre: `flow` of (right, down) off the centre and a strength gives where a pixel is taken from."""

    def make(rng: random.Random) -> Change:
        strength = rng.uniform(low, high)
        centre = (rng.uniform(0.4, 0.6), rng.uniform(0.4, 0.6))

        def change(scene: np.ndarray, positive: bool, own: random.Random) -> np.ndarray:
            if not positive:
                return scene
            right, down = _grid(scene)
            at = (centre[0] + own.uniform(-0.05, 0.05), centre[1] + own.uniform(-0.05, 0.05))
            x, y = flow(right - at[0], down - at[1], strength)
            height, width = scene.shape[:2]
            return _sampled(scene, (x + at[0]) * width, (y + at[1]) * height)

        return change

    return make


def _sampled(scene: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The image at places between its pixels, bilinear."""
    height, width = scene.shape[:2]
    x, y = x.clip(0, width - 1.001), y.clip(0, height - 1.001)
    left, top = x.astype(int), y.astype(int)
    a, b = (x - left)[..., None], (y - top)[..., None]
    upper = scene[top, left] * (1 - a) + scene[top, left + 1] * a
    lower = scene[top + 1, left] * (1 - a) + scene[top + 1, left + 1] * a
    return upper * (1 - b) + lower * b


def _bulge(x: np.ndarray, y: np.ndarray, by: float) -> tuple[np.ndarray, np.ndarray]:
    scale = 1 - by * np.exp(-(x * x + y * y) / 0.05)
    return x * scale, y * scale


def _swirl(x: np.ndarray, y: np.ndarray, by: float) -> tuple[np.ndarray, np.ndarray]:
    turn = by * 3 * np.exp(-(x * x + y * y) / 0.04)
    return x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)


def _widened(x: np.ndarray, y: np.ndarray, by: float) -> tuple[np.ndarray, np.ndarray]:
    return x * (1 - by * np.exp(-(y * y + x * x) / 0.06)), y


LIGHT = ("LIGHT", "SIDES_LIGHT")
SHARP = ("SHARP", "SIDES_SHARP", "BLURRED")
EDITS = (
    Edit("brightness", _brightness, says=LIGHT),
    Edit("contrast", _contrast, says=(*LIGHT, *SHARP)),
    Edit("blur", _blur, says=SHARP),
    Edit("sharpen", _sharpen, "held", says=SHARP),
    Edit("tint", _tint, says=LIGHT),
    Edit("sepia", _sepia, "held", says=LIGHT),
    Edit("saturation", _saturation, says=LIGHT),
    Edit("hue", _hue, directed=False, says=LIGHT),
    Edit("blob", lambda rng: _painted(rng, _blob, 0.0)),
    Edit("blob somewhere", lambda rng: _painted(rng, _blob, 0.12)),
    Edit("glasses", lambda rng: _painted(rng, _glasses, 0.04)),
    Edit("stripes", lambda rng: _painted(rng, _stripes, 0.04), "held"),
    Edit("part recoloured", _recoloured),
    Edit("lit from a side", _lit),
    Edit("vignette", _vignette, "held", says=LIGHT),
    Edit("bulge", _warped(_bulge, 0.3, 0.6)),
    Edit("pinch", _warped(_bulge, -0.6, -0.3), "held"),
    Edit("swirl", _warped(_swirl, 0.2, 0.5)),
    Edit("widened", _warped(_widened, 0.25, 0.5)),
)
