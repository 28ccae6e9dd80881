"""Images, animations, videos and folders of frames -> 8-bit pixels, upright as EXIF says. Nothing in a file is trusted.

The size is checked on the header, before anything is decoded. Only the formats of `FORMATS` are tried: Pillow would start
Ghostscript for a PostScript file, whatever its name. An image cut short is refused, even when another node has told Pillow
to let such images pass. The cost: images are decoded one at a time, because those settings of Pillow are global.
"""

from __future__ import annotations

import re
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from ..config.checks import SliderError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif")
CLIP_ENDINGS = (".mp4", ".mov", ".webm", ".mkv", ".gif")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "AVIF", "GIF", "TIFF")
MOST_PIXELS = 100_000_000
LEAST_SIDE = 8
RANGES = (1.0, 255.0, 65535.0)  # of a float image: the first that holds its greatest value
FROM_16_BIT = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # nearest, so that 257 k becomes k
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # one of them begins an MP4 or QuickTime file
MATROSKA = b"\x1a\x45\xdf\xa3"
Colour = tuple[int, int, int]  # red, green, blue, 0..255
WHITE = (255, 255, 255)
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Look:
    """What a file holds: the upright size in pixels, its frames, whether any pixel is transparent, and what will be changed."""

    width: int
    height: int
    frames: int
    alpha: bool
    notes: tuple[str, ...]


@contextmanager
def _strict() -> Iterator[None]:
    """Pillow with our limits: images cut short are an error, and so is anything that grows beyond twice MOST_PIXELS."""
    with _ONE_AT_A_TIME:
        old = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = False, MOST_PIXELS
        try:
            yield
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = old


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Any fault of a decoder as a SliderError that names the file."""
    try:
        yield
    except SliderError:
        raise
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise SliderError(f"No image: {path}. Its content is none of {known}, or its beginning is lost. Remove it.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise SliderError(f"{what} is too large: {path} has more than {_millions()} pixels. Scale it down.") from None
    except Exception as fault:  # a damaged file can make a decoder fail in nearly any way
        reason = " ".join(str(fault).split()) or type(fault).__name__
        raise SliderError(f"{what} cannot be read: {path} ({reason}). Replace or remove it.") from None


def _millions() -> str:
    return f"{MOST_PIXELS // 1_000_000} million"


def _check_file(path: Path, what: str) -> None:
    """A file with something in it, reached without a loop of links; no folder, and no pipe that would never answer."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise SliderError(f"{what} not found: {path}. Check the path.") from None
    except (OSError, ValueError) as fault:
        reason = getattr(fault, "strerror", None) or fault
        raise SliderError(f"{what} cannot be read: {path} ({reason}). Replace or remove it.") from None
    if not stat.S_ISREG(status.st_mode):
        raise SliderError(f"{what} cannot be read: {path} is not a file. Remove it.")
    if status.st_size == 0:
        raise SliderError(f"{what} is empty: {path} has no bytes. Replace or remove it.")


