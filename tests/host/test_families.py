"""A loaded model's family: nodes draw and train by it where a value is 0 or auto. That each has one: test_architectures.py."""

import pytest
import torch
from graphs import demo_graph
from zoo.animals import TINY
from zoo.model import build_tiny


def test_a_shift_and_a_guidance_are_set_where_nobody_has_set_them(pack) -> None:
    family, rows = pack.core("with_comfy.family"), pack.core("families.table")
    chroma = next(entry for entry in TINY if entry.title == "Chroma")
    patcher = build_tiny(chroma)
    likes = family.preferences_of(patcher)
    assert likes.title == "Chroma"
    once = family.shifted(patcher, likes)
    sampling = once.get_model_object("model_sampling")
    assert float(sampling.percent_to_sigma(0.5)) == pytest.approx(0.5, abs=1e-3), "shift 1 is none"
    assert float(patcher.get_model_object("model_sampling").percent_to_sigma(0.5)) > 0.6, "the model is as it was"
    assert family.shifted(once, likes) is once
    cond = [[torch.zeros(1, 1, 1), {}], [torch.zeros(1, 1, 1), {"guidance": 2.0}]]
    assert [extra["guidance"] for _, extra in family.guided(cond, 3.5)] == [3.5, 2.0]
    assert rows.UNKNOWN.drawing.guidance == 0


def test_the_nodes_say_what_they_took_and_need_no_conditioning(run_graph) -> None:
    """Nothing but a prompt: the family's size, steps and sampler, for the strip and for the sweep alike."""
    graph = demo_graph()
    graph["6"]["inputs"] |= {"steps": 2, "calibrate": False, "batch": 0, "resolution": 0, "strip_every": 0}
    text = {"prompt": "a face", "clip": ["1", 1], "picture_seed": 7, "distilled": "yes"}
    own = {"steps": 2, "cfg": 0.0, "sampler_name": "auto", "scheduler": "auto"}
    graph["20"] = {"class_type": "SliderSampling", "inputs": text | own}
    graph["10"]["inputs"] |= {"rows": 1, "strengths": "0, 1"}
    graph = {k: graph[k] for k in ("1", "2", "5", "6", "10", "20")}
    run = run_graph(graph, status=("6", 3), report=("10", 3), images=("10", 1))
    assert run["images"].shape == (2, 64, 64, 3)
    assert "Drawn as the built-in model, distilled likes it: cfg 1, euler, simple." in run["report"]
    assert "64 pixels, batch 4, the noise levels of 4 sampler steps" in run["status"]
    graph["20"]["inputs"].pop("clip")
    graph["6"]["inputs"]["name"] = "again"
    with pytest.raises(run_graph.Error, match="connect clip to encode the prompt"):
        run_graph(graph)


def test_file_names_before_the_model_are_read_from_the_graph(pack, monkeypatch) -> None:
    files = pack.part("nodes.graph_files")
    monkeypatch.setattr(files, "executing_node", lambda: "9")
    graph = {
        "1": {"inputs": {"unet_name": "z_image.safetensors", "weight_dtype": "default"}},
        "2": {"inputs": {"vae_name": "turbo_vae.safetensors"}},
        "3": {"inputs": {"model": ["1", 0], "lora_name": "a\\z_turbo_8steps.safetensors"}},
        "9": {"inputs": {"model": ["3", 0], "vae": ["2", 0]}},
    }
    assert files.model_files(graph) == ["z_image.safetensors", "z_turbo_8steps.safetensors"]
    assert files.model_files(None) == []
