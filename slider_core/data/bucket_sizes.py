"""Aspect-ratio buckets: sizes of about one area, in multiples of a step, so that images of many shapes train uncut or nearly so.

A side of w steps where the exact shape wants w0 is off by |log(w / w0)|. The best size has the smaller such error on its worse
side; among equals, the other side is the one that brings the area nearest to resolution^2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

from ..config.checks import need

RATIOS = (1.0, 5 / 4, 4 / 3, 3 / 2, 16 / 9, 2.0, 21 / 9)  # and their inverses
ABOUT = 1.25  # "about that area": up to this factor larger or smaller


def _check(resolution: int, step: int) -> None:
    need(step >= 1, f"The step of image sizes must be 1 or more, got {step!r}.", "size.step")
    small = f"Resolution {resolution!r} is smaller than the model's step of {step} pixels. Choose {step} or more."
    need(resolution >= step, small, "size.resolution")


def _check_ratio(ratio: float) -> float:
    sound = math.isfinite(ratio) and ratio > 0
    need(sound, f"An aspect ratio (width / height) must be a positive number, got {ratio!r}.", "size.ratio")
    return ratio


def _off(value: float, wanted: float) -> float:
    return abs(math.log(value / wanted))


def _steps(ratio: float, side: float) -> tuple[int, int]:
    """(width, height) in steps for `ratio` >= 1 and an area of side^2 square steps."""
    wide, high = side * math.sqrt(ratio), side / math.sqrt(ratio)
    heights = {max(1, math.floor(high)), max(1, math.ceil(high))}
    widths = range(max(1, math.floor(min(wide / 2, side * side / max(heights)))), math.ceil(wide) * 2 + 1)
    sizes = [(w, h) for h in heights for w in widths if w >= h]
    return min(sizes, key=lambda s: (round(max(_off(s[0], wide), _off(s[1], high)), 9), _off(s[0] * s[1], side * side)))


def _in_pixels(steps: tuple[int, int], ratio: float, step: int) -> tuple[int, int]:
    """(width, height) in pixels of a size in steps, its long side first; turned for a tall image."""
    long, short = steps
    return (long * step, short * step) if ratio >= 1 else (short * step, long * step)


def _size(ratio: float, resolution: int, step: int) -> tuple[int, int]:
    return _in_pixels(_steps(max(ratio, 1 / ratio), resolution / step), ratio, step)


@lru_cache(maxsize=64)
def bucket_sizes(resolution: int, step: int) -> tuple[tuple[int, int], ...]:
    """(width, height) in pixels, multiples of `step`, area about resolution^2: 1:1, 5:4, 4:3, 3:2, 16:9, 2:1, 21:9 and their
    inverses, tall ones first, none twice. Raises SliderError when `resolution` is smaller than `step`."""
    _check(resolution, step)
    sizes = set()
    for ratio in RATIOS:
        sizes.add(_size(ratio, resolution, step))
        sizes.add(_size(1 / ratio, resolution, step))
    return tuple(sorted(sizes, key=lambda size: size[0] / size[1]))


def nearest_size(ratio: float, resolution: int, step: int, exact: bool = False) -> tuple[int, int]:
    """(width, height) in pixels for an image of `ratio` (width / height): the bucket nearest in log.

    `exact` (for Crop.NONE) leaves the list alone: of all multiples of `step` within a quarter of the area, the size that
    cuts the fewest whole pixels, then the one nearest in area. Raises SliderError for a ratio that is no positive number.
    """
    _check(resolution, step)
    _check_ratio(ratio)
    if exact:
        return _exact_size(ratio, resolution, step)
    area = resolution * resolution
    return min(bucket_sizes(resolution, step), key=lambda s: (round(_off(s[0] / s[1], ratio), 9), _off(s[0] * s[1], area)))


def _exact_size(ratio: float, resolution: int, step: int) -> tuple[int, int]:
    long_ratio = max(ratio, 1 / ratio)
    area = (resolution / step) * (resolution / step)
    high = resolution / step / math.sqrt(long_ratio)
    sizes = []
    for h in range(max(1, math.floor(high / ABOUT)), math.ceil(high * ABOUT) + 1):
        for w in (math.floor(h * long_ratio), math.ceil(h * long_ratio)):
            if w >= h and _off(w * h, area) <= math.log(ABOUT):
                sizes.append((w, h))
    if not sizes:  # so long an image, or so few steps, that no size of this shape has about this area
        return _size(ratio, resolution, step)

    def cut(size: tuple[int, int]) -> int:
        return math.floor(cut_share(long_ratio, size) * size[0] * step)

    return _in_pixels(min(sizes, key=lambda size: (cut(size), _off(size[0] * size[1], area))), ratio, step)


def common_ratio(ratios: Iterable[float]) -> float:
    """The geometric mean: as far in log from the wide images as from the tall ones. Raises SliderError for none."""
    logs = [math.log(_check_ratio(ratio)) for ratio in ratios]
    need(bool(logs), "There are no images to take a common aspect ratio of. Add images.", "size.no_images")
    return math.exp(math.fsum(logs) / len(logs))


def cut_share(ratio: float, size: tuple[int, int]) -> float:
    """The share of an image's area, 0 up to 1, that is lost when it covers `size` (width, height) and is cropped to it."""
    target = size[0] / size[1]
    return 1 - min(ratio, target) / max(ratio, target)
