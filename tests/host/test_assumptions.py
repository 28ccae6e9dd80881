"""A ComfyUI that has changed inside costs a feature and a sentence, never the pack."""

import ast
import inspect
import re
import time
from pathlib import Path

import pytest

HOME = "with_comfy.assumptions"


@pytest.fixture
def assumptions(pack):
    module = pack.core(HOME)
    module.faults.cache_clear()
    yield module
    module.faults.cache_clear()


def test_this_comfyui_has_every_piece_and_is_looked_at_in_milliseconds(assumptions) -> None:
    start = time.perf_counter()
    assert assumptions.faults() == {}
    assert time.perf_counter() - start < 0.1


def test_every_function_of_comfyui_that_is_called_by_its_module_is_looked_at(assumptions) -> None:
    known = {piece.where.replace(":", ".") for piece in assumptions.PIECES}
    used = set()
    for path in Path(assumptions.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and re.fullmatch(r"comfy(\.[a-z_]+)+\.\w+", name := ast.unparse(node)):
                used.add(name)
    unseen = {name for name in used if not any(piece == name or piece.startswith(f"{name}.") for piece in known)}
    assert unseen == {"comfy.cli_args.args"}
    assert len(used) > 25


@pytest.mark.parametrize(
    ("where", "feature", "others"),
    [
        ("comfy.ops:CastBiasWeightContext", "TRAINING", ("SWEEP", "MERGING")),
        ("comfy.sample:prepare_noise", "SWEEP", ("TRAINING", "LIVE")),
        ("comfy.lora:load_lora", "MERGING", ("TRAINING", "SWEEP")),
        ("comfy.controlnet:ControlNet", "CONTROLNET", ("TRAINING", "SWEEP")),
        ("comfy.sd:load_clip", "FILES", ("TRAINING", "MERGING")),
    ],
)
def test_a_missing_piece_switches_off_what_needs_it(
    where: str, feature: str, others: tuple, assumptions, pack, monkeypatch
) -> None:
    import importlib

    module, _, name = where.partition(":")
    monkeypatch.delattr(importlib.import_module(module), name)
    with pytest.raises(pack.core("config.checks").SliderError) as refused:
        assumptions.need_feature(assumptions.Feature[feature])
    assert refused.value.code == "host.changed"
    assert name in str(refused.value)
    for other in others:
        assumptions.need_feature(assumptions.Feature[other])


def test_longer_signatures_are_the_same_piece_and_shorter_ones_are_not(assumptions, monkeypatch) -> None:
    import comfy.sd

    real = comfy.sd.load_lora_for_models

    def longer(model, clip, lora, strength_model, strength_clip, lora_metadata=None, *, more=None):
        return real(model, clip, lora, strength_model, strength_clip)

    monkeypatch.setattr(comfy.sd, "load_lora_for_models", longer)
    assert assumptions.faults() == {}
    assumptions.faults.cache_clear()
    monkeypatch.setattr(comfy.sd, "load_lora_for_models", lambda model, lora: (model, lora))
    assert "strength_model" in assumptions.faults()[assumptions.Feature.MERGING]
    assert list(inspect.signature(longer).parameters)[:2] == ["model", "clip"]


@pytest.mark.parametrize(
    "loaded", [(None, ("a/model.safetensors",), 7), (None, (["a/model.safetensors", "b"],)), (None, ()), None, 3]
)
def test_the_model_file_is_read_from_any_form_of_the_loaders_note(loaded: object, pack) -> None:
    class Model:
        cached_patcher_init = loaded

    assert pack.core("with_comfy.family").model_file(Model) in ([], ["model.safetensors"])
