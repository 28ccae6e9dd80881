"""The figures of a sweep, by hand-made latents whose answer is known; and the calls that a sweep is split into."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from slider_core.backend import in_parts
from slider_core.config.sweep import SweepSpec
from slider_core.use.plot_grids import ENTRY_CELLS, LONGEST, ROW_CELLS, WIDEST, draw_entries, draw_strip, draw_validation
from slider_core.use.sweep import Row, SweepResult, effect_curve, figures, how_it_ran, rows_of, sweep_rows, table

STRENGTHS = (2.0, 0.0, -1.0)  # not in order
WAY = torch.tensor([3.0, 4.0])  # length 5
BASE = torch.tensor([0.0, 10.0])


def swept(effect_under: dict[float | None, float], seeds: Sequence[int] = (0, 1)) -> SweepResult:
    """Latents BASE + strength * effect * WAY, the effect as the row's second slider has it."""
    rows = rows_of(seeds, others=tuple(effect_under))
    latents = [[BASE + s * effect_under[row.other] * WAY for s in STRENGTHS] for row in rows]
    images = torch.tensor([[0.5 + s / 10 for s in STRENGTHS]] * len(rows))[..., None, None, None].expand(-1, -1, 3, 2, 2)
    return SweepResult(SweepSpec(STRENGTHS, tuple(seeds)), images, torch.stack([torch.stack(row) for row in latents]), rows)


def test_distances_start_at_strength_zero_and_along_counts_lengths_of_the_way() -> None:
    result = swept({None: 1.0})
    assert result.distance() == pytest.approx([0.2, 0.0, 0.1])
    assert result.latent_distance() == pytest.approx([1.0, 0.0, 0.5])  # |2 * WAY| / |BASE| = 10 / 10
    assert result.along(WAY) == pytest.approx([2.0, 0.0, -1.0])
    across = torch.tensor([4.0, -3.0])
    assert result.along(across) == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)


def test_a_sweep_without_latents_has_the_figure_of_its_pixels_alone() -> None:
    result = SweepResult(SweepSpec(STRENGTHS, (0,)), swept({None: 1.0}).images[:1])
    assert list(figures(result, WAY)) == ["pixels"]
    assert result.under_the_other() is None


def test_what_a_second_slider_leaves_of_the_effect() -> None:
    found = swept({-1.0: 0.5, 0.0: 1.0, 1.0: -0.25}).under_the_other()
    assert found == pytest.approx({-1.0: 0.5, 0.0: 1.0, 1.0: -0.25})
    assert swept({None: 1.0}).under_the_other() is None


def test_the_table_is_in_order_of_strength_and_names_what_is_left() -> None:
    result = swept({0.0: 1.0, 2.0: 0.5})
    lines = table(result, figures(result, WAY))
    assert lines[0].split() == ["strength", "pixels", "latent", "along", "the", "pairs"]
    assert [line.split()[0] for line in lines[1:4]] == ["-1", "0", "+2"]
    assert lines[-1] == "With B at +2, 50% of the effect is left."
    assert effect_curve(result, figures(result, WAY), "title").size == (900, 520)


def test_rows_say_what_tells_them_apart() -> None:
    rows = rows_of((5, 6), ("plain", "other"), (-1.0, 1.0))
    assert len(rows) == 8
    assert (rows[0], rows[-1]) == (Row(5, "plain", -1.0), Row(6, "other", 1.0))
    assert rows[0].name() == "plain, B -1, seed 5"
    assert rows[0].name(seeds=1) == "plain, B -1"
    assert Row(7).name(1) == "seed 7"


def test_every_row_is_asked_for_with_all_strengths() -> None:
    asked = []

    def sample(strengths: Sequence[float], row: Row) -> tuple[torch.Tensor, None]:
        asked.append((tuple(strengths), row.prompt))
        return torch.zeros(len(strengths), 3, 2, 2), None

    result = sweep_rows(SweepSpec(STRENGTHS, (0,)), rows_of((0,), ("a", "b")), sample)
    assert asked == [(STRENGTHS, "a"), (STRENGTHS, "b")]
    assert (result.images.shape[:2], result.latents, result.names()) == ((2, 3), None, ["a", "b"])


def parts(count: int, most: int, room: int) -> list[int]:
    """Sizes of the calls for `count` items when no call may hold more than `room`; checks that each item comes once, in order."""
    done: list[float] = []

    def run(group: Sequence[float]) -> bool:
        if len(group) > room:
            raise MemoryError
        done.extend(group)
        return True

    found = in_parts(range(count), most, run, lambda fault: isinstance(fault, MemoryError))
    assert done == list(range(count))
    return [size for size, _ in found]