def _check_size(path: Path, what: str, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise SliderError(
            f"{what} is too large: {path} is {width} x {height}, more than {_millions()} pixels. Scale it down or remove it."
        )
    if min(width, height) < LEAST_SIDE:
        raise SliderError(
            f"{what} is too small: {path} is {width} x {height}; {LEAST_SIDE} pixels a side are the least. Replace or remove it."
        )


@contextmanager
def _opened(path: Path, what: str = "Image") -> Iterator[ImageFile.ImageFile]:
    """The file with its header read and checked, and nothing decoded yet. Faults while it is open name it too."""
    _check_file(path, what)
    Image.init()
    formats = tuple(name for name in FORMATS if name in Image.OPEN)
    # a file object and no path: Pillow would map a BMP into memory, and die with it if the file shrank meanwhile
    with _strict(), _reading(path, what), path.open("rb") as file, Image.open(file, formats=formats) as image:
        _check_size(path, what, *image.size)
        yield image


def _from_numbers(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """8-bit grey and alpha of 16- or 32-bit grey: I;16 and I hold 0..65535, a float image (F) the range of its values."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= RANGES[-1]):  # NaN fails too
        raise ValueError(f"its values go from {low:g} to {high:g}, save it as 8 or 16 bit")
    if image.mode == "F":
        top = next(r for r in RANGES if high <= r)
        grey = np.rint(values * (255 / top)).astype(np.uint8)
    else:
        grey = FROM_16_BIT[values]
    key = image.info.get("transparency")
    alpha = Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)) if isinstance(key, int) else None
    return Image.fromarray(grey), alpha


def _eight_bit(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """(RGB, alpha): 8 bit each; alpha is None when every pixel is opaque."""
    if image.mode.startswith("I") or image.mode == "F":
        grey, alpha = _from_numbers(image)
        rgb = grey.convert("RGB")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        rgb, alpha = rgba.convert("RGB"), rgba.getchannel("A")
    else:
        rgb, alpha = image.convert("RGB"), None
    return rgb, None if alpha is None or alpha.getextrema() == (255, 255) else alpha


def _notes(image: ImageFile.ImageFile) -> list[str]:
    """What will be changed when the image is read; asked before it is decoded, when Pillow still knows how it is stored."""
    wide = image.mode.startswith("I;16") or any(";16" in str(tile[3]) for tile in image.tile)
    return [
        *([f"{image.mode} converted to RGB"] if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else []),
        *(["16 bit converted to 8 bit"] if wide else []),
        *(["32 bit converted to 8 bit"] if image.mode in ("I", "F") else []),
    ]


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or with a zero in it: the reader says so
        return False


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in CLIP_ENDINGS and path.suffix.lower() != ".gif"


def look(path: str | Path) -> Look:
    """Open an image to its last byte (of an animation or a video: the first frame) and say what it holds.

    Of a folder of frames every image is opened. Raises SliderError that names the path: missing, empty, cut short, no image,
    too large, too small; for a video and a folder also what `load_clip` raises.
    """
    path = Path(path)
    if _is_folder(path):
        return _look_folder(path)
    if _is_video(path):
        count, (first,) = _video(path, 1)
        return Look(*first.size, count, False, (f"a video of {count} frames",))
    return _look_image(path)


def _look_image(path: Path) -> Look:
    with _opened(path) as image:
        # the second picture of an MPO is a depth map or a preview that a telephone added to a photograph
        frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        notes = [f"animated, {frames} frames; as an image it is its first frame"] if frames > 1 else []
        notes += _notes(image)
        ImageOps.exif_transpose(image, in_place=True)
        _, alpha = _eight_bit(image)
        return Look(*image.size, frames, alpha is not None, tuple(notes))


def _laid_over(image: Image.Image, background: Colour) -> tuple[Image.Image, Image.Image | None]:
    rgb, alpha = _eight_bit(image)
    if alpha is None:
        return rgb, None
    flat = Image.new("RGB", rgb.size, background)
    flat.paste(rgb, mask=alpha)
    return flat, alpha


def load_picture(path: str | Path, background: Colour = WHITE) -> tuple[Image.Image, Image.Image | None]:
    """(RGB, mask): upright, transparent parts over `background` (0..255); the mask (L) is the alpha, None when all is opaque.

    16-bit grey is scaled to 8 bit, a float image from the first of 0..1, 0..255 and 0..65535 that holds it. Of an animation:
    the first frame. Raises what `look` raises.
    """
    with _opened(Path(path)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return _laid_over(image, background)


# --- clips


def load_clip(path: str | Path, frames: int, background: Colour = WHITE) -> list[Image.Image]:
    """`frames` RGB images, evenly spaced from the first frame to the last, of a video, an animation or a folder of images.

    A folder's images go by name, its numbers by value (2 before 10). One frame is the first. Raises SliderError that names the
    path: missing, damaged, shorter than `frames`, frames of different sizes, too large, or PyAV needed and not installed.
    """
    path = Path(path)
    if frames < 1:
        raise SliderError(f"A clip needs at least 1 frame, got {frames!r}.")
    if _is_folder(path):
        files = frame_files(path)
        pictures = [load_picture(files[i], background)[0] for i in _spread(path, len(files), frames)]
    elif _is_video(path):
        _, pictures = _video(path, frames)
    else:
        pictures = _animation(path, frames, background)
    _check_equal(path, (picture.size for picture in pictures))
    return pictures


def _spread(path: Path, count: int, frames: int) -> list[int]:
    """Numbers of `frames` frames out of `count`, from the first to the last."""
    if count < frames:
        raise SliderError(
            f"Clip is too short: {path} has {count} frames, {frames} are needed. Use fewer frames or a longer clip."
        )
    return [round(i * (count - 1) / max(1, frames - 1)) for i in range(frames)]


def _check_equal(path: Path, sizes: Iterable[tuple[int, int]]) -> None:
    different = [f"{width} x {height}" for width, height in sorted(set(sizes))]
    if len(different) > 1:
        raise SliderError(f"Frames differ in size: {path} has {' and '.join(different[:2])}. Give all its frames one size.")


def frame_files(path: Path) -> list[Path]:
    def by_number(file: Path) -> tuple[list[tuple[bool, int, str]], str]:
        parts = re.split(r"([0-9]+)", file.name.lower())
        return [(i % 2 == 0, int(part) if i % 2 else 0, part) for i, part in enumerate(parts)], file.name

    with _reading(path, "Folder"):
        files = [file for file in path.iterdir() if file.suffix.lower() in IMAGE_ENDINGS and file.name[0] != "."]
    return sorted(files, key=by_number)


def _look_folder(path: Path) -> Look:
    looks = [_look_image(file) for file in frame_files(path)]
    if not looks:
        raise SliderError(f"No images: the folder {path} holds none ({', '.join(IMAGE_ENDINGS)}). Put frames there or remove it.")
    _check_equal(path, ((one.width, one.height) for one in looks))
    notes = dict.fromkeys(note for one in looks for note in one.notes)
    alpha = any(one.alpha for one in looks)
    return Look(looks[0].width, looks[0].height, len(looks), alpha, (f"a folder of {len(looks)} frames", *notes))


def _animation(path: Path, frames: int, background: Colour) -> list[Image.Image]:
    pictures = []
    with _opened(path, "Clip") as image:
        wanted = _spread(path, getattr(image, "n_frames", 1), frames)
        for number in range(wanted[-1] + 1):  # a frame is a change of the one before: none can be left out
            image.seek(number)
            _check_size(path, "Clip", *image.size)  # a later frame of a GIF may be larger than the header says
            if number in wanted:
                pictures.append(_laid_over(ImageOps.exif_transpose(image), background)[0])
    return pictures


def _video(path: Path, frames: int) -> tuple[int, list[Image.Image]]:
    """(frames in all, those wanted). They are counted without decoding; each wanted one is decoded from its last key frame."""
    _check_file(path, "Video")
    try:
        import av
    except ImportError:
        raise SliderError(f"Video cannot be read: {path}. PyAV is missing; install it with: pip install av") from None
    with _container(av, path) as (clip, stream):
        packets = [p for p in clip.demux(stream) if p.pts is not None]
        whole = sum(not p.is_corrupt for p in packets)
        if whole < max(len(packets), stream.frames):  # Matroska does not say how many frames there should be
            raise SliderError(f"Video is cut short: {path} has {whole} whole frames. Replace or remove it.")
        is_key = {p.pts: p.is_keyframe for p in packets if not p.is_discard}
    times, keys = sorted(is_key), sorted(time for time, key in is_key.items() if key)
    pictures, after = [], None
    with _container(av, path) as (clip, stream):
        for number in _spread(path, len(times), frames):
            key = max((k for k in keys if k <= times[number]), default=times[0])
            if after is None or key > after:
                clip.seek(key, stream=stream)
                decoded = clip.decode(stream)
            frame = next((f for f in decoded if f.pts is not None and f.pts >= times[number]), None)
            if frame is None or frame.is_corrupt:
                raise SliderError(f"Video is damaged: {path}, near frame {number}. Replace or remove it.")
            _check_size(path, "Video", frame.width, frame.height)
            pictures.append(_upright(frame, stream.sample_aspect_ratio))
            after = frame.pts
    return len(times), pictures


@contextmanager
def _container(av: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    """The opened file and its first video stream. The demuxer is chosen here and gets a file object: left to itself, FFmpeg
    would follow a play list to other files and addresses."""
    limit = {"max_pixels": str(MOST_PIXELS)}
    with _reading(path, "Video"), path.open("rb") as file:
        start = file.read(8)
        form = "matroska" if start[:4] == MATROSKA else "mov" if start[4:] in BOXES else ""
        if not form:
            raise SliderError(f"No video: {path}. Its content is neither MP4, QuickTime, WebM nor Matroska. Remove it.")
        file.seek(0)
        with av.open(file, format=form, options=limit) as clip:
            stream = next(iter(clip.streams.video), None)
            if stream is None:
                raise SliderError(f"No video: {path} has no pictures in it. Remove it.")
            _check_size(path, "Video", stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = limit
            yield clip, stream


def _upright(frame: Any, pixel_ratio: Any) -> Image.Image:
    """The frame with square pixels and turned as its display matrix says."""
    image = frame.to_image()
    if pixel_ratio and pixel_ratio != 1:
        image = image.resize((max(1, round(image.width * pixel_ratio)), image.height), Image.Resampling.LANCZOS)
    return image.rotate(getattr(frame, "rotation", 0), expand=True)
