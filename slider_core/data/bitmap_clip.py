"""Images, animations, videos and folders of frames alike: what a path holds (`look`), and frames of it (`load_clip`).

A video is read through PyAV; a frame of it is decoded from the last key frame before it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from ..config.checks import SliderError, need
from ..config.regular_files import is_folder, open_file
from . import bitmap
from .bitmap import CLIP_ENDINGS, IMAGE_ENDINGS, Colour, Look

MOST_DECODED = 10**10  # pixels of an animation: 5,000 frames of 1920 x 1080
BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")  # one of them begins an MP4 or QuickTime file
MATROSKA = b"\x1a\x45\xdf\xa3"


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in CLIP_ENDINGS and path.suffix.lower() != ".gif"


def look(path: str | Path, copy_pixels: int = 0) -> Look:
    """Open an image to its last byte (of an animation or a video: the first frame) and say what it holds, with a copy of at
    most `copy_pixels`.

    Of a folder of frames every image is opened. SliderError that names the path: missing, empty, cut short, no image,
    too large, too small; for a video and a folder also what `load_clip` raises.
    """
    path = Path(path)
    if is_folder(path):
        return _look_folder(path, copy_pixels)
    if _is_video(path):
        count, (first,) = load_video(path, 1)
        return Look(*first.size, count, (), bitmap.in_small(first, copy_pixels))
    return bitmap.look_image(path, copy_pixels)


def _look_folder(path: Path, copy_pixels: int) -> Look:
    files = frame_files(path)
    none = f"No images: the folder {path} holds none ({', '.join(IMAGE_ENDINGS)}). Put frames there or remove it."
    need(bool(files), none, "folder.no_images")
    first = bitmap.look_image(files[0], copy_pixels)
    sizes = {(first.width, first.height)}
    for file in files[1:]:
        frame = bitmap.look_image(file)
        sizes.add((frame.width, frame.height))
    _check_equal(path, sizes)
    return replace(first, frames=len(files), notes=())


def load_clip(path: str | Path, frames: int, background: Colour = bitmap.WHITE) -> list[Image.Image]:
    """`frames` RGB images, evenly spaced from the first frame to the last, of a video, an animation or a folder of images.

    A folder's images go by name, its numbers by value (2 before 10). One frame is the first. Raises SliderError that names the
    path: missing, damaged, shorter than `frames`, frames of different sizes, too large, or PyAV needed and not installed.
    """
    path = Path(path)
    need(frames >= 1, f"A clip needs at least 1 frame, got {frames!r}.", "clip.frames")
    if is_folder(path):
        files = frame_files(path)
        pictures = [bitmap.over(bitmap.load_image(files[i]), background) for i in evenly_spaced(path, len(files), frames)]
    elif _is_video(path):
        _, pictures = load_video(path, frames)
    else:
        pictures = _animation(path, frames, background)
    _check_equal(path, {picture.size for picture in pictures})
    return pictures


def _check_equal(path: Path, sizes: set[tuple[int, int]]) -> None:
    shown = " and ".join(f"{width} x {height}" for width, height in sorted(sizes)[:2])
    need(len(sizes) < 2, f"Frames differ in size: {path} has {shown}. Give all its frames one size.", "clip.sizes")


def by_number(name: str) -> list[tuple[bool, int, str]]:
    """A key to sort names with, the numbers in them by value: 2 before 10."""
    key = []
    for place, part in enumerate(re.split(r"([0-9]+)", name.lower())):
        is_number = place % 2 == 1
        number = int(part) if is_number else 0
        key.append((not is_number, number, part))
    return key


def in_order(paths: Iterable[Path]) -> list[Path]:
    """By name, the numbers in it by value."""
    return sorted(paths, key=lambda path: (by_number(path.name), path.name))


def frame_files(path: Path) -> list[Path]:
    """The images in a folder of frames, in their order."""
    with bitmap.naming(path, "Folder"):
        files = [file for file in path.iterdir() if file.suffix.lower() in bitmap.image_endings() and file.name[0] != "."]
    return in_order(files)


def _animation(path: Path, frames: int, background: Colour) -> list[Image.Image]:
    pictures = []
    with bitmap.opened(path, "Clip") as image:
        wanted = evenly_spaced(path, bitmap.frame_count(path, image), frames)
        decoded = (wanted[-1] + 1) * image.width * image.height  # pixels
        long = f"Clip is too long: {path} has {decoded:.1g} pixels up to its last frame. Cut it, or scale it down."
        need(decoded <= MOST_DECODED, long, "clip.too_long")
        for number in range(wanted[-1] + 1):  # a frame is a change of the one before: none can be left out
            image.seek(number)
            bitmap.check_size(path, "Clip", *image.size)  # a later frame of a GIF may be larger than the header says
            if number in wanted:
                pictures.append(bitmap.over(bitmap.eight_bit(ImageOps.exif_transpose(image)), background))
    return pictures


def evenly_spaced(path: Path, count: int, frames: int) -> list[int]:
    """Numbers of `frames` frames out of `count`, from the first to the last."""
    short = f"{path} has {count} frames, {frames} are needed"
    need(count >= frames, f"Clip is too short: {short}. Use fewer frames or a longer clip.", "clip.too_short")
    return [round(i * (count - 1) / max(1, frames - 1)) for i in range(frames)]


def load_video(path: Path, frames: int) -> tuple[int, list[Image.Image]]:
    """(frames in all, those wanted as RGB)."""
    bitmap.check_file(path, "Video")
    try:
        import av
    except ImportError:
        fix = "PyAV is missing; install it with: pip install av"
        raise SliderError(f"Video cannot be read: {path}. {fix}", "video.no_pyav") from None
    times, keys = _frame_times(av, path)
    wanted = [times[number] for number in evenly_spaced(path, len(times), frames)]
    pictures: list[Image.Image] = []
    reached = None
    with _container(av, path) as (clip, stream):
        for time in wanted:
            before = bisect_right(keys, time)
            key = keys[before - 1] if before else times[0]
            if reached is None or key > reached:
                clip.seek(key, stream=stream)
                decoded = clip.decode(stream)
            frame = next((f for f in decoded if f.pts is not None and f.pts >= time), None)
            if frame is None or frame.is_corrupt:
                number = times.index(time)
                raise SliderError(f"Video is damaged: {path}, near frame {number}. Replace or remove it.", "video.damaged")
            bitmap.check_size(path, "Video", frame.width, frame.height)
            pictures.append(_upright(frame, stream.sample_aspect_ratio))
            reached = frame.pts
    return len(times), pictures


def _frame_times(av: Any, path: Path) -> tuple[list[int], list[int]]:
    """The times of all frames and of the key frames, from the packets alone: nothing is decoded."""
    is_key = {}
    whole = 0
    timed = 0
    with _container(av, path) as (clip, stream):
        for packet in clip.demux(stream):
            if packet.pts is None:
                continue
            timed += 1
            whole += not packet.is_corrupt
            if not packet.is_discard:
                is_key[packet.pts] = packet.is_keyframe
        complete = whole >= max(timed, stream.frames)  # Matroska does not say how many frames there should be
    need(complete, f"Video is cut short: {path} has {whole} whole frames. Replace or remove it.", "video.cut_short")
    return sorted(is_key), sorted(time for time, key in is_key.items() if key)


@contextmanager
def _container(av: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    """The opened file and its first video stream. The demuxer is chosen here and gets a file object: by itself, FFmpeg
    would follow a play list to other files and addresses."""
    limit = {"max_pixels": str(bitmap.MOST_PIXELS)}
    with bitmap.naming(path, "Video"), open_file(path) as file:
        start = file.read(8)
        is_matroska = start[:4] == MATROSKA
        contents = "Its content is neither MP4, QuickTime, WebM nor Matroska"
        need(is_matroska or start[4:] in BOXES, f"No video: {path}. {contents}. Remove it.", "video.format")
        file.seek(0)
        form = "matroska" if is_matroska else "mov"
        with av.open(file, format=form, options=limit) as clip:
            if not clip.streams.video:
                raise SliderError(f"No video: {path} has no pictures in it. Remove it.", "video.no_pictures")
            stream = clip.streams.video[0]
            bitmap.check_size(path, "Video", stream.codec_context.width, stream.codec_context.height)
            stream.codec_context.options = limit
            yield clip, stream


def _upright(frame: Any, pixel_ratio: Any) -> Image.Image:
    """The frame with square pixels and turned as its display matrix says."""
    image = frame.to_image()
    if pixel_ratio and pixel_ratio != 1:
        image = image.resize((max(1, round(image.width * pixel_ratio)), image.height), Image.Resampling.LANCZOS)
    return image.rotate(getattr(frame, "rotation", 0), expand=True)
