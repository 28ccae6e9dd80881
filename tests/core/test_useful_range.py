"""A strength is said to lie beyond the useful range only where such a range was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from core.faults import refused

from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.lora.calibration import CalibrationInfo
from slider_core.lora.even_steps import EvenSteps
from slider_core.lora.info import SliderInfo
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, load_slider, save_slider
from slider_core.lora.useful_range import beyond_note, beyond_words, is_beyond, ranged_by_hand, useful_range
from slider_core.with_tiny.model import TinyBackend

FOUND = CalibrationInfo(calibrated=True, unit=0.8)
WORKS = SliderInfo(range=(-0.97, 1.04), calibration=FOUND, judged="works", step=150)


def test_what_the_words_say_to_be_within_is_within() -> None:
    useful = useful_range(WORKS)
    assert [is_beyond(strength, useful) for strength in (-1.01, -1.0, 0.0, 1.0, 1.04, 1.05)] == [True, *[False] * 4, True]
    assert beyond_note((2.0, -2.0, 0.0, 1.5), useful) == "Strengths -2, +1.5 and +2: beyond the useful range -1.0 to +1.0."
    assert beyond_note((0.0, 1.5), useful) == "Strength +1.5: beyond the useful range -1.0 to +1.0."
    assert beyond_note((-1.0, 0.0, 1.0), useful) == beyond_words((-1.0, 1.0), useful) == ""
    assert beyond_words((2.0,), useful_range(replace(WORKS, range=(0.0, 1.0)))) == "beyond the useful range 0 to +1.0"


@pytest.mark.parametrize(
    "info",
    [
        SliderInfo(),
        replace(WORKS, range=None),
        replace(WORKS, calibration=None),
        replace(WORKS, calibration=CalibrationInfo()),
        replace(WORKS, calibration=replace(FOUND, useful=False)),
        replace(WORKS, judged="unproven"),
        replace(WORKS, judged="partly"),
        replace(WORKS, judged="too_weak"),
    ],
    ids=["another program's", "no range", "not calibrated", "not found", "not useful", "unproven", "partly", "too weak"],
)
def test_where_no_useful_range_was_measured_nothing_is_beyond_it(info: SliderInfo) -> None:
    assert useful_range(info) is None
    assert not is_beyond(99.0, None)
    assert beyond_note((-99.0, 99.0), None) == beyond_words((99.0,), None) == ""


def test_a_lora_saved_anew_says_no_more_of_its_strengths_than_before(tmp_path: Path, backend: TinyBackend) -> None:
    slider = Slider(Adapter.create(backend.module, [Target("proj_in")], AdapterSpec()).weights())
    file = tmp_path / "again.safetensors"
    save_slider(file, slider)
    again = load_slider(file)
    assert useful_range(again.info) is None
    assert again.info.range is None
    assert "range" not in again.summary()


@pytest.mark.parametrize("info", [SliderInfo(), replace(WORKS, judged="partly"), replace(WORKS, calibration=CalibrationInfo())])
def test_a_range_that_a_person_wrote_down_counts(info: SliderInfo, tmp_path: Path, backend: TinyBackend) -> None:
    slider = Slider(Adapter.create(backend.module, [Target("proj_in")], AdapterSpec()).weights(), info)
    file = tmp_path / "looked_at.safetensors"
    save_slider(file, replace(slider, info=ranged_by_hand(info, -0.5, 1.5)))
    found = load_slider(file)
    assert useful_range(found.info) == (-0.5, 1.5)
    assert beyond_note((2.0,), useful_range(found.info)) == "Strength +2: beyond the useful range -0.5 to +1.5."
    assert "useful range: -0.5 to 1.5" in found.summary()
    assert found.info.lora_weight(1.0) == info.lora_weight(1.0), "a strength means what it meant"


def test_no_range_is_written_where_a_damaged_header_does_not_say_what_a_strength_is() -> None:
    with refused("slider_info.damaged", "calibration"):
        ranged_by_hand(SliderInfo(damaged=("calibration",)), -1.0, 1.0)


def test_the_range_is_in_the_units_of_the_sweep() -> None:
    dial = EvenSteps(((-1.0, -1.0), (0.0, 0.0), (1.0, 1.0), (1.5, 3.0)))
    info = replace(WORKS, range=(-1.5, 2.0), even_steps=dial)
    assert useful_range(info, "even_steps") == (-1.5, 1.25)
    assert useful_range(replace(info, even_steps=None), "even_steps") == (-1.5, 2.0)
    assert useful_range(info, "raw") is None
