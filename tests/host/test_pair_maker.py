"""Slider Pair Maker: the loaded model draws pairs in which its own concept differs, or images of the graph become pairs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

PROMPTS = {"concept": "smile", "positive": "{subject}, open eyes", "negative": "{subject}, closed eyes", "seed": 3}
SUBJECTS = "a face with light skin on a blue background\na face with brown skin on a green background"
GIVEN_OUT = {"dataset": ("2", 0), "positive": ("2", 1), "negative": ("2", 2), "report": ("2", 3)}


def graph(**inputs: object) -> dict:
    """The demo model and the maker; an input of None is left out."""
    links = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}
    given = PROMPTS | links | {"name": "", "pairs": 4, "subjects": SUBJECTS} | inputs
    maker = {"class_type": "SliderPairMaker", "inputs": {key: value for key, value in given.items() if value is not None}}
    return {"1": {"class_type": "SliderDemoModel", "inputs": {}}, "2": maker}


def test_the_demo_model_draws_pairs_whose_eyes_differ(pack, run_graph, comfy: Path) -> None:
    done = run_graph(graph(name="drawn eyes"), **GIVEN_OUT)
    folder = comfy / "input" / "drawn eyes"
    described = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
    assert len(described["pairs"]) == len(done["dataset"].pairs) == len(done["positive"]) == 4
    assert str(folder) in done["report"]
    assert "drawn eyes" in pack.part("nodes.dataset_places").choices()
    measure = pack.core("with_tiny.faces").measure
    plus, minus = (measure(done[side].movedim(-1, 1)) for side in ("positive", "negative"))
    for row, wide, shut in zip(described["pairs"], plus, minus, strict=True):
        assert wide.eyes - shut.eyes > 0.5
        assert abs(wide.x - shut.x) < 0.3
        assert wide.skin == shut.skin == row["positive"].split()[3]
    again = run_graph(graph(name="drawn eyes", seed=4), **GIVEN_OUT)
    assert "drawn eyes_2" in again["report"]
    for place in comfy.glob("input/drawn eyes*"):
        shutil.rmtree(place)


def test_pairs_of_an_edit_model_come_out_of_the_graph(pack, run_graph, comfy: Path) -> None:
    faces = pack.core("with_tiny.faces")
    happy, sad = (faces.render([faces.Face(mouth, x=x) for x in (0, 0.2, 0.4)]).movedim(1, -1) for mouth in (1, -1))
    sad[1] = happy[1]
    prompt = graph(name="edited", model=None, clip=None, vae=None, positive_images=["3", 0], negative_images=["4", 0])
    done = run_graph(prompt | {"3": run_graph.give(happy), "4": run_graph.give(sad)}, **GIVEN_OUT)
    assert len(done["dataset"].pairs) == 2
    assert "pair 2" in done["report"]
    shutil.rmtree(comfy / "input" / "edited")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"vae": None}, "connect all three"),
        ({"concept": "no such", "name": "x"}, "no such"),
        ({"positive": "{subject}, open eyes", "negative": "{subject}, open eyes"}, "same prompt"),
        ({"negative": "{subject}, open eyes "}, "same prompt"),
        ({"name": "../away"}, "character"),
        ({"positive": "{subject}, with a violin", "negative": "{subject}, with a trumpet"}, "nothing was saved"),
    ],
)
def test_what_cannot_be_made_is_said_and_leaves_nothing(inputs: dict, words: str, run_graph, comfy: Path) -> None:
    before = set((comfy / "input").iterdir())
    with pytest.raises(run_graph.Error, match=r"(?s).*") as fault:
        run_graph(graph(**inputs), **GIVEN_OUT)
    assert words.lower() in fault.value.text.lower()
    assert set((comfy / "input").iterdir()) == before
