"""Clips beside each other: a strip that moves, its still sheet, and the film from which a scrubber plays one clip.

A strip is drawn once for every moment, so all clips of it run on one clock. Where a still is needed the sheet has a row for
each of a few moments. A film holds the frames of one clip side by side in one picture: a page that has loaded it can play any
strength from the moment at which another one stood.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from ..canvas import PAPER
from ..config.checks import need
from ..data.fitting import to_pil
from .plot_grids import ROW_CELLS, WIDEST, Legend, draw_strip

FPS = 12.0  # where nobody says how fast a model's frames follow each other
MOST_WEBP = 16383  # pixels of a side, by the format
SHEET = 4  # moments on a sheet
FILM, FILM_SIDE = 48, 320  # frames of a film, and pixels of the longer side of each, at most


@dataclass(frozen=True)
class Clips:
    """`frames`: (R, S, T, 3, H, W) uint8, rows, strengths and moments, `fps` of them a second."""

    frames: torch.Tensor
    fps: float

    def __post_init__(self) -> None:
        need(self.fps > 0, f"A clip needs frames per second, not {self.fps:g}.", "video.fps")

    @property
    def length(self) -> int:
        return self.frames.shape[2]

    def at(self, moment: int) -> torch.Tensor:
        """(R, S, 3, H, W) float32 in [0, 1]."""
        return self.frames[:, :, moment].float() / 255


@dataclass(frozen=True)
class Strip:
    """A drawn strip: `still`, and where it is of clips a picture for each moment, `fps` of them a second."""

    still: Image.Image
    moving: Sequence[Image.Image] = ()
    fps: float = FPS

    def webp(self, quality: int = 85) -> bytes:
        return animated(self.moving, self.fps, quality)


def middle(images: torch.Tensor) -> torch.Tensor:
    """(..., 3, H, W) images as they are, of clips (N, T, 3, H, W) the middle frame."""
    return images[:, images.shape[1] // 2] if images.ndim == 5 else images


def length_of(images: torch.Tensor) -> int:
    """Frames of clips (N, T, 3, H, W); of images 1."""
    return images.shape[1] if images.ndim == 5 else 1


def as_bytes(clips: torch.Tensor) -> torch.Tensor:
    """Clips in [0, 1] as uint8 on the CPU, one after another: long ones are large."""
    return torch.stack([(clip.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8) for clip in clips])


def frames_of(clip_TCHW: torch.Tensor) -> list[Image.Image]:
    """The frames of a clip of bytes."""
    return [to_pil(frame.float() / 255) for frame in clip_TCHW]


def evenly(count: int, most: int) -> list[int]:
    """At most so many places out of `count`, from the first to the last."""
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def animated(frames: Sequence[Image.Image], fps: float, quality: int = 85) -> bytes:
    """An endless animated WebP of equally large frames. SliderError where they are larger than the format allows."""
    size = frames[0].size
    message = f"A frame of {size} pixels; WebP holds {MOST_WEBP} a side. Sweep fewer rows or strengths."
    need(max(size) <= MOST_WEBP, message, "sweep.frame_too_large")
    ends = [round(1000 * (number + 1) / fps) for number in range(len(frames))]  # whole milliseconds that add up
    durations = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    buffer = io.BytesIO()
    first, *others = frames
    first.save(buffer, "WEBP", save_all=True, append_images=others, duration=durations, loop=0, quality=quality, method=2)
    return buffer.getvalue()


def over_time(draw: Callable[[Callable[[torch.Tensor], torch.Tensor]], Image.Image], length: int, fps: float) -> Strip:
    """What `draw` makes of pictures, drawn at every moment of clips. It is given a function from (N, ...) clips or images to the
    (N, 3, H, W) of a moment. `length`: of the clips; 1: images."""
    still = draw(middle)
    if length < 2:
        return Strip(still)
    moving = [draw(lambda clips, moment=moment: clips[:, moment]) for moment in range(length)]  # type: ignore[misc]
    return Strip(still, moving, fps)


def clip_cell(width: int, height: int, rows: int, columns: int) -> int:
    """The width of a picture in a strip that moves, so that the strip is neither too wide nor too high."""
    least, most = ROW_CELLS
    return max(least, min(most, WIDEST // columns, WIDEST * width // (rows * height)))


def moving_strip(clips: Clips, legend: Legend) -> list[Image.Image]:
    """The strip at every moment. Its sides are even, as h264 asks."""
    count_rows, count_columns, _, _, height, width = clips.frames.shape
    cell = clip_cell(width, height, count_rows, count_columns)
    return [_even(draw_strip(clips.at(moment), legend, cell)) for moment in range(clips.length)]


def _even(picture: Image.Image) -> Image.Image:
    """With a line of paper below and at the right where a side is odd."""
    canvas = Image.new("RGB", (picture.width + picture.width % 2, picture.height + picture.height % 2), PAPER)
    canvas.paste(picture)
    return canvas


def sheet(clips: Clips, legend: Legend) -> Image.Image:
    """A still: each row of the strip at a few moments, from the first to the last, with the second at which each is."""
    _, count_columns, _, _, height, width = clips.frames.shape
    moments = evenly(clips.length, SHEET)
    images = torch.stack([clips.at(moment) for moment in moments], dim=1).flatten(0, 1)
    times = [f"{moment / clips.fps:.1f} s" for moment in moments]
    names = [f"{row}  {time}" for row in legend.rows for time in times] if len(legend.rows) > 1 else times
    return draw_strip(images, replace(legend, rows=names), clip_cell(width, height, SHEET, count_columns))


def strip_of(clips: Clips, legend: Legend) -> Strip:
    """The strip of clips, moving and as a sheet. A single row needs no label."""
    return Strip(sheet(clips, legend), moving_strip(clips, legend), clips.fps)


@dataclass(frozen=True)
class Film:
    """How films are laid out: `frames` in each, `columns` of them beside each other, `fps` of them a second."""

    frames: int
    columns: int
    fps: float

    @classmethod
    def of(cls, clips: Clips) -> Film:
        count = min(clips.length, FILM)
        return cls(count, math.ceil(math.sqrt(count)), clips.fps * count / clips.length)

    def picture(self, clip_TCHW: torch.Tensor) -> Image.Image:
        """Frames of one clip, spread evenly over it, row by row."""
        height, width = clip_TCHW.shape[-2:]
        scale = min(1.0, FILM_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        canvas = Image.new("RGB", (self.columns * size[0], math.ceil(self.frames / self.columns) * size[1]))
        for number, frame in enumerate(frames_of(clip_TCHW[evenly(len(clip_TCHW), self.frames)])):
            small = frame.resize(size, Image.Resampling.LANCZOS)
            canvas.paste(small, (number % self.columns * size[0], number // self.columns * size[1]))
        return canvas
