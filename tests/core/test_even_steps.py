"""A dial's places, worked out by hand: equal steps go equal ways, 0 is 0, +-1 are +-1, and nothing is cut off."""

import json
from dataclasses import replace

import pytest
import torch

from slider_core.config.checks import SliderError
from slider_core.config.sweep import SweepSpec
from slider_core.lora.calibration import CalibrationInfo, Units
from slider_core.lora.even_steps import EvenSteps, even_steps
from slider_core.lora.info import SliderInfo
from slider_core.train.calibration import Calibration, Side
from slider_core.use.perceptual import Metric, root_mean_square
from slider_core.use.sweep import SweepResult
from slider_core.use.sweep_steps import measured_steps, steps_line

# one side: the way is 3 to 0.5, 4 to 1, 6 to 2, so a place is a fourth of the way
BENT = ([0.0, 0.5, 1.0, 2.0], [3.0, 1.0, 2.0])
DIAL = EvenSteps(((-2.0, -3.0), (-1.0, -1.0), (0.0, 0.0), (0.75, 0.5), (1.0, 1.0), (1.5, 2.0)))


def test_a_place_is_the_share_of_the_way_to_1() -> None:
    dial = even_steps({1.0: BENT})
    assert dial.points == ((0.0, 0.0), (0.75, 0.5), (1.0, 1.0), (1.5, 2.0))
    assert [dial.strength(place) for place in (0.375, 0.875, 1.25)] == [0.25, 0.75, 1.5]


def test_nothing_is_cut_off_beyond_what_was_measured() -> None:
    dial = even_steps({1.0: BENT})
    assert dial.strength(4.0) == 2.0 + (4.0 - 1.5)
    assert dial.strength(-0.7) == -0.7, "a side that was not measured is as it was"


def test_0_and_1_stay_exactly_whatever_was_measured() -> None:
    sides = {1.0: ([0.0, 0.8, 1.2], [2.0, 2.0]), -1.0: ([0.0, 0.99999, 1.0, 3.0], [1.0, 1e-9, 4.0])}
    dial = even_steps(sides)
    assert dial.points == ((-5.0, -3.0), (-1.0, -1.0), (0.0, 0.0), (0.6667, 0.8), (1.0, 1.0), (1.3333, 1.2))
    assert [dial.strength(place) for place in (-1.0, 0.0, 1.0)] == [-1.0, 0.0, 1.0]
    assert dial.strength(-3.0) == -2.0, "half of the way from -1 to -3"


def test_strengths_that_look_alike_are_one_place() -> None:
    dial = even_steps({1.0: ([0.0, 0.25, 0.5, 1.0, 1.5, 2.0], [0.0, 2.0, 2.0, 0.0, 4.0])})
    assert dial.points == ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 2.0))


@pytest.mark.parametrize("side", [([0.0, 0.5], [1.0]), ([0.0, 1.0], [0.0]), ([0.0, 1.0, 2.0], [float("nan"), 1.0])])
def test_a_side_that_reaches_nothing_has_no_places(side: tuple[list[float], list[float]]) -> None:
    assert even_steps({1.0: side}) is None
    assert even_steps({1.0: side, -1.0: ([0.0, 1.0], [2.0])}).points == ((-1.0, -1.0), (0.0, 0.0))


@pytest.mark.parametrize(
    "text", ["3", "{}", "[[0, 0]]", "[[0, 0], [1, -1]]", "[[1, 1], [2, 2]]", "[[0, 0], [1, NaN]]", "[[0, 0], [true, 1]]"]
)
def test_a_damaged_dial_is_named(text: str) -> None:
    info = SliderInfo.from_header({"slider_even_steps": text})
    assert info.damaged == ("even_steps",)
    assert info.lora_weight(0.5) == 0.5
    with pytest.raises(SliderError) as fault:
        info.lora_weight(0.5, Units.EVEN_STEPS)
    assert fault.value.code == "slider_info.damaged"


def test_units_say_whether_a_strength_is_a_place_of_the_dial() -> None:
    info = SliderInfo(even_steps=DIAL, calibration=CalibrationInfo(True, unit=4.0))
    assert [info.lora_weight(0.75, units) for units in ("calibrated", "even_steps", "raw")] == [3.0, 2.0, 0.75]
    assert [info.calibrated_strength(2.0, units) for units in ("calibrated", "even_steps", "raw")] == [2.0, 2.5, 0.5]
    assert info.units_note("even_steps") == ""
    one_way = replace(info, sides="plus")
    assert (one_way.lora_weight(0.75, "even_steps"), one_way.lora_weight(-1.5, "even_steps")) == (2.0, 0.0)


