"""Every verdict from a reading that shows it, each with a cause and something to change."""

import math

import pytest

from slider_core.train.progress import Reading
from slider_core.train.progress_verdict import Verdict, explain, judge

READINGS = {
    Verdict.UNTRAINED: None,
    Verdict.NOT_FINITE: Reading(9, math.nan, 0.1, 0.1, 0.1),
    Verdict.NOTHING_LEARNED: Reading(9, 5e-4, -5e-4, 3.0, 0.0),
    Verdict.BURNT: Reading(9, 0.1, -2.0, 0.1, 0.1),
    Verdict.SAME_ENDS: Reading(9, 0.05, -0.02, 1.5, 0.1),
    Verdict.HARMS: Reading(9, -0.05, -0.02, 0.1, 0.1),
    Verdict.ONE_SIDED: Reading(9, 0.05, -0.02, 0.1, 0.1),
    Verdict.OVERFITTING: Reading(9, 0.06, 0.04, 0.1, 0.01),
    Verdict.WORKS: Reading(9, 0.06, 0.04, 0.1, 0.05),
}


def test_each_verdict_has_a_reading_and_a_message_of_its_own() -> None:
    messages = set()
    for verdict, last in READINGS.items():
        assert judge([last] if last else [], finite=True) is verdict
        messages.add(explain(verdict, last))
    assert len(messages) == len(Verdict)


@pytest.mark.parametrize(
    ("readings", "sides"), [((0.1, -2.0), ("minus",)), ((-2.0, 0.1), ("plus",)), ((-9.0, -9.0), ("plus", "minus"))]
)
def test_the_weak_sides_are_named(readings: tuple[float, float], sides: tuple[str, ...]) -> None:
    burnt = explain(Verdict.BURNT, Reading(9, *readings))
    assert [side for side in ("plus", "minus") if side in burnt] == list(sides)
    if len(sides) == 1:
        assert sides[0] in explain(Verdict.ONE_SIDED, Reading(9, *readings))


def test_weights_that_are_not_finite_outdo_any_reading() -> None:
    assert judge([READINGS[Verdict.WORKS]], finite=False) is Verdict.NOT_FINITE


def test_the_last_reading_counts() -> None:
    assert judge([READINGS[Verdict.HARMS], READINGS[Verdict.WORKS]], finite=True) is Verdict.WORKS


def test_a_small_gain_on_moved_images_says_nothing_while_the_gain_itself_is_small() -> None:
    assert judge([Reading(9, 0.01, 0.01, 0.1, 0.0)], finite=True) is Verdict.WORKS


def test_a_calibration_knows_better_than_one_strength() -> None:
    loud = READINGS[Verdict.HARMS]  # too strong at the images' strength, right at a tenth of it
    assert judge([loud], True, (True, True)) is Verdict.WORKS
    assert judge([READINGS[Verdict.BURNT]], True, (True, True)) is Verdict.WORKS
    assert judge([READINGS[Verdict.WORKS]], True, (True, False)) is Verdict.ONE_SIDED
    assert explain(Verdict.ONE_SIDED, READINGS[Verdict.WORKS], (True, False)).startswith("The minus side")
    assert judge([READINGS[Verdict.WORKS]], True, (False, False)) is Verdict.HARMS
    assert judge([READINGS[Verdict.NOTHING_LEARNED]], True, (False, False)) is Verdict.NOTHING_LEARNED


def test_a_reading_just_below_zero_may_be_noise() -> None:
    assert judge([Reading(9, -0.005, 0.004, 0.1, 0.0)], True) is Verdict.WORKS
