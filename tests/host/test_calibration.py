"""In a real ComfyUI a strength means what was measured: in Train Step, Calibrate, Apply, the sweep and the file."""

import re
from dataclasses import replace

import pytest
import torch
from graphs import demo_graph, sweep_inputs

STEPS, TOLERANCE, TIMES = 60, 1e-4, 4.0


@pytest.fixture
def prompt(two_pairs: str) -> dict:
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "learning_rate": 0.004, "any_rate": True}
    graph["10"]["inputs"] |= {"rows": 1, "strengths": "-1, 0, 1"}
    graph["20"]["inputs"]["steps"] = 4
    graph["12"]["inputs"]["steps"] = 4
    return graph


def told(slider: object) -> dict:
    return slider.info.calibration.to_dict()


def drawn(prompt: dict, run_graph, slider: object, strength: float, units: str) -> torch.Tensor:
    graph = {k: prompt[k] for k in ("1", "7", "8", "9", "11", "12", "13")} | {"6": run_graph.give(slider)}
    inputs = prompt["11"]["inputs"] | {"strength": strength, "units": units}
    graph["11"] = {"class_type": "SliderLoRAApply", "inputs": inputs}
    return run_graph(graph, image=("13", 0))["image"]


def calibrating(prompt: dict, run_graph, slider: object) -> dict:
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "slider": ["given", 0], "dataset": ["2", 0]}
    node = {"class_type": "SliderCalibrate", "inputs": inputs | {"seed": 3, "resolution": 0}}
    return {k: prompt[k] for k in ("1", "2")} | {"given": run_graph.give(slider), "calibrate": node}


def test_training_ends_with_a_calibration_that_apply_and_the_sweep_read(prompt: dict, run_graph) -> None:
    run = run_graph(prompt, slider=("6", 0), status=("6", 3), images=("10", 1), name=("19", 0))
    found = told(run["slider"])
    assert found["calibrated"] is True
    assert "Strength 1 = " in run["status"]
    assert found["plus"] > 0 < found["minus"]
    assert 0 < found["drawn"] < 1.5
    assert found["unit"] == pytest.approx(1)  # the weights are rescaled: any loader's 1 is the calibrated 1
    for column, strength in ((0, -1.0), (2, 1.0)):
        calibrated = drawn(prompt, run_graph, run["slider"], strength, "calibrated")
        assert torch.equal(calibrated, drawn(prompt, run_graph, run["slider"], strength, "raw"))
        prompt["12"]["inputs"] |= {k: sweep_inputs(prompt)[k] for k in ("seed", "steps", "cfg", "sampler_name", "scheduler")}
        again = drawn(prompt, run_graph, run["slider"], strength, "calibrated")
        assert (run["images"][column] - again[0]).abs().max() < TOLERANCE
    info = run_graph({"load": {"class_type": "LoadSliderLoRA", "inputs": {"file": run["name"]}}}, info=("load", 1))["info"]
    assert "Calibrated: strength 1 is " in info


def test_calibrate_undoes_a_wrong_scale_and_changes_no_model(prompt: dict, run_graph, pack) -> None:
    """A slider that was not calibrated, and the same four times as strong: after calibration both draw the same."""
    prompt["6"]["inputs"]["calibrate"] = False
    run = run_graph({k: prompt[k] for k in ("1", "2", "5", "6")}, slider=("6", 0), status=("6", 3), dataset=("2", 0))
    trained, whole = run["slider"], run["dataset"]
    assert trained.info.calibration is None
    assert "Not calibrated." in run["status"]
    loud = replace(
        trained, weights={t: w.scaled(TIMES) for t, w in trained.weights.items()}, info=pack.core("lora.info").SliderInfo()
    )
    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    run = run_graph(
        calibrating(prompt, run_graph, loud), slider=("calibrate", 0), report=("calibrate", 1), curve=("calibrate", 2)
    )
    assert "forward passes" in run["report"]
    said = [re.search(r"(\d+) of about (\d+)", text) for text in run.texts]
    passes = [(int(found[1]), int(found[2])) for found in said if found]
    assert len(passes) > 2
    assert all(0 < done <= expected for done, expected in passes)
    assert run["curve"].std() > 0.05
    assert run.ui["calibrate"]["images"]
    after = model.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    quiet = run_graph(calibrating(prompt, run_graph, trained), slider=("calibrate", 0))["slider"]
    for strength in (1.0, -1.0):
        one, other = (drawn(prompt, run_graph, s, strength, "calibrated") for s in (run["slider"], quiet))
        assert (one - other).abs().max() < 0.05 * (one - drawn(prompt, run_graph, quiet, 0.0, "raw")).abs().max()
    plus = replace(whole, buckets=tuple(b for b in whole.buckets if b.spec.strength > 0), pairs=())
    graph = calibrating(prompt, run_graph, trained) | {"2": run_graph.give(plus)}
    with pytest.raises(run_graph.Error, match="needs negative images"):
        run_graph(graph, slider=("calibrate", 0))
