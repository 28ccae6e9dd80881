"""A training as a picture: every line where its numbers are, and a sensible picture of none."""

import math

import numpy as np
import pytest
from PIL import Image

from slider_core.train.progress import Reading
from slider_core.use.plot_curves import BINS, COLOURS, PANEL, draw_training, means, running_mean

SIZE = (PANEL[0], 2 * PANEL[1])
FRAME = 900 - 180  # right of it stands the legend


def reading(step: int, plus: float, minus: float) -> Reading:
    return Reading(step, plus, minus)


def pixels(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a line's colour, left of the legend."""
    array = np.asarray(picture).astype(int)[:, :FRAME]
    return np.nonzero(np.abs(array - np.array(colour)).sum(axis=-1) < 30)


@pytest.mark.parametrize("count", [0, 1, 7, BINS, BINS + 1, 3 * BINS + 5])
def test_means_keep_the_sum_and_the_last_step(count: int) -> None:
    values = np.random.default_rng(0).random(count).tolist()
    points = means(values)
    assert len(points) <= BINS
    widths = np.diff([0, *(step for step, _ in points)])
    assert sum(widths * [mean for _, mean in points]) == pytest.approx(sum(values))
    assert not points or points[-1][0] == count


@pytest.mark.parametrize(("count", "width"), [(1, 1), (9, 4), (5 * BINS, 50)])
def test_a_running_mean_is_that_of_the_last_values(count: int, width: int) -> None:
    values = np.random.default_rng(1).random(count)
    points = running_mean(values.tolist(), width)
    assert len(points) <= BINS
    assert points[-1][0] == count
    for step, mean in points:
        assert mean == pytest.approx(values[step - width : step].mean())


def test_gains_and_loss_lie_where_their_numbers_are() -> None:
    losses = [1.0] * 50 + [0.5] * 50
    readings = [reading(20, 0.1, 0.0), reading(100, 0.3, -0.1)]
    picture = draw_training(losses, readings, "smile")
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
    deep, cut = (draw_training([1.0], [reading(1, 0.5, 0.5), reading(2, 0.5, low)], "x") for low in (-40.0, -1.0))
    assert deep.tobytes() == cut.tobytes()
    holed = draw_training([1.0], [reading(20, math.nan, 0.1), reading(40, math.nan, 0.2)], "x")
    assert pixels(holed, COLOURS[0])[0].size == 0
    assert pixels(holed, COLOURS[1])[0].size > 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("losses", "readings"),
    [([], []), ([0.0], []), ([0.3], [reading(1, 0.0, 0.0)]), ([0.2] * 5000, [reading(n, 0.1, 0.1) for n in range(1, 5000, 7)])],
    ids=["nothing", "one loss of zero", "one step", "a long one"],
)
def test_every_training_can_be_drawn(losses: list[float], readings: list[Reading]) -> None:
    picture = draw_training(losses, readings, "smile")
    assert picture.size == SIZE
    assert np.asarray(picture).std() > 1
    lines = sum(pixels(picture, colour)[0].size for colour in COLOURS[:3])
    assert bool(lines) == (bool(readings) or len(losses) > 8)
