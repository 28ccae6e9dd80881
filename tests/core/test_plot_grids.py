"""Grids: every picture where its label says, and no larger than may be."""

import numpy as np
import pytest
import torch
from PIL import Image

from slider_core.data.fitting import to_pil
from slider_core.use.plot_grids import ENTRY_CELLS, LONGEST, ROW_CELLS, WIDEST, Legend, draw_entries, draw_strip, draw_validation

STRENGTHS = (-1.0, 0.0, 2.0)
SIDE = 16
Box = tuple[int, int, int, int]  # left, top, right, bottom


def shades(count: int, height: int = SIDE, width: int = SIDE) -> torch.Tensor:
    """(count, 3, height, width): a colour for each that neither ink nor paper nor another one has."""
    red = torch.arange(count) / 255
    return torch.stack([red, torch.zeros(count), torch.ones(count) * 0.8], 1)[..., None, None].expand(-1, -1, height, width)


def boxes(picture: Image.Image, images: torch.Tensor) -> list[Box]:
    """Where each plain picture stands in the whole."""
    array = np.asarray(picture)
    found = []
    for red in (images[:, 0, 0, 0] * 255).round().tolist():
        y, x = np.nonzero((array == (red, 0, 204)).all(axis=-1))
        found.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
    return found


def side(box: Box) -> int:
    return box[2] - box[0]


@pytest.mark.parametrize(
    ("title", "rows", "cell"), [("", [], None), ("a title", ["seed 5", "a much longer name"], 48), ("a title", [], 48)]
)
def test_a_strip_holds_every_image_in_its_column_and_row(title: str, rows: list[str], cell: int | None) -> None:
    images = shades(6)
    strip = draw_strip(images.reshape(2, 3, 3, SIDE, SIDE), Legend(STRENGTHS, rows, title), cell)
    found = boxes(strip, images)
    lefts, tops = [box[0] for box in found], [box[1] for box in found]
    assert {(side(box), box[3] - box[1]) for box in found} == {(cell or SIDE, cell or SIDE)}
    assert lefts[:3] == lefts[3:]
    assert tops == [tops[0]] * 3 + [tops[3]] * 3
    assert lefts[1] - lefts[0] == lefts[2] - lefts[1] > (cell or SIDE), "a gap between columns"
    assert tops[3] > found[0][3], "and between rows"
    assert found[5][2] <= strip.width
    assert found[5][3] <= strip.height


def test_a_strip_grows_with_its_rows_columns_and_cell() -> None:
    def size(rows: int, columns: int, cell: int) -> tuple[int, int]:
        return draw_strip(torch.zeros(rows, columns, 3, 8, 16), Legend((0.0,) * columns), cell).size

    gap = size(1, 2, 32)[0] - size(1, 1, 32)[0] - 32
    assert gap > 0
    assert size(1, 5, 32)[0] - size(1, 2, 32)[0] == 3 * (32 + gap)
    assert size(4, 1, 32)[1] - size(1, 1, 32)[1] == 3 * (16 + gap)  # 16 x 8 images keep their shape
    assert size(1, 1, 64)[1] - size(1, 1, 32)[1] == 16


def test_labels_and_names_are_drawn() -> None:
    blank = torch.ones(2, 3, 3, SIDE, SIDE)
    bare, named = (np.asarray(draw_strip(blank, Legend(STRENGTHS, [name, name]))) for name in ("", "seed 5"))
    left = named.shape[1] - bare.shape[1]
    assert left > 0
    assert (named[40:, : left + 6].min(axis=(0, 2)) < 100).any()  # ink left of the images
    other = np.asarray(draw_strip(blank, Legend((-1.0, 0.0, 1.0), ["", ""])))
    changed = np.nonzero((other != bare).any(axis=(0, 2)))[0]
    assert changed.min() > 2 * bare.shape[1] // 3 - SIDE  # only the last column's label is another


def test_a_strength_beyond_the_useful_range_is_marked_and_a_line_says_why() -> None:
    blank = torch.ones(1, 3, 3, 64, 64)
    plain, within, beyond = (
        np.asarray(draw_strip(blank, Legend(STRENGTHS, useful=useful))) for useful in (None, (-1.0, 2.0), (-1.0, 1.0))
    )
    assert np.array_equal(plain, within)
    height = plain.shape[0]
    changed = np.nonzero((beyond[:height] != plain).any(axis=(0, 2)))[0]
    assert changed.min() > 2 * plain.shape[1] // 3 - SIDE, "the last label alone is another"
    ink = [int(picture[:26, changed.min() :].min()) for picture in (plain, beyond)]
    assert ink[0] < 60 < 100 < ink[1], "black, and grey"
    assert beyond.shape[0] > height
    assert (beyond[height:] < 200).any(), "words below the grid"


def test_a_row_of_a_second_slider_is_explained_below_too() -> None:
    blank = torch.ones(1, 3, 3, 64, 64)
    both = [
        np.asarray(draw_strip(blank, Legend(STRENGTHS, useful=(-1.0, 2.0), caption=caption))) for caption in ("", "B is too far")
    ]
    height = both[0].shape[0]
    assert np.array_equal(both[1][:height], both[0])
    assert (both[1][height:] < 200).any()