def test_a_slider_without_a_dial_is_as_it_was_and_says_so() -> None:
    info = SliderInfo(calibration=CalibrationInfo(True, unit=4.0))
    assert info.lora_weight(0.3, "even_steps") == info.lora_weight(0.3)
    assert info.units_note("calibrated") == info.units_note("raw") == ""
    assert "Slider Report Card" in info.units_note("even_steps")
    assert "even_steps" not in info.card()
    assert not any("even_steps" in key for key in info._own_fields())


def test_the_header_keeps_the_dial_and_the_card_has_it_as_a_loader_takes_it() -> None:
    info = SliderInfo(even_steps=DIAL, calibration=CalibrationInfo(True, unit=4.0))
    fields = info._own_fields()
    assert json.loads(fields["slider_even_steps"])[0] == [-2.0, -3.0]
    assert SliderInfo.from_header(fields).even_steps == DIAL
    assert info.card()["even_steps"] == [[-2.0, -12.0], [-1.0, -4.0], [0.0, 0.0], [0.75, 2.0], [1.0, 4.0], [1.5, 8.0]]
    assert "-2 to 1.5 on the dial are strengths -3 to 2" in info.summary({})


def test_a_new_calibration_forgets_the_dial() -> None:
    side = Side(2.0, 4.0, ((2.0, 0.5),))
    assert Calibration(side, side, 9).described(SliderInfo(even_steps=DIAL), 2.0).even_steps is None


def swept(strengths: tuple[float, ...], values: list[list[float]]) -> tuple[SweepResult, Metric]:
    """A sweep of flat pictures, so that distances are differences of `values` (rows, strengths)."""
    images = torch.tensor(values)[:, :, None, None, None].expand(-1, -1, 3, 2, 2)
    return SweepResult(SweepSpec(strengths, tuple(range(len(values)))), images), Metric("pixels", images, root_mean_square)


def test_a_sweep_gives_the_mean_of_its_rows_side_by_side() -> None:
    strengths = (2.0, -1.0, 0.0, 0.5, 1.0)
    result, metric = swept(strengths, [[0.75, 0.25, 0.5, 0.625, 0.75], [0.25, 0.25, 0.0, 0.25, 0.25]])
    dial = measured_steps(result, metric, SliderInfo(), Units.CALIBRATED)
    # plus: steps of 0.125 and 0.25, then 0.125 and 0, then 0 and 0: 0.1875 of 0.25 to 0.5; 2 looks like 1. minus: one step
    assert dial.points == ((-1.0, -1.0), (0.0, 0.0), (0.75, 0.5), (1.0, 1.0))
    assert "of 5 strengths and 2 rows: on the dial -0.5 is -0.50, 0.5 is 0.33" in steps_line(dial, result)
    one_way = measured_steps(result, metric, SliderInfo(sides="plus"), Units.CALIBRATED)
    assert one_way.points == dial.points[1:]


def test_a_dial_is_measured_in_the_units_of_the_sweep() -> None:
    """LoRA weights of a slider whose 1 is at 4; and a dial again, at its own places."""
    info = SliderInfo(calibration=CalibrationInfo(True, unit=4.0), even_steps=DIAL)
    result, metric = swept((0.0, 2.0, 4.0), [[0.0, 0.75, 1.0]])
    assert measured_steps(result, metric, info, "raw").points == ((0.0, 0.0), (0.75, 0.5), (1.0, 1.0))
    result, metric = swept((0.0, 0.75, 1.0), [[0.0, 0.75, 1.0]])
    assert measured_steps(result, metric, info, "even_steps").points == ((0.0, 0.0), (0.75, 0.5), (1.0, 1.0))


@pytest.mark.parametrize("strengths", [(0.25, 1.0, 2.0), (0.0, 0.25, 0.5), (0.0,)])
def test_a_sweep_without_0_or_1_gives_no_dial(strengths: tuple[float, ...]) -> None:
    result, metric = swept(strengths, [[0.0, 0.5, 1.0][: len(strengths)]])
    assert measured_steps(result, metric, SliderInfo(), Units.CALIBRATED) is None
    assert "No even steps" in steps_line(None, result)
