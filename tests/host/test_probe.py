"""Slider Probe in a graph: pairs whose size differs ask the demo model for one thing, mixed up pairs do not."""

from __future__ import annotations

import dataclasses

import torch


def bucket(strength: float, images: list, before: str = "") -> dict:
    return {
        "class_type": "SliderBucket",
        "inputs": {"strength": strength, "captions": "", "images": images} | ({"dataset": [before, 0]} if before else {}),
    }


def test_the_probe_tells_pairs_in_order_from_pairs_that_are_not(pack, run_graph) -> None:
    faces = pack.core("with_tiny.faces")
    some = faces.sample_faces(4, torch.Generator().manual_seed(2))
    large, small = ([dataclasses.replace(face, size=value) for face in some] for value in (0.9, -0.9))
    mixed = [small[0], large[1], small[2], large[3]], [large[0], small[1], large[2], small[3]]
    found = {}
    for name, (plus, minus) in {"in order": (large, small), "mixed": mixed}.items():
        images = [run_graph.give(faces.render(side).movedim(1, -1)) for side in (plus, minus)]
        prompt = {"1": {"class_type": "SliderDemoModel", "inputs": {}}, "2": images[0], "3": images[1]}
        prompt |= {"4": bucket(1.0, ["2", 0]), "5": bucket(-1.0, ["3", 0], "4")}
        links = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "dataset": ["5", 0]}
        prompt["6"] = {"class_type": "SliderProbe", "inputs": links}
        done = run_graph(prompt, report=("6", 0), curve=("6", 1))
        assert done["curve"].shape == (1, 520, 900, 3)
        found[name] = float(done["report"].split("mean cosine of ")[1].split()[0])
    assert found["in order"] > 0.2 > abs(found["mixed"])
