"""Curves: every line where its numbers are, and a sensible picture of none."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from slider_core.canvas import BOTTOM, RIGHT, Line, Panel, draw_lines
from slider_core.train.progress import Reading
from slider_core.use.plot_curves import (
    BINS,
    COLOURS,
    CURVE,
    PANEL,
    draw_calibration,
    draw_curve,
    draw_training,
    label,
    marked,
    means,
    running_mean,
)

SIZE = (PANEL[0], 2 * PANEL[1])
FRAME = 900 - 180  # right of it stands the legend
NAN = math.nan
STRENGTHS = (-1.0, 0.0, 2.0)

pytestmark = pytest.mark.filterwarnings("error")


def pixels(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a line's colour, left of the legend."""
    array = np.asarray(picture).astype(int)[:, :FRAME]
    return np.nonzero(np.abs(array - np.array(colour)).sum(axis=-1) < 30)


def test_a_label_carries_its_sign() -> None:
    labels = {0.0: "0", 1.0: "+1", -0.5: "-0.5", 2.25: "+2.25"}
    assert {strength: label(strength) for strength in labels} == labels
    assert label(-0.0) == "0"


def test_means_keep_the_sum_and_the_last_step() -> None:
    for count in (0, 1, 7, BINS, BINS + 1, 3 * BINS + 5):
        values = np.random.default_rng(0).random(count).tolist()
        points = means(values)
        assert len(points) <= BINS
        widths = np.diff([0, *(step for step, _ in points)])
        assert sum(widths * [mean for _, mean in points]) == pytest.approx(sum(values))
        assert not points or points[-1][0] == count


def test_a_running_mean_is_that_of_the_last_values() -> None:
    for count, width in ((1, 1), (9, 4), (5 * BINS, 50)):
        values = np.random.default_rng(1).random(count)
        points = running_mean(values.tolist(), width)
        assert len(points) <= BINS
        assert points[-1][0] == count
        for step, mean in points:
            assert mean == pytest.approx(values[step - width : step].mean())


def test_gains_and_loss_lie_where_their_numbers_are() -> None:
    readings = [Reading(20, 0.1, 0.0), Reading(100, 0.3, -0.1)]
    picture = draw_training([1.0] * 50 + [0.5] * 50, readings, "smile")
    assert picture.size == SIZE
    (plus_y, plus_x), (minus_y, minus_x) = pixels(picture, COLOURS[0]), pixels(picture, COLOURS[1])
    assert plus_y.max() < PANEL[1], "gains stand above"
    assert abs(int(plus_x.min()) - int(minus_x.min())) < 3
    assert abs(int(plus_x.max()) - int(minus_x.max())) < 3
    per_percent = (plus_y.max() - plus_y.min()) / 20  # +10 % to +30 %
    assert (minus_y.max() - plus_y.min()) / per_percent == pytest.approx(40, abs=2)  # down to -10 %
    loss_y, loss_x = pixels(picture, COLOURS[2])
    assert loss_y.min() > PANEL[1], "the loss stands below"
    assert loss_y[loss_x.argmax()] > loss_y[loss_x.argmin()], "and falls"


def test_a_gain_far_below_is_cut_and_one_that_is_no_number_left_out() -> None:
    deep, cut = (draw_training([1.0], [Reading(1, 0.5, 0.5), Reading(2, 0.5, low)], "x") for low in (-40.0, -1.0))
    assert deep.tobytes() == cut.tobytes()
    with_nan = draw_training([1.0], [Reading(20, NAN, 0.1), Reading(40, NAN, 0.2)], "x")
    assert pixels(with_nan, COLOURS[0])[0].size == 0
    assert pixels(with_nan, COLOURS[1])[0].size > 0


def test_every_training_can_be_drawn() -> None:
    long = [Reading(n, 0.1, 0.1) for n in range(1, 5000, 7)]
    for losses, readings in (([], []), ([0.0], []), ([0.3], [Reading(1, 0.0, 0.0)]), ([0.2] * 5000, long)):
        picture = draw_training(losses, readings, "smile")
        assert picture.size == SIZE
        assert np.asarray(picture).std() > 1
        lines = sum(pixels(picture, colour)[0].size for colour in COLOURS[:3])
        assert bool(lines) == (bool(readings) or len(losses) > 8)


def test_a_curve_spans_its_strengths_and_leaves_nan_out() -> None:
    picture = draw_curve(STRENGTHS, {"mouth": [-1.0, 0.0, 1.0], "leak": [NAN, 0.5, 0.7]}, "title", "units")
    (_, whole), (_, late) = pixels(picture, COLOURS[0]), pixels(picture, COLOURS[1])
    assert abs(int(whole.max()) - int(late.max())) < 3
    third = (whole.max() - whole.min()) / 3  # strengths -1, 0, 2: the first known point of the second line lies a third on
    assert late.min() - whole.min() == pytest.approx(third, abs=4)


def test_a_curve_marks_strengths_beyond_the_useful_range_and_its_axis_says_why() -> None:
    lines = {"mouth": [-1.0, 0.0, 1.0]}
    plain, within, beyond = (
        np.asarray(draw_curve(STRENGTHS, lines, "t", "u", useful)) for useful in (None, (-1, 2), (-1.0, 1.0))
    )
    assert np.array_equal(plain, within)
    y, x = np.nonzero((plain != beyond).any(axis=-1))
    assert y.min() > CURVE[1] - BOTTOM, "below the frame"
    ticks = x[y < CURVE[1] - BOTTOM + 28]
    assert ticks.min() > CURVE[0] - RIGHT - 40, "the last tick alone"
    assert y.max() > CURVE[1] - 28, "and the words"
    assert [marked(strength, (-1.0, 1.0)) for strength in STRENGTHS] == ["-1", "0", "+2 *"]


def test_of_strengths_that_lie_close_only_those_are_written_that_do_not_touch() -> None:
    line = Line("mouth", [(-2.0, 0.0), (2.0, 1.0)], COLOURS[0])

    def picture(*strengths: float) -> bytes:
        ticks = {strength: label(strength) for strength in strengths}
        return draw_lines(Panel("t", "strength", "u", ticks, (-2.0, 2.0)), [line], CURVE).tobytes()

    assert picture(-2.0, -1.95, -0.01, 0.0, 0.01, 1.0, 2.0) == picture(-2.0, 0.0, 1.0, 2.0), "0 and the ends are always there"
    assert picture(-2.0, -1.0, 0.0, 2.0) != picture(-2.0, 0.0, 2.0)


def test_a_curve_bears_every_measurement() -> None:
    for values in ([NAN] * 3, [0.0] * 3, [1e-9, 0.0, -1e-9], [NAN, 1.0, NAN]):
        assert draw_curve(STRENGTHS, dict.fromkeys("abc", values), "title", "units").size == CURVE
    assert draw_curve((1.0,), {"mouth": [0.5]}, "title", "units").size == CURVE


def test_a_calibration_has_both_sides_on_one_axis_in_units_of_the_slider() -> None:
    plus = SimpleNamespace(curve=[(0.5, 0.2), (1.0, 0.4), (2.0, -3.0)])  # the last one would hide all others
    minus = SimpleNamespace(curve=[(0.5, 0.1)])
    picture = draw_calibration(SimpleNamespace(plus=plus, minus=minus, unit=0.5), "title")
    line = {"explained": [10.0, 0.0, 20.0, 40.0]}
    assert picture.tobytes() == draw_curve((-1.0, 0.0, 1.0, 2.0), line, "title", "% of the error").tobytes()
    assert draw_calibration(SimpleNamespace(plus=None, minus=None, unit=1.0), "title").size == CURVE