def test_a_part_that_runs_out_of_memory_is_halved_and_those_after_it() -> None:
    assert parts(5, 5, 9) == [5]
    assert parts(5, 2, 9) == [2, 2, 1]
    assert parts(7, 7, 3) == [3, 3, 1]
    assert parts(8, 8, 1) == [1] * 8
    assert parts(1, 0, 1) == [1]


def test_one_item_that_is_too_large_and_any_other_fault_are_errors() -> None:
    with pytest.raises(MemoryError):
        parts(4, 4, 0)
    with pytest.raises(ZeroDivisionError):
        in_parts([1, 2], 2, lambda group: 1 // (len(group) - 2), lambda fault: isinstance(fault, MemoryError))


def test_how_it_ran_in_words() -> None:
    assert how_it_ran([[5], [5]], "") == "2 rows, each one sampling call for all strengths."
    assert how_it_ran([[5]], "") == "1 row, each one sampling call for all strengths."
    assert how_it_ran([[2, 1]], "by the memory") == "1 row: 1 in 2 calls (2 + 1 strengths): by the memory."


def test_every_entry_of_a_library_stands_in_its_grid() -> None:
    colours = torch.eye(3)[[0, 1, 2, 0, 1]] * torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5])[:, None]
    grid = draw_entries(colours[..., None, None].expand(-1, -1, 8, 8), [("a very long name " * 9, 1.0)] * 5, "title", 64)
    seen = {pixel for _, pixel in grid.getcolors(1 << 20)}
    assert {tuple(round(c * 255) for c in colour.tolist()) for colour in colours} <= seen


def shades(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    """(count, 3, height, width): a colour for each that neither ink nor paper nor another one has."""
    red = torch.arange(count) / 255
    return torch.stack([red, torch.zeros(count), torch.ones(count) * 0.8], 1)[..., None, None].expand(-1, -1, height, width)


def places(picture: Image.Image, images: torch.Tensor) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of each plain picture in the whole."""
    array, found = np.asarray(picture), []
    ys, xs = np.nonzero((array[..., 1] == 0) & (array[..., 2] == 204))
    order = np.argsort(array[ys, xs, 0], kind="stable")
    ys, xs, reds = ys[order], xs[order], array[ys, xs, 0][order]
    for red in (images[:, 0, 0, 0] * 255).round().tolist():
        mine = slice(np.searchsorted(reds, red), np.searchsorted(reds, red, "right"))
        found.append((xs[mine].min(), ys[mine].min(), xs[mine].max() + 1, ys[mine].max() + 1))
    return found


def test_a_library_is_rows_at_all_strengths_and_single_pictures_below() -> None:
    images = shades(9)
    rows = {"plain": images[0:3], "with a hat": images[3:6]}
    entries = [("zero", 0.0, images[6]), ("plus", 1.2, images[7]), ("minus", -1.0, images[8])]
    found = places(draw_validation(rows, (-1.0, 0.0, 1.0), entries), images)
    lefts, tops = [place[0] for place in found], [place[1] for place in found]
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


@pytest.mark.parametrize(("count", "height", "width"), [(1, 8, 8), (4, 8, 8), (30, 24, 8), (30, 8, 24), (256, 8, 8)])
def test_a_picture_of_many_entries_stays_small(count: int, height: int, width: int) -> None:
    images = shades(count, height, width)
    single = draw_validation({}, (1.0,), [(f"entry {n}", 1.0, image) for n, image in enumerate(images)])
    strip = draw_validation({f"entry {n}": image[None] for n, image in enumerate(images)}, (1.0,), [])
    for picture, cells in ((single, ENTRY_CELLS), (strip, ROW_CELLS)):
        boxes = places(picture, images)
        assert len(set(boxes)) == count, "every one is there"
        side = boxes[0][2] - boxes[0][0]
        assert cells[0] <= side <= cells[1]
        assert picture.width <= WIDEST
        assert side == cells[0] or picture.height <= 1.5 * WIDEST, "too high only when no picture can be smaller"
    assert count > 4 or places(single, images)[0][2] - places(single, images)[0][0] == ENTRY_CELLS[1]


@pytest.mark.parametrize("name", ["x" * 100_000, "two\nlines " * 40, " "])
def test_a_name_of_any_length_costs_no_more_room_than_there_is(name: str) -> None:
    strip = draw_strip(torch.zeros(1, 1, 3, 8, 8), (0.0,), [name], cell=64)
    assert strip.width <= LONGEST + 64 + 40
    entries = draw_entries(torch.zeros(1, 3, 8, 8), [(name, 1.0)], shape=(1, 64))
    assert entries.width == draw_entries(torch.zeros(1, 3, 8, 8), [("a", 1.0)], shape=(1, 64)).width
