"""One image file -> 8-bit pixels, upright as EXIF says. Nothing in a file is trusted.

The size is checked on the header, before anything is decoded. Only the formats of `FORMATS` are tried: Pillow would start
Ghostscript for a PostScript file, whatever its name. An image cut short is refused, even when another node has told Pillow
to let such images pass. The cost: images are decoded one at a time, because those settings of Pillow are global.
"""

from __future__ import annotations

import importlib
import importlib.util
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ..config.checks import SliderError, need, reason
from ..config.regular_files import in_units, open_file

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".avif", ".tif", ".tiff")
PLUGINS = {  # endings that Pillow reads with a package: its module, and its name for pip
    ".heic": ("pillow_heif", "pillow-heif"),
    ".heif": ("pillow_heif", "pillow-heif"),
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin"),
}
CLIP_ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".gif")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "AVIF", "GIF", "TIFF", "HEIF", "JXL")
MOST_PIXELS = 100_000_000
MOST_FRAMES = 20_000  # of a GIF or TIFF
MOST_BYTES = 1 << 30  # of an image: more than MOST_PIXELS in 16 bit take
LEAST_SIDE = 8
RANGES = (1.0, 255.0, 65535.0)  # of a float image: the first that holds its greatest value
FROM_16_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # nearest, so that 257 k becomes k
Colour = tuple[int, int, int]  # red, green, blue, 0..255
WHITE = (255, 255, 255)
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Look:
    """What a file holds: the upright size in pixels, its frames, what will be changed in an image; `copy`, where asked for:
    the first frame in small, RGB or RGBA."""

    width: int
    height: int
    frames: int
    notes: tuple[str, ...]
    copy: Image.Image | None = field(default=None, compare=False, repr=False)


@cache
def plugin_endings() -> tuple[str, ...]:
    """Endings that are read because the package for them is installed; it is loaded with the first question."""
    readable = []
    for ending, (module, _) in PLUGINS.items():
        if importlib.util.find_spec(module) is None:
            continue
        loaded = importlib.import_module(module)
        if hasattr(loaded, "register_heif_opener"):
            loaded.register_heif_opener()
        readable.append(ending)
    return tuple(readable)


def image_endings() -> tuple[str, ...]:
    """What an image may end in on this machine."""
    return (*IMAGE_ENDINGS, *plugin_endings())


@contextmanager
def _strict() -> Iterator[None]:
    """Pillow with our limits: images cut short are an error, and so is anything that grows beyond twice MOST_PIXELS."""
    with _ONE_AT_A_TIME:
        old = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, MOST_PIXELS
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = old


