"""After `restart` the slider has the name that a person expects, and the file of the training before is kept beside it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from graphs import demo_graph

STEPS, FEWER, MORE = 4, 1, 6
SAVE = "19"


@pytest.fixture
def prompt(two_pairs: str, comfy: Path) -> dict[str, Any]:
    """Model 1, dataset 2, targets 5, training 6, save 19; no file of an earlier test."""
    shutil.rmtree(comfy / "models" / "loras" / "again", ignore_errors=True)
    graph = demo_graph()
    graph["2"]["inputs"]["folder"] = two_pairs
    graph["6"]["inputs"] |= {"steps": STEPS, "learning_rate": 0.004, "any_rate": True, "calibrate": False}
    graph[SAVE]["inputs"] |= {"force": True, "name": "again/smile", "manager_files": True}
    graph[SAVE]["inputs"].pop("preview", None)
    return {key: graph[key] for key in ("1", "2", "5", "6", SAVE)}


def names(comfy: Path) -> set[str]:
    return {path.name for path in (comfy / "models" / "loras" / "again").glob("*.safetensors")}


def steps_of(pack: Any, comfy: Path, name: str) -> int:
    file = comfy / "models" / "loras" / "again" / f"{name}.safetensors"
    return int(pack.core("lora.slider_file").load_slider(file).info.step)


def trained(run_graph: Any, prompt: dict[str, Any], steps: int, old_name: str) -> tuple[str, str]:
    """(the name in the LoRA list, what the node says)"""
    prompt["6"]["inputs"] |= {"steps": steps, "old_name": old_name}
    run = run_graph(prompt, name=(SAVE, 0), report=(SAVE, 1))
    return run["name"], run["report"]


@pytest.mark.parametrize("steps", [FEWER, STEPS, MORE])
def test_the_restarted_slider_has_the_name_and_the_file_before_is_kept(
    steps: int, prompt: dict[str, Any], run_graph: Any, pack: Any, comfy: Path
) -> None:
    assert trained(run_graph, prompt, STEPS, "continue")[0] == "again/smile.safetensors"
    name, report = trained(run_graph, prompt, steps, "restart")
    assert name == "again/smile.safetensors"
    assert "again/smile_before_restart.safetensors" in report
    assert (steps_of(pack, comfy, "smile"), steps_of(pack, comfy, "smile_before_restart")) == (steps, STEPS)
    assert (comfy / "models" / "loras" / "again" / "smile_before_restart.metadata.json").is_file()
    pack.part("nodes.running").SESSION.drop("smile")  # as a new start of ComfyUI: the record on disk knows
    name, report = trained(run_graph, prompt, steps + 1, "continue")
    assert name == "again/smile.safetensors"
    assert "before_restart" not in report
    assert names(comfy) == {"smile.safetensors", "smile_before_restart.safetensors"}
    assert trained(run_graph, prompt, FEWER, "restart")[0] == "again/smile.safetensors"
    assert names(comfy) == {"smile.safetensors", "smile_before_restart.safetensors", "smile_before_restart_2.safetensors"}
    assert steps_of(pack, comfy, "smile_before_restart_2") == steps + 1


def test_a_file_of_another_origin_is_left_alone_and_the_number_says_why(
    prompt: dict[str, Any], run_graph: Any, pack: Any, comfy: Path
) -> None:
    trained(run_graph, prompt, STEPS, "continue")
    pack.part("nodes.running").SESSION.drop("smile")
    shutil.rmtree(comfy / "output" / "sliders")  # the training is forgotten, not restarted: the file may be all there is of it
    name, report = trained(run_graph, prompt, MORE, "continue")
    assert name == "again/smile_2.safetensors"
    assert "again/smile.safetensors holds another slider" in report
    assert steps_of(pack, comfy, "smile") == STEPS
    assert trained(run_graph, prompt, FEWER, "restart")[0] == "again/smile_2.safetensors"
    assert steps_of(pack, comfy, "smile_2_before_restart") == MORE
    assert steps_of(pack, comfy, "smile") == STEPS


def test_with_overwrite_the_file_before_is_not_kept(prompt: dict[str, Any], run_graph: Any, comfy: Path) -> None:
    prompt[SAVE]["inputs"]["overwrite"] = True
    trained(run_graph, prompt, STEPS, "continue")
    assert trained(run_graph, prompt, FEWER, "restart")[0] == "again/smile.safetensors"
    assert names(comfy) == {"smile.safetensors"}
