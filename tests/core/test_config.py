"""Choices are checked when they are made, and go through JSON unchanged."""

import pytest
from core.faults import refused

from slider_core.config.checks import JsonSpec
from slider_core.config.lora import AdapterSpec, Preset
from slider_core.config.sweep import SweepSpec, parse_strengths
from slider_core.config.training import Objective, Optimizer, SaveSpec, TrainPreset, TrainSpec, preset_fields

NAN = float("nan")
SPECS = [
    AdapterSpec(rank=8, alpha=2.0, preset=Preset.CUSTOM, patterns=("attn1", "proj_in$"), rank_pattern=(("to_q", 2),)),
    TrainSpec(steps=7, objective=Objective.DENOISE_ROTATING, batch=3),
    SweepSpec(strengths=(-1.0, 0.5), seeds=(3,)),
    SaveSpec(every=5),
]
WRONG: list[tuple[type[JsonSpec], dict, str]] = [
    (TrainSpec, {"steps": -1}, "train_spec.steps"),
    (TrainSpec, {"lr": NAN}, "train_spec.lr"),
    (TrainSpec, {"batch": 3}, "train_spec.batch"),
    (TrainSpec, {"objective": "denoise_pared"}, "objective.unknown"),
    (TrainSpec, {"window": (0.5, 0.5)}, "train_spec.window"),
    (TrainSpec, {"window": (0.5,)}, "train_spec.window"),
    (TrainSpec, {"jitter": 0.6}, "train_spec.jitter"),
    (TrainSpec, {"seed": 2**63}, "train_spec.seed"),
    (TrainSpec, {"clip": 0.0}, "train_spec.clip"),
    (TrainSpec, {"weight_decay": -1.0}, "train_spec.weight_decay"),
    (TrainSpec, {"optimizer": "schedule_free", "ema": 0.9}, "train_spec.averages_twice"),
    (TrainSpec, {"optimizer": "prodigy", "lr": 0.01}, "train_spec.lr_too_low"),
    (TrainSpec, {"optimizer": "adafactor", "lr": 1.0}, "train_spec.lr_too_high"),
    (SaveSpec, {"keep": 0}, "save_spec.keep"),
    (SaveSpec, {"seconds": -1.0}, "save_spec.seconds"),
    (AdapterSpec, {"rank": 0}, "adapter_spec.rank"),
    (AdapterSpec, {"rank": 3, "init": "orthogonal"}, "adapter_spec.odd_rank"),
    (AdapterSpec, {"alpha": 0.0}, "adapter_spec.alpha"),
    (AdapterSpec, {"conv_rank": -1}, "adapter_spec.conv_rank"),
    (AdapterSpec, {"preset": "custom"}, "adapter_spec.patterns"),
    *(
        (AdapterSpec, {"rank_pattern": ((pattern, 2),)}, "adapter_spec.pattern_invalid")
        for pattern in (
            "to_q(",
            "(a+)+$",
            "(?:ab|a)*c",
            "((x*)*)*",
            ".*o.*o.*o.*o.*!",
            "(" * 9000,
            "a{99999999999}",
            r"([\w.]+)+!",
        )
    ),
    *((AdapterSpec, {name: value}, f"adapter_spec.{name}") for name in ("exclude", "alpha_pattern") for value in (3, ("a", 3))),
    (AdapterSpec, {"dropout": 1.0}, "adapter_spec.dropout"),
    (AdapterSpec, {"factor": 2}, "adapter_spec.option"),
    (AdapterSpec, {"tucker": True}, "adapter_spec.option"),
    (SweepSpec, {"strengths": ()}, "sweep_spec.strengths"),
    (SweepSpec, {"strengths": (NAN,)}, "sweep_spec.strengths"),
]


def test_json_both_ways() -> None:
    for spec in SPECS:
        assert type(spec).from_json(spec.to_json()) == spec


def test_a_misspelt_key_names_the_nearest() -> None:
    with refused("train_spec.unknown_field", "stepps", '"steps"'):
        TrainSpec.from_json('{"stepps": 3}')
    for text in ("{", "[]"):
        with refused("train_spec.not_json"):
            TrainSpec.from_json(text)


@pytest.mark.parametrize("kind", [TrainSpec, SaveSpec, AdapterSpec, SweepSpec])
def test_a_wrong_value_is_refused_by_name(kind: type[JsonSpec]) -> None:
    for spec, fields, code in WRONG:
        if spec is kind:
            with refused(code):
                spec(**fields)


def test_a_size_is_that_of_the_first_pattern_that_matches() -> None:
    spec = AdapterSpec(rank=8, alpha=4.0, conv_rank=2, conv_alpha=1.0, rank_pattern=(("to_q", 3), ("to", 5)))
    assert spec.size("a.to_q", False) == (3, 4.0)
    assert spec.size("a.to_k", False) == (5, 4.0)
    assert spec.size("conv", True) == (2, 1.0)
    assert spec.size("conv", False) == (8, 4.0)


def test_presets_are_valid_and_schedule_free_gets_no_average() -> None:
    for preset in TrainPreset:
        for optimizer in (Optimizer.ADAMW, Optimizer.SCHEDULE_FREE):
            TrainSpec(optimizer=optimizer, **preset_fields(preset, optimizer))
    assert TrainSpec(**preset_fields(TrainPreset.BALANCED)) == TrainSpec()
    assert preset_fields(TrainPreset.CUSTOM) == {}
    assert "ema" not in preset_fields(TrainPreset.CAREFUL, Optimizer.SCHEDULE_FREE)


def test_strengths_are_a_list_or_a_range() -> None:
    assert parse_strengths("-2,-1,0,1,2") == (-2, -1, 0, 1, 2)
    assert parse_strengths(" 1.5 ") == (1.5,)
    assert parse_strengths("-1:1:0.5") == (-1, -0.5, 0, 0.5, 1)
    assert parse_strengths("1:-1:-1") == (1, 0, -1)
    assert parse_strengths("1\n2") == (1, 2)


def test_strengths_that_are_none_are_refused() -> None:
    for text, code in {
        "1,two": "strengths.not_a_number",
        "nan": "strengths.not_a_number",
        "inf": "strengths.not_a_number",
        "": "strengths.none",
        "0:1:0": "strengths.range",
        "1:0:1": "strengths.range",
        "0:1e9:0.001": "strengths.too_many",
    }.items():
        with refused(code):
            parse_strengths(text)
