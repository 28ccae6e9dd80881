"""When a slider acts: the text of a curve, its lines, and what is refused. Oracle: numpy's interpolation."""

import numpy as np
import pytest

from slider_core.config.checks import SliderError
from slider_core.use.schedule import Window, parse_points

TEXT = "0: 0.5, 0.25: -1\n0.5: 2, 1: 0,"
POINTS = ((0.0, 0.5), (0.25, -1.0), (0.5, 2.0), (1.0, 0.0))


def test_a_curve_is_read_from_text() -> None:
    assert parse_points(TEXT) == POINTS
    assert parse_points(" \n") == ()


def test_a_curve_is_lines_between_its_points_and_level_outside() -> None:
    window = Window(points=POINTS)
    percents = np.linspace(0, 1, 101)
    wanted = np.interp(percents, *zip(*POINTS, strict=True))
    assert [window.share(p) for p in percents] == pytest.approx(wanted)
    inner = Window(points=((0.2, 3.0), (0.6, 1.0)))
    assert (inner.share(0.0), inner.share(0.2), inner.share(1.0)) == (3.0, 3.0, 1.0)
    assert Window(points=((0.4, 0.5),)).share(0.9) == 0.5
    assert Window().share(0.3) == 1.0


@pytest.mark.parametrize(
    ("window", "changes"),
    [
        (Window(), False),
        (Window(points=((0.0, 1.0), (1.0, 1.0))), False),
        (Window(start=0.1), True),
        (Window(end=0.9), True),
        (Window(points=((0.5, 0.5),)), True),
    ],
)
def test_what_changes_over_the_sampling(window: Window, changes: bool) -> None:
    assert window.changes is changes


@pytest.mark.parametrize("text", ["0.5", "a: 1", "0.5: b", "0: 1: 2", "0: nan", "inf: 1", "0.5 1", ":"])
def test_a_point_that_is_none_is_named(text: str) -> None:
    with pytest.raises(SliderError, match="is no point; write it as"):
        parse_points(f"0: 1, {text}")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"start": 0.5, "end": 0.5}, "does not lie before end_percent 0.5"),
        ({"start": 0.8, "end": 0.2}, "the slider would never act"),
        ({"start": -0.1}, "must lie between 0 and 1"),
        ({"end": float("nan")}, "must lie between 0 and 1"),
        ({"points": ((0.5, 1.0), (0.5, 0.0))}, "0.5 comes after 0.5"),
        ({"points": ((0.5, 1.0), (0.2, 0.0))}, "0.2 comes after 0.5"),
        ({"points": ((0.5, 1.0), (1.5, 0.0))}, "1.5 does not lie between 0 and 1"),
    ],
)
def test_a_window_that_means_nothing_is_an_error(made: dict, message: str) -> None:
    with pytest.raises(SliderError, match=message):
        Window(**made)
