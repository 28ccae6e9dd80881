"""The quickstart graph on the device: in this process with ComfyUI's own executor, and in a server as a user starts it, where
the memory is managed as ComfyUI chooses (dynamic VRAM, where it has that)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import torch
from gpu.trial import numbers
from graphs import demo_graph
from rings import BUILD, ROOT, find_comfyui

STEPS, LIMIT_S = 6, 180


@pytest.fixture
def prompt() -> dict:
    graph = demo_graph()
    graph["6"]["inputs"] |= {"steps": STEPS, "calibrate": False}
    graph["20"]["inputs"] |= {"steps": 2, "every": 3}
    graph["10"]["inputs"]["steps"] = 2
    return graph


def test_the_quickstart_trains_on_the_device_and_the_model_is_as_it_was(
    prompt: dict, device, run_graph, comfy: Path, pack
) -> None:
    from comfy import model_management

    model = run_graph({"1": prompt["1"]}, model=("1", 0))["model"]
    before = numbers(model.model)
    run = run_graph(prompt, status=("6", 3), strip=("10", 0), slider=("6", 0))
    assert torch.device(model.load_device).type == device.type
    model_management.unload_all_models()  # what was merged for the last picture goes, as ComfyUI takes it back
    assert numbers(model.model) == before
    assert run["slider"].info.step == STEPS
    assert ("(GPU)" if device.type == "cuda" else "(RSS)") in run["status"]
    assert "No live strip" not in run["status"]
    assert run["strip"].std() > 0.05, "something is on the strip"
    assert list((comfy / "models" / "loras").rglob("*.safetensors")), "saved, after a trial in ComfyUI's own loader"


def test_a_server_as_a_user_starts_it_trains_and_saves(prompt: dict, device, tmp_path: Path) -> None:
    harness = pytest.importorskip("harness", reason="the playwright package is missing: run make setup")
    log = BUILD / "gpu-server.log"
    with harness.serve(find_comfyui(), tmp_path, {harness.PACK: ROOT}, log, cpu=device.type == "cpu") as running:
        body = json.dumps({"prompt": prompt}).encode()
        answer = urlopen(Request(f"{running.url}/prompt", body, {"Content-Type": "application/json"}), timeout=30)
        number, end = json.load(answer)["prompt_id"], time.monotonic() + LIMIT_S
        while not (told := running.get(f"/history/{number}")) and time.monotonic() < end:
            time.sleep(0.5)
        assert told, f"not done in {LIMIT_S} s:\n{running.tail()}"
        assert told[number]["status"]["status_str"] == "success", json.dumps(told[number]["status"])[:4000]
        states = running.get("/slider_lora/progress")["nodes"]
    assert [(state["phase"], state["step"], state["trouble"]) for state in states] == [("done", STEPS, "")]
    assert list((tmp_path / "models" / "loras").rglob("*.safetensors"))