@contextmanager
def naming(path: Path, what: str) -> Iterator[None]:
    """Any fault of a decoder as a SliderError that names the file."""
    try:
        yield
    except SliderError:
        raise
    except UnidentifiedImageError:
        detail = f"Its content is none of {', '.join(FORMATS)}, or its beginning is lost"
        raise SliderError(f"No image: {path}. {detail}. Remove it.", "image.format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        detail = f"has more than {_millions()} pixels"
        raise SliderError(f"{what} is too large: {path} {detail}. Scale it down.", f"{what.lower()}.too_large") from None
    except Exception as fault:  # a damaged file can make a decoder fail in nearly any way
        raise unreadable(path, what, reason(fault)) from None


def unreadable(path: Path, what: str, reason: object) -> SliderError:
    return SliderError(f"{what} cannot be read: {path} ({reason}). Replace or remove it.", f"{what.lower()}.unreadable")


def _millions() -> str:
    return f"{MOST_PIXELS // 1_000_000} million"


def check_file(path: Path, what: str) -> None:
    """A file with something in it, reached without a loop of links; no folder, and no pipe that would never answer."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise SliderError(f"{what} not found: {path}. Check the path.", f"{what.lower()}.missing") from None
    except (OSError, ValueError) as fault:
        raise unreadable(path, what, getattr(fault, "strerror", None) or fault) from None
    is_file = stat.S_ISREG(status.st_mode)
    need(is_file, f"{what} cannot be read: {path} is not a file. Remove it.", f"{what.lower()}.no_file")
    large = f"{what} is too large: {path} has more than {in_units(MOST_BYTES)}. Make it smaller or remove it."
    need(what == "Video" or status.st_size <= MOST_BYTES, large, f"{what.lower()}.too_large")
    need(status.st_size > 0, f"{what} is empty: {path} has no bytes. Replace or remove it.", f"{what.lower()}.empty")


def check_size(path: Path, what: str, width: int, height: int) -> None:
    size = f"{path} is {width} x {height}"
    large = f"{what} is too large: {size}, more than {_millions()} pixels. Scale it down or remove it."
    need(width * height <= MOST_PIXELS, large, f"{what.lower()}.too_large")
    small = f"{what} is too small: {size}; {LEAST_SIDE} pixels a side are the least. Replace or remove it."
    need(min(width, height) >= LEAST_SIDE, small, f"{what.lower()}.too_small")


@contextmanager
def opened(path: Path, what: str = "Image") -> Iterator[ImageFile.ImageFile]:
    """The file with its header read and checked, and nothing decoded yet. Faults while it is open name it too."""
    check_file(path, what)
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    # a file object and no path: Pillow would map a BMP into memory, and die with it if the file shrank meanwhile
    with _strict(), naming(path, what), open_file(path) as file, Image.open(file, formats=formats) as image:
        check_size(path, what, *image.size)
        yield image


def _from_numbers(image: Image.Image) -> Image.Image:
    """16- or 32-bit grey as RGB or RGBA: I;16 and I hold 0..65535, a float image (F) the range of its values."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= RANGES[-1]):  # NaN fails too
        raise ValueError(f"its values go from {low:g} to {high:g}, save it as 8 or 16 bit")
    if image.mode == "F":
        top = next(r for r in RANGES if high <= r)
        grey = np.rint(values * (255 / top)).astype(np.uint8)
    else:
        grey = FROM_16_BIT[values]
    rgb = Image.fromarray(grey).convert("RGB")
    key = image.info.get("transparency")
    if isinstance(key, int):
        rgb.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return rgb


def eight_bit(image: Image.Image) -> Image.Image:
    """RGB, or RGBA when any pixel is transparent; 8 bit each."""
    if image.mode.startswith("I") or image.mode == "F":
        picture = _from_numbers(image)
    else:
        picture = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
        return picture.convert("RGB")
    return picture


def _notes(image: ImageFile.ImageFile, frames: int) -> list[str]:
    """What will be changed when the image is read; asked before it is decoded, when Pillow still knows how it is stored."""
    notes = []
    if frames > 1:
        notes.append(f"animated, {frames} frames; as an image it is its first frame")
    if image.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        notes.append(f"{image.mode} converted to RGB")
    if image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in image.tile):
        notes.append("16 bit converted to 8 bit")
    if image.mode in ("I", "F"):
        notes.append("32 bit converted to 8 bit")
    return notes


def frame_count(path: Path, image: Any) -> int:
    """How many frames an image has. They are not decoded, and counted no further than MOST_FRAMES: Pillow's own count of a GIF
    or TIFF goes through all of a file, which may be made of millions."""
    if image.format not in ("GIF", "TIFF"):
        return int(getattr(image, "n_frames", 1))
    count = 1
    try:
        while count <= MOST_FRAMES:
            if image.format == "GIF":
                image._seek(count, False)
            else:
                image.seek(count)
            count += 1
    except EOFError:
        image.seek(0)
    need(count <= MOST_FRAMES, f"Clip is too long: {path} has more than {MOST_FRAMES} frames. Cut it.", "clip.too_long")
    return count


def look_image(path: Path, copy_pixels: int = 0) -> Look:
    """`look` at an image; of an animation, at its first frame."""
    with opened(path) as image:
        # the second picture of an MPO is a depth map or a preview that a telephone added to a photograph
        frames = 1 if image.format == "MPO" else frame_count(path, image)
        notes = _notes(image, frames)
        ImageOps.exif_transpose(image, in_place=True)
        picture = eight_bit(image)
        return Look(*picture.size, frames, tuple(notes), in_small(picture, copy_pixels))


def in_small(picture: Image.Image, pixels: int) -> Image.Image | None:
    """The picture with at most so many pixels; as it is when it has no more, None for 0."""
    if not pixels:
        return None
    scale = (pixels / (picture.width * picture.height)) ** 0.5
    if scale >= 1:
        return picture
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def over(picture: Image.Image, background: Colour) -> Image.Image:
    """RGB: the transparent parts of an RGBA picture over `background`."""
    if picture.mode == "RGB":
        return picture
    flat = Image.new("RGB", picture.size, background)
    flat.paste(picture.convert("RGB"), mask=picture.getchannel("A"))
    return flat


def load_image(path: str | Path) -> Image.Image:
    """RGB, or RGBA when any pixel is transparent; 8 bit, upright. Of an animation: the first frame. Raises what `look` raises.

    16-bit grey is scaled to 8 bit, a float image from the first of 0..1, 0..255 and 0..65535 that holds it.
    """
    with opened(Path(path)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return eight_bit(image)
