"""A strip shows every image where its label says; a curve bears what a measurement can give."""

import numpy as np
import pytest
import torch
from PIL import Image

from slider_core.config.sweep import SweepSpec
from slider_core.use.plot_curves import draw_curve, label
from slider_core.use.plot_grids import draw_strip, to_pil
from slider_core.use.prompt_library import PromptEntry, parse_prompts
from slider_core.use.sweep import SweepResult, sweep, sweep_library

STRENGTHS, SEEDS, SIDE, CELL = (-1.0, 0.0, 2.0), (5, 6), 16, 48
COLOURS = torch.tensor([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[255, 255, 0], [255, 0, 255], [0, 255, 255]]]) / 255
CURVE_SIZE = (900, 520)
LINE = ("mouth", "leak", "third")


def grid() -> torch.Tensor:
    """(2, 3, 3, SIDE, SIDE): a flat colour of its own in every cell."""
    return COLOURS[..., None, None].expand(2, 3, 3, SIDE, SIDE)


def boxes(strip: Image.Image) -> list[list[tuple[int, int, int, int]]]:
    """Where each colour of `grid` stands: left, top, right, bottom."""
    array, found = np.asarray(strip), []
    for row in (COLOURS * 255).int().tolist():
        found.append([])
        for colour in row:
            y, x = np.nonzero((array == colour).all(axis=-1))
            found[-1].append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    return found


@pytest.mark.parametrize(
    ("strength", "text"),
    [(0.0, "0"), (-0.0, "0"), (1.0, "+1"), (-0.5, "-0.5"), (2.25, "+2.25"), (-2.0, "-2")],
)
def test_a_label_carries_its_sign(strength: float, text: str) -> None:
    assert label(strength) == text


@pytest.mark.parametrize("title", ["", "a title"])
@pytest.mark.parametrize("rows", [[], ["seed 5", "a much longer name"]])
@pytest.mark.parametrize("cell", [None, CELL])
def test_a_strip_holds_every_image_in_its_column_and_row(title: str, rows: list[str], cell: int | None) -> None:
    strip = draw_strip(grid(), STRENGTHS, rows, title, cell)
    side, found = cell or SIDE, boxes(strip)
    for row in range(2):
        for column in range(3):
            left, top, right, bottom = found[row][column]
            assert (right - left, bottom - top) == (side, side)
            assert left - found[row][0][0] == column * (found[0][1][0] - found[0][0][0])
            assert top == found[row][0][1]
    assert found[0][1][0] > found[0][0][2]  # a gap between columns, and between rows
    assert found[1][0][1] > found[0][0][3]
    assert found[1][2][2] <= strip.width
    assert found[1][2][3] <= strip.height


def test_a_strip_grows_with_its_rows_columns_and_cell() -> None:
    def size(rows: int, columns: int, cell: int) -> tuple[int, int]:
        return draw_strip(torch.zeros(rows, columns, 3, 8, 16), (0.0,) * columns, [], cell=cell).size

    gap = size(1, 2, 32)[0] - size(1, 1, 32)[0] - 32
    assert gap > 0
    assert size(1, 5, 32)[0] - size(1, 2, 32)[0] == 3 * (32 + gap)
    assert size(4, 1, 32)[1] - size(1, 1, 32)[1] == 3 * (16 + gap)  # 16 x 8 images keep their shape
    assert size(1, 1, 64)[1] - size(1, 1, 32)[1] == 16


def test_labels_and_names_are_drawn() -> None:
    blank = torch.ones(2, 3, 3, SIDE, SIDE)
    bare, named = (np.asarray(draw_strip(blank, STRENGTHS, [n, n])) for n in ("", "seed 5"))
    left = named.shape[1] - bare.shape[1]
    assert left > 0
    assert (named[40:, : left + 6].min(axis=(0, 2)) < 100).any()  # ink left of the images
    other = np.asarray(draw_strip(blank, (-1.0, 0.0, 1.0), ["", ""]))
    assert other.shape == bare.shape
    changed = np.nonzero((other != bare).any(axis=(0, 2)))[0]
    assert changed.min() > 2 * bare.shape[1] // 3 - SIDE  # only the last column's label is another


def test_pictures_are_rounded_and_clamped() -> None:
    values = torch.tensor([-1.0, 0.499 / 255, 0.5, 2.0]).reshape(1, 1, 4).expand(3, 1, 4)
    assert np.asarray(to_pil(values))[0, :, 0].tolist() == [0, 0, 128, 255]


