"""Choices are checked when they are made, and go through JSON unchanged."""

import pytest

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Preset
from slider_core.config.sweep import SweepSpec, parse_strengths
from slider_core.config.training import Objective, TrainSpec
from slider_core.data.bucket_spec import BucketSpec

SPECS = [
    AdapterSpec(rank=8, alpha=2.0, preset=Preset.CUSTOM, patterns=("attn1", "proj_in$")),
    TrainSpec(steps=7, objective=Objective.DENOISE_ROTATING, batch=3),
    SweepSpec(strengths=(-1.0, 0.5), seeds=(3,)),
    BucketSpec("pics", -0.5, "a face"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: type(s).__name__)
def test_json_both_ways(spec: TrainSpec) -> None:
    assert type(spec).from_json(spec.to_json()) == spec


def test_a_misspelt_key_names_the_nearest() -> None:
    with pytest.raises(SliderError, match='no field "stepps"; did you mean "steps"'):
        TrainSpec.from_json('{"stepps": 3}')


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainSpec(steps=0), "steps must be a whole number from 1, got 0"),
        (lambda: TrainSpec(lr=float("nan")), "lr must be a positive number"),
        (lambda: TrainSpec(batch=3), "batch must be even"),
        (lambda: TrainSpec(objective="denoise_pared"), 'did you mean "denoise_paired"'),
        (lambda: AdapterSpec(rank=0), "rank must be"),
        (lambda: AdapterSpec(preset="custom"), "give at least one pattern"),
        (lambda: BucketSpec("f", float("inf")), "strength must be a finite number"),
        (lambda: SweepSpec(strengths=()), "At least one strength"),
    ],
)
def test_a_wrong_value_is_refused_by_name(make: object, message: str) -> None:
    with pytest.raises(SliderError, match=message):
        make()


@pytest.mark.parametrize(
    ("text", "strengths"),
    [
        ("-2,-1,0,1,2", (-2, -1, 0, 1, 2)),
        (" 1.5 ", (1.5,)),
        ("-1:1:0.5", (-1, -0.5, 0, 0.5, 1)),
        ("1:-1:-1", (1, 0, -1)),
        ("1\n2", (1, 2)),
    ],
)
def test_strengths_are_a_list_or_a_range(text: str, strengths: tuple) -> None:
    assert parse_strengths(text) == strengths


@pytest.mark.parametrize("text", ["1,two", "", "nan", "0:1:0", "1:0:1", "inf", "0:1e9:0.001"])
def test_strengths_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(SliderError):
        parse_strengths(text)