def test_an_entry_beyond_the_useful_range_is_marked_and_a_line_says_why_once() -> None:
    images = torch.ones(3, 3, 64, 64)
    names = [("far", 2.0), ("near", 1.0), ("low", -1.0)]
    plain, beyond = (np.asarray(draw_entries(images, names, shape=(3, 64), useful=useful)) for useful in (None, (-1.0, 1.0)))
    height = plain.shape[0]
    changed = np.nonzero((beyond[:height] != plain).any(axis=(0, 2)))[0]
    assert changed.max() < plain.shape[1] // 3, "the first heading alone is another"
    assert (beyond[height:] < 200).any(), "words below the grid"
    for useful, lines in (((-2.0, 2.0), 0), ((-1.0, 1.0), 1), ((-0.5, 1.0), 1)):
        rows = {"plain": images}
        entries = [(name, strength, image) for (name, strength), image in zip(names, images, strict=True)]
        unmarked, marked = (draw_validation(rows, (-1.0, 0.0, 1.0), entries, span) for span in (None, useful))
        alone = draw_entries(images[:1], names[:1], shape=(1, unmarked.width - 12), useful=(-1.0, 1.0))
        without = draw_entries(images[:1], names[:1], shape=(1, unmarked.width - 12))
        line = alone.height - without.height
        assert alone.width == unmarked.width
        assert marked.height - unmarked.height == lines * line, "rows and entries have one line together"


def test_pictures_are_rounded_and_clamped() -> None:
    values = torch.tensor([-1.0, 0.499 / 255, 0.5, 2.0]).reshape(1, 1, 4).expand(3, 1, 4)
    assert np.asarray(to_pil(values))[0, :, 0].tolist() == [0, 0, 128, 255]


def test_a_library_is_rows_at_all_strengths_and_single_pictures_below() -> None:
    images = shades(9)
    rows = {"plain": images[0:3], "with a hat": images[3:6]}
    entries = [("zero", 0.0, images[6]), ("plus", 1.2, images[7]), ("minus", -1.0, images[8])]
    found = boxes(draw_validation(rows, (-1.0, 0.0, 1.0), entries), images)
    lefts, tops = [box[0] for box in found], [box[1] for box in found]
    assert lefts[0:3] == lefts[3:6] == sorted(set(lefts[0:3])), "columns"
    assert len(set(tops[0:3])) == len(set(tops[3:6])) == len(set(tops[6:9])) == 1, "rows"
    assert found[0][3] <= tops[3] < found[3][3] <= tops[6]
    assert lefts[6:9] == sorted(set(lefts[6:9]))


def test_names_and_strengths_are_written_and_zero_is_one_of_them() -> None:
    images = shades(4)

    def drawn(name: str, strength: float) -> np.ndarray:
        return np.asarray(draw_validation({"row": images[:3]}, (-1.0, 0.0, 1.0), [(name, strength, images[3])]))

    base = drawn("name", 0.0)
    for other in (drawn("naem", 0.0), drawn("name", 1.0)):
        assert other.shape == base.shape
        assert (other != base).any()
    assert draw_validation({}, (1.0,), [("alone", 0.0, images[0])]).width < base.shape[1]
    assert draw_validation({"row": images[:3]}, (-1.0, 0.0, 1.0), []).height < base.shape[0]


@pytest.mark.parametrize(("count", "height", "width"), [(4, 8, 8), (30, 24, 8), (60, 8, 24)])
def test_a_picture_of_many_entries_stays_small(count: int, height: int, width: int) -> None:
    images = shades(count, height, width)
    single = draw_validation({}, (1.0,), [(f"entry {n}", 1.0, image) for n, image in enumerate(images)])
    strip = draw_validation({f"entry {n}": image[None] for n, image in enumerate(images)}, (1.0,), [])
    for picture, cells in ((single, ENTRY_CELLS), (strip, ROW_CELLS)):
        found = boxes(picture, images)
        assert len(set(found)) == count, "every one is there"
        assert cells[0] <= side(found[0]) <= cells[1]
        assert picture.width <= WIDEST
        assert side(found[0]) == cells[0] or picture.height <= 1.5 * WIDEST, "too high only when no picture can be smaller"
    assert count > 4 or side(boxes(single, images)[0]) == ENTRY_CELLS[1]


def test_a_name_of_any_length_costs_no_more_width_than_there_is() -> None:
    image = torch.zeros(1, 3, 8, 8)
    width = draw_entries(image, [("a", 1.0)], shape=(1, 64)).width
    for name in ("x" * 100_000, "two\nlines " * 40, " "):
        assert draw_strip(image[None], Legend((0.0,), [name]), 64).width <= LONGEST + 64 + 40
        assert draw_entries(image, [(name, 1.0)], shape=(1, 64)).width == width
