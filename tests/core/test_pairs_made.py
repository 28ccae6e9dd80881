"""Pairs that a model draws: prompts of concepts, what is sorted out, and the folder that a dataset is read from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from core.faults import refused

from slider_core.data import pair_prompts
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.use.pair_folder import DrawnPair, sorted_out, write_pairs
from slider_core.with_tiny.faces import Face, render


def test_every_shipped_concept_makes_two_prompts_that_differ_for_each_subject() -> None:
    concepts = pair_prompts.shipped_concepts()
    assert len(concepts) >= 40
    for concept in concepts.values():
        assert len(concept.subjects) >= 4
        for subject in concept.subjects:
            positive, negative = concept.prompts(subject)
            assert (subject in positive, subject in negative, positive != negative) == (True, True, True)


def test_a_file_of_ones_own_is_read_or_refused_by_name(tmp_path: Path) -> None:
    cases = [
        ({"positive": "a"}, "pair_prompts.text"),
        ({"positive": "a", "negative": "a"}, "pair_prompts.same"),
        ({"positive": "a", "negative": "b", "subject": []}, "pair_prompts.field"),
        ({"positive": "a", "negative": "b", "subjects": "poeple"}, "pair_prompts.list"),
        ({"positive": "a", "negative": "b", "subjects": [1]}, "pair_prompts.subjects"),
        ({"positive": "{subject}, a", "negative": "b", "subjects": []}, "pair_prompts.no_subject"),
        ({"positive": "", "negative": " "}, "pair_prompts.empty"),
        ({"positive": "a", "negative": "b" * 3000}, "pair_prompts.too_long"),
        ([], "pair_prompts.fields"),
        ("{", "pair_prompts.not_json"),
    ]
    path = tmp_path / "grin.json"
    for content, code in cases:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        with refused(code, "grin"):
            pair_prompts.read_concept(path)
    path.write_text(json.dumps({"positive": "{subject}, grin", "negative": "sad", "subjects": "people"}), encoding="utf-8")
    concept = pair_prompts.read_concept(path)
    assert concept.name == "grin"
    first = concept.subjects[0]
    assert concept.prompts(first) == (f"{first}, grin", f"{first}, sad")


def pair(positive: Face, negative: Face) -> DrawnPair:
    images = render([positive, negative])
    return DrawnPair(images[0], images[1], positive.caption)


def test_pairs_in_which_more_or_nothing_differs_are_left_out() -> None:
    skins = ("light", "tan", "brown", "dark")
    good = [pair(Face(1.0, skin=skin), Face(-1.0, skin=skin)) for skin in skins]
    same = pair(Face(1.0), Face(1.0))
    other = pair(Face(1.0, background="blue"), Face(-1.0, skin="dark", background="green", size=1.0))
    assert sorted(sorted_out([*good, same, other])) == [4, 5]
    assert sorted_out(good) == {}


def test_a_folder_is_what_a_dataset_is_read_from_and_a_second_one_takes_another_name(tmp_path: Path) -> None:
    pairs = [pair(Face(1.0, x=x), Face(-1.0, x=x)) for x in (-0.5, 0.0, 0.5)]
    first, second = (write_pairs(tmp_path, "smile", pairs, {"concept": "smile"}) for _ in range(2))
    assert [first.name, second.name] == ["smile", "smile_2"]
    dataset = read_dataset(bucket_folders(first))
    assert len(dataset.pairs) == 3
    assert dataset.pairs[0][0].caption == Face().caption
    described = json.loads((first / "pairs.json").read_text(encoding="utf-8"))
    assert [row["file"] for row in described["pairs"]] == ["001.png", "002.png", "003.png"]
    assert sorted(place.name for place in tmp_path.iterdir()) == ["smile", "smile_2"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with refused("pairs.not_written", tmp_path):
        write_pairs(tmp_path, "smile", [pair(Face(1.0), Face(-1.0))], {})
    assert list(tmp_path.iterdir()) == []
    with refused("file.name"):
        write_pairs(tmp_path, "a/b", [], {})


def test_grey_pictures_are_no_pair() -> None:
    grey = torch.full((3, 32, 32), 0.5)
    assert list(sorted_out([DrawnPair(grey, grey + 0.1, "")])) == [0]


def test_a_template_shows_no_other_concept_than_the_one_that_its_prompts_draw() -> None:
    """The prompts at the input win; what stands in the node's own list would be read as what is drawn."""
    root = Path(__file__).parents[2]
    for file in sorted((root / "workflows").glob("*.json")):
        nodes = {node["type"]: node for node in json.loads(file.read_text(encoding="utf-8"))["nodes"]}
        if "SliderPairMaker" not in nodes or "SliderPairPrompts" not in nodes:
            continue
        concept = nodes["SliderPairMaker"]["widgets_values"][0]
        assert concept in pair_prompts.shipped_concepts()
        drawn = nodes["SliderPairPrompts"]["widgets_values"][0]
        assert any(word in drawn for word in concept.split()), (file.name, concept, drawn)


def test_the_app_that_trains_has_the_handle_and_says_nothing_of_fields_that_it_lacks() -> None:
    root = Path(__file__).parents[2]
    app = json.loads((root / "workflows" / "slider_train.app.json").read_text(encoding="utf-8"))
    shown = app["extra"]["linearData"]["inputs"]
    types = {str(node["id"]): node["type"] for node in app["nodes"]}
    assert [types[str(node)] for node, widget in shown if widget == "scrubber"] == ["SliderStrengthSweep"]
    idle = next(line for line in (root / "web" / "panel.mjs").read_text().splitlines() if "A training shows here" in line)
    assert not {"steps", "rate"} & set(idle.split())
