"""Buckets of aspect ratios, against brute force, counted pixels and the list of SDXL."""

import math
import statistics

import pytest
from core.faults import refused
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from slider_core.data.bucket_sizes import RATIOS, bucket_sizes, common_ratio, cut_share, nearest_size

SHAPES = st.floats(0.02, 50)
GRIDS = st.tuples(st.integers(64, 2048), st.sampled_from([8, 16, 32, 64])).filter(lambda grid: grid[0] >= grid[1])
FINE_GRIDS = GRIDS.filter(lambda grid: grid[0] >= 8 * grid[1])

steady = settings(deadline=None, derandomize=True, database=None, max_examples=30)


def off(value: float, wanted: float) -> float:
    return abs(math.log(value / wanted))


@given(GRIDS)
@steady
def test_buckets_are_multiples_of_the_step_and_none_comes_twice(grid: tuple[int, int]) -> None:
    sizes = bucket_sizes(*grid)
    assert all(side % grid[1] == 0 and side > 0 for size in sizes for side in size)
    assert len(set(sizes)) == len(sizes)
    assert [w / h for w, h in sizes] == sorted(w / h for w, h in sizes)
    assert {(h, w) for w, h in sizes} == set(sizes)
    assert sum(w == h for w, h in sizes) == 1


@given(FINE_GRIDS)
@steady
def test_buckets_have_about_one_area_and_there_is_one_for_every_ratio(grid: tuple[int, int]) -> None:
    resolution, step = grid
    sizes = bucket_sizes(resolution, step)
    # two sides that are each wrong by half a step at most; the short side of 21:9 is resolution * 0.65
    most = 2 * math.log1p(step / (2 * 0.65 * resolution - step))
    assert all(off(w * h, resolution**2) <= most for w, h in sizes)
    for ratio in (*RATIOS, *(1 / r for r in RATIOS)):
        assert min(off(w / h, ratio) for w, h in sizes) <= most


def test_buckets_by_hand() -> None:
    """Those of SDXL are among them, and a small resolution has some too."""
    assert {(1024, 1024), (1152, 896), (896, 1152), (1344, 768), (768, 1344)} <= set(bucket_sizes(1024, 64))
    assert bucket_sizes(64, 8) == ((40, 96), (48, 88), (56, 80), (56, 72), (64, 64), (72, 56), (80, 56), (88, 48), (96, 40))
    assert bucket_sizes(64, 64) == ((64, 64),)


@given(SHAPES, GRIDS)
@steady
def test_the_nearest_size_is_the_bucket_nearest_in_log(ratio: float, grid: tuple[int, int]) -> None:
    w, h = nearest_size(ratio, *grid)
    assert (w, h) in bucket_sizes(*grid)
    assert off(w / h, ratio) <= min(off(a / b, ratio) for a, b in bucket_sizes(*grid)) + 1e-8


@given(SHAPES, FINE_GRIDS)
@steady
def test_an_exact_size_cuts_no_whole_pixel_more_than_any_other_of_that_area(ratio: float, grid: tuple[int, int]) -> None:
    resolution, step = grid
    w, h = nearest_size(ratio, resolution, step, exact=True)
    assert w % step == h % step == 0
    every = [
        (a * step, b * step)
        for b in range(1, 4 * resolution // step)
        for a in {math.floor(b * ratio), math.ceil(b * ratio)} - {0}
        if off(a * b * step**2, resolution**2) <= math.log(1.25) - 1e-9
    ]
    assume(every)
    assert off(w * h, resolution**2) <= math.log(1.25) + 1e-9
    assert cut_share(ratio, (w, h)) * max(w, h) < min(cut_share(ratio, size) * max(size) for size in every) + 1


def test_exact_sizes_by_hand() -> None:
    for ratio, size in ((1.5, (576, 384)), (1.0, (512, 512)), (1 / 3, (320, 960)), (1e-4, (64, 4096)), (1e4, (4096, 64))):
        assert nearest_size(ratio, 512, 64, exact=True) == size


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
@steady
def test_the_cut_share_is_the_pixels_that_a_crop_loses(width: int, height: int, w: int, h: int) -> None:
    kept_w, kept_h = (width, width * h / w) if width * h <= height * w else (height * w / h, height)
    assert cut_share(width / height, (w, h)) == pytest.approx(1 - kept_w * kept_h / (width * height))


@given(st.lists(SHAPES, min_size=1, max_size=50))
@steady
def test_the_common_ratio_is_the_geometric_mean(ratios: list[float]) -> None:
    assert common_ratio(iter(ratios)) == pytest.approx(statistics.geometric_mean(ratios))
    assert common_ratio(1 / r for r in ratios) == pytest.approx(1 / common_ratio(ratios))


def test_wrong_numbers_are_named() -> None:
    cases = [
        (lambda: bucket_sizes(4, 8), "size.resolution", 4),
        (lambda: bucket_sizes(64, 0), "size.step", 0),
        (lambda: nearest_size(0, 64, 8), "size.ratio", 0),
        (lambda: nearest_size(math.nan, 64, 8, exact=True), "size.ratio", "nan"),
        (lambda: common_ratio([]), "size.no_images", ""),
        (lambda: common_ratio([1, -2]), "size.ratio", -2),
    ]
    for wrong, code, value in cases:
        with refused(code, value):
            wrong()