def test_a_sweep_is_one_call_a_seed_with_all_strengths() -> None:
    calls = []

    def sample(strengths: tuple[float, ...], seed: int) -> torch.Tensor:
        calls.append((strengths, seed))
        return torch.tensor(strengths).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4) / 10 + seed / 10

    result = sweep(SweepSpec(STRENGTHS, SEEDS), sample)
    assert calls == [(STRENGTHS, 5), (STRENGTHS, 6)]
    assert result.images.shape == (2, 3, 3, 4, 4)
    assert result.images[1, 2, 0, 0, 0] == pytest.approx(0.8)
    assert result.names() == ["seed 5", "seed 6"]


def test_a_library_is_one_call_a_prompt_and_each_entry_gets_its_own_pictures() -> None:
    library = parse_prompts(
        """{"plain": "a", "other": "b", "zero": {"prompt": "a", "adapter_strength": 0},
            "minus": {"prompt": "b", "adapter_strength": -0.5}}"""
    )
    calls = []

    def sample(entry: PromptEntry, strengths: list[float]) -> torch.Tensor:
        calls.append((entry.name, strengths))
        return torch.tensor(strengths).reshape(-1, 1, 1, 1).expand(-1, 3, 4, 4) / 10 + {"a": 0.3, "b": 0.5}[entry.prompt]

    found = sweep_library(library, (1.0, 2.0), sample)
    assert calls == [("plain", [1.0, 2.0, 0.0]), ("other", [1.0, 2.0, -0.5])]
    assert [images[:, 0, 0, 0].tolist() for images in found] == [
        pytest.approx(values) for values in ([0.4, 0.5], [0.6, 0.7], [0.3], [0.45])
    ]


def test_images_out_of_range_are_clamped() -> None:
    images = sweep(SweepSpec((1.0,), (0,)), lambda _strengths, _seed: torch.tensor([-3.0, 0.5, 7.0]).reshape(1, 3, 1, 1)).images
    assert images.flatten().tolist() == [0.0, 0.5, 1.0]


def test_distance_is_the_mean_change_from_strength_zero() -> None:
    images = torch.tensor([[0.5, 0.3, 0.9], [0.1, 0.2, 0.4]])[:, :, None, None, None].expand(2, 3, 3, 4, 4)
    assert SweepResult(SweepSpec(STRENGTHS, SEEDS), images).distance() == pytest.approx([0.15, 0.0, 0.4])


def test_distance_without_strength_zero_starts_from_the_nearest() -> None:
    images = torch.tensor([[0.5, 0.3, 0.9]])[:, :, None, None, None].expand(1, 3, 3, 4, 4)
    assert SweepResult(SweepSpec((-2.0, -1.0, 3.0), (0,)), images).distance()[1] == 0


def colour_box(picture: Image.Image, place: int) -> tuple[int, int]:
    """Leftmost and rightmost pixel of the n-th line's colour left of the legend; its hue is the only strong one there."""
    array = np.asarray(picture).astype(int)[:, : 900 - 180]
    one = (np.abs(array - np.array([(198, 60, 52), (52, 110, 190)][place])).sum(axis=-1) < 30).any(axis=0)
    return int(np.nonzero(one)[0].min()), int(np.nonzero(one)[0].max())


def test_a_curve_spans_its_strengths_and_leaves_nan_out() -> None:
    whole, holed = [-1.0, 0.0, 1.0], [float("nan"), 0.5, 0.7]
    picture = draw_curve(STRENGTHS, {"mouth": whole, "leak": holed}, "title", "units")
    assert picture.size == CURVE_SIZE
    (left, right), (late, end) = colour_box(picture, 0), colour_box(picture, 1)
    assert abs(right - end) < 3
    third = (right - left) / 3  # strengths -1, 0, 2: the first known point of the second line lies a third on
    assert late - left == pytest.approx(third, abs=4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [[float("nan")] * 3, [0.0] * 3, [1e-9, 0.0, -1e-9], [float("nan"), 1.0, float("nan")]],
    ids=["all unknown", "flat", "very small", "one point"],
)
def test_a_curve_bears_every_measurement(values: list[float]) -> None:
    assert draw_curve(STRENGTHS, dict.fromkeys(LINE, values), "title", "units").size == CURVE_SIZE


def test_a_curve_of_one_strength_is_drawn() -> None:
    assert draw_curve((1.0,), {"mouth": [0.5]}, "title", "units").size == CURVE_SIZE
