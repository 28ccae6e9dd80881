"""Slider Train Step's optimizer, average and accumulation, through ComfyUI's own executor."""

import pytest
import torch
from graphs import demo_graph

STEPS = 6


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "learning_rate": 0.004, "any_rate": True, "calibrate": False}
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
    prompt["6"]["inputs"] |= {"old_name": "restart", "steps_per_run": STEPS // 2}
    run_graph(prompt, slider=("6", 0))
    pack.part("nodes.running").SESSION.drop("smile")  # what a restart does to the memory
    prompt["6"]["inputs"] |= {"old_name": "continue", "steps_per_run": 0}
    again = run_graph(prompt, slider=("6", 0), loss=("6", 2))
    assert again["loss"] == straight["loss"]
    assert all(torch.equal(a, b) for a, b in zip(trainer(pack).average.raw, raw, strict=True))
    for target, weight in straight["slider"].weights.items():
        other = again["slider"].weights[target].tensors
        assert all(torch.equal(value, other[name]) for name, value in weight.tensors.items())


@pytest.mark.parametrize(("optimizer", "rate"), [("adafactor", 0.004), ("prodigy", 1.0), ("schedule_free", 0.004)])
def test_every_optimizer_trains_in_the_node(optimizer: str, rate: float, prompt: dict, run_graph, pack) -> None:
    prompt["6"]["inputs"] |= {"optimizer": optimizer, "learning_rate": rate, "steps": 2}
    status = run_graph(prompt, status=("6", 3))["status"]
    assert "step 2 of 2" in status
    assert trainer(pack).spec.optimizer.value == optimizer
