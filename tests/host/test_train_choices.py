"""Slider Train Step's optimizer, average, accumulation and presets, through ComfyUI's own executor."""

import json
from pathlib import Path

import pytest
import torch

QUICKSTART = Path(__file__).resolve().parents[2] / "tools" / "workflows" / "slider_quickstart.api.json"
STEPS = 6


@pytest.fixture
def prompt() -> dict:
    graph = json.loads(QUICKSTART.read_text(encoding="utf-8"))
    graph["6"]["inputs"] |= {"steps": STEPS, "total_steps": STEPS, "learning_rate": 0.004, "calibrate": False}
    return {k: graph[k] for k in ("1", "2", "5", "6")}


def trainer(pack):
    return pack.part("nodes.running").SESSION.get("smile").trainer


def test_the_slider_that_is_handed_on_is_the_average_and_goes_on_after_a_restart(prompt: dict, run_graph, pack) -> None:
    prompt["6"]["inputs"] |= {"ema": 0.5, "accumulate": 2, "batch": 2, "warmup": 2, "schedule": "linear"}
    straight = run_graph(prompt, slider=("6", 0), loss=("6", 2))
    spec, average = trainer(pack).spec, trainer(pack).average
    assert (spec.ema, spec.accumulate, spec.warmup, spec.schedule.value) == (0.5, 2, 2, "linear")
    read = [p.detach() for p in trainer(pack).adapter.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(read, average.ema, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(read, average.raw, strict=True))
    raw = [value.clone() for value in average.raw]
    prompt["6"]["inputs"] |= {"reset": True, "steps": STEPS // 2}
    run_graph(prompt, slider=("6", 0))
    pack.part("nodes.running").SESSION.drop("smile")  # what a restart does to the memory
    prompt["6"]["inputs"] |= {"reset": False, "steps": STEPS}
    again = run_graph(prompt, slider=("6", 0), loss=("6", 2))
    assert again["loss"] == straight["loss"]
    assert all(torch.equal(a, b) for a, b in zip(trainer(pack).average.raw, raw, strict=True))
    for target, weight in straight["slider"].weights.items():
        other = again["slider"].weights[target].tensors
        assert all(torch.equal(value, other[name]) for name, value in weight.tensors.items())


@pytest.mark.parametrize(("optimizer", "rate"), [("adafactor", 0.004), ("prodigy", 1.0), ("schedule_free", 0.004)])
def test_every_optimizer_trains_in_the_node(optimizer: str, rate: float, prompt: dict, run_graph, pack) -> None:
    prompt["6"]["inputs"] |= {"optimizer": optimizer, "learning_rate": rate, "steps": 2, "total_steps": 2}
    status = run_graph(prompt, status=("6", 3))["status"]
    assert "step 2 of 2" in status
    assert trainer(pack).spec.optimizer.value == optimizer


def test_a_preset_sets_its_fields_and_the_browser_gets_the_same_table(prompt: dict, run_graph, pack, monkeypatch) -> None:
    inputs, train = pack.part("nodes.train_inputs"), pack.part("nodes.train")
    presets = pack.core("config.training")
    table = {w.id: w for w in inputs.optimizer_inputs()}["preset"].as_dict()["presets"]
    for preset in presets.PRESETS:
        shown = dict(table[preset.value])
        assert shown.pop("total_steps") == shown["steps"]
        assert shown == {k: getattr(v, "value", v) for k, v in presets.preset_fields(preset).items()}
    assert table["custom"] == {}
    few = presets.PRESETS[presets.TrainPreset.QUICK] | {"steps": 3, "batch": 2}
    monkeypatch.setitem(presets.PRESETS, presets.TrainPreset.QUICK, few)
    prompt["6"]["inputs"] |= {"preset": "quick", "ema": 0.5, "steps": 50, "total_steps": 1}
    run = run_graph(prompt, loss=("6", 2))
    spec = trainer(pack).spec
    assert len(run["loss"]["loss"]) == 3
    assert (spec.steps, spec.batch, spec.ema, spec.lr) == (3, 2, 0.0, 0.004)
    again = train.SliderTrainStep.fingerprint_inputs("smile", 50, 1, preset="quick")
    assert again == train.SliderTrainStep.fingerprint_inputs("smile", 3, 3)
