"""When a slider acts: the text of a curve, its lines, and what is refused. Oracle: numpy's interpolation."""

import numpy as np
import pytest
from core.faults import refused

from slider_core.use.schedule import Window, parse_points

POINTS = ((0.0, 0.5), (0.25, -1.0), (0.5, 2.0), (1.0, 0.0))
WRONG = [
    ({"start": 0.5, "end": 0.5}, "window.never"),
    ({"start": 0.8, "end": 0.2}, "window.never"),
    ({"start": -0.1}, "window.outside"),
    ({"end": float("nan")}, "window.outside"),
    ({"points": ((0.5, 1.0), (0.5, 0.0))}, "curve.order"),
    ({"points": ((0.5, 1.0), (0.2, 0.0))}, "curve.order"),
    ({"points": ((0.5, 1.0), (1.5, 0.0))}, "curve.outside"),
]


def test_a_curve_is_read_from_text() -> None:
    assert parse_points("0: 0.5, 0.25: -1\n0.5: 2, 1: 0,") == POINTS
    assert parse_points(" \n") == ()
    for text in ("0.5", "a: 1", "0.5: b", "0: 1: 2", "0: nan", "inf: 1", "0.5 1", ":"):
        with refused("curve.point", text):
            parse_points(f"0: 1, {text}")


def test_a_curve_is_lines_between_its_points_and_level_outside() -> None:
    window = Window(points=POINTS)
    percents = np.linspace(0, 1, 101)
    expected = np.interp(percents, *zip(*POINTS, strict=True))
    assert [window.share(percent) for percent in percents] == pytest.approx(expected)
    inner = Window(points=((0.2, 3.0), (0.6, 1.0)))
    assert (inner.share(0.0), inner.share(0.2), inner.share(1.0)) == (3.0, 3.0, 1.0)
    assert Window(points=((0.4, 0.5),)).share(0.9) == 0.5
    assert Window().share(0.3) == 1.0


def test_what_changes_over_the_sampling() -> None:
    for window in (Window(), Window(points=((0.0, 1.0), (1.0, 1.0)))):
        assert not window.changes
    for window in (Window(start=0.1), Window(end=0.9), Window(points=((0.5, 0.5),))):
        assert window.changes


def test_a_window_that_means_nothing_is_an_error() -> None:
    for fields, code in WRONG:
        with refused(code):
            Window(**fields)
