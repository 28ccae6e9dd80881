"""What the panel of Load Slider Dataset is answered: listings, moves, findings; only ComfyUI's input folder is ever changed."""

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest
from host.test_datasets import copied
from PIL import Image


def test_a_folder_is_listed_changed_and_examined(pack, comfy: Path) -> None:
    routes = pack.part("nodes.dataset_routes")
    copied(pack.root / "demo_pairs" / "smile", comfy / "input" / "dropped")
    listed = routes.listing("dropped")
    assert listed["editable"]
    assert listed["by_name"]
    assert len(listed["rows"]) == 6
    assert listed["subfolders"]["neutral"] == "dropped/neutral"
    assert listed["subfolders"]["removed"] == "dropped/removed", "where a file waits that replaces another"
    swap = [["positive/03.png", "negative/03.png"], ["negative/03.png", "positive/03.png"]]
    answer = routes.moved({"folder": "dropped", "moves": swap})
    assert [list(move) for move in answer["moved"]] == swap
    assert answer["listing"]["stamps"]["positive/03.png"] == listed["stamps"]["negative/03.png"]
    found = routes.findings("dropped", False)
    assert [pair["positive"] for pair in found["pairs"] if pair["words"]] == ["03.png"]
    with Image.open(comfy / "temp" / found["sheet"]["filename"]) as sheet:
        assert list(sheet.size) == list(found["size"])
    bands = [pair["band"] for pair in found["pairs"]]
    assert all(top + height <= after for (top, height), (after, _) in pairwise(bands)), "a row of the picture for each pair"
    assert sum(bands[-1]) <= found["size"][1]


def test_the_doctor_reads_as_the_node_says(pack, comfy: Path) -> None:
    routes, options = pack.part("nodes.dataset_routes"), pack.part("nodes.dataset_options").SliderDatasetOptions
    home = comfy / "input" / "captioned"
    copied(pack.root / "demo_pairs" / "smile", home)
    for side in ("positive", "negative"):
        for file in (home / side).glob("*.txt"):
            file.unlink()
    (home / "positive" / "02.txt").write_text("a face", encoding="utf-8")

    def warned(**widgets: object) -> list[str]:
        found = routes.findings("captioned", False, json.dumps(widgets))
        return [pair["positive"] for pair in found["pairs"] if any("caption" in text for text in pair["words"])]

    assert warned() == warned(caption="", folder="x", seed=None) == ["02.png"]
    assert warned(caption="a face") == warned(caption_from="none") == []
    assert warned(caption_from="textfile") == ["02.png"]
    assert not routes.findings("captioned", False, '{"pairing": "random"}')["pairs"]
    names = {name.id for name in options.define_schema().inputs}
    assert names <= {field.name for field in dataclasses.fields(pack.core("data.source").DatasetChoices)}, "none is left out"
    shown = pack.part("nodes.dataset").LoadSliderDataset.execute("captioned", "a face").ui["slider_dataset"][0]
    assert routes.findings("captioned", False, '{"caption": "a face"}') is shown, "not examined again"
    for wrong in ('{"flip": "yes"}', '{"caption": 1}', "[]", "{", '{"pairing": "sideways"}'):
        with pytest.raises(pack.core("config.checks").SliderError):
            routes.findings("captioned", False, wrong)


def test_a_choice_is_as_a_run_read_it_until_a_file_changes(pack, comfy: Path) -> None:
    routes, places = pack.part("nodes.dataset_routes"), pack.part("nodes.dataset_places")
    load = pack.part("nodes.dataset").LoadSliderDataset
    error = pack.core("config.checks").SliderError
    home = comfy / "input" / "unequal_sides"
    copied(pack.root / "demo_pairs" / "smile", home)
    (home / "negative" / "06.png").unlink()
    assert not routes.listing("unequal_sides")["as_read"], "no run has read it"
    with pytest.raises(error) as fault:
        load.execute("unequal_sides", "")
    assert fault.value.code == "dataset.unequal"
    sentence = str(fault.value)
    assert "positive/06.png" in sentence
    assert "unequal" in sentence
    assert "--" not in sentence
    assert str(comfy) not in sentence, "no path of the server"
    assert len(sentence) < 260
    assert routes.listing("unequal_sides")["as_read"]
    routes.findings("unequal_sides", True)
    assert routes.listing("unequal_sides")["as_read"], "the doctor changes nothing"
    moved = routes.moved({"folder": "unequal_sides", "moves": [["positive/06.png", "removed"]]})
    assert not moved["listing"]["as_read"]
    assert load.execute("unequal_sides", "").args
    assert places.is_as_read("unequal_sides")
    for name in ("none", "gone"):
        with pytest.raises(error):
            load.execute(name, "")
        assert routes.listing(name)["as_read"], "the same fault again"


def test_a_set_is_renamed_where_it_lies(pack, comfy: Path) -> None:
    routes = pack.part("nodes.dataset_routes")
    error = pack.core("config.checks").SliderError
    copied(pack.root / "demo_pairs" / "smile", comfy / "input" / "mine" / "misspelt")
    answer = routes.renamed({"folder": "mine/misspelt", "name": " well spelt "})
    assert answer["folder"] == "mine/well spelt"
    assert answer["listing"]["editable"]
    assert len(answer["listing"]["rows"]) == 6
    assert "mine/misspelt" not in answer["listing"]["choices"]
    (comfy / "input" / "taken" / "positive").mkdir(parents=True)
    copied(pack.root / "demo_pairs" / "smile", comfy / "input" / "other")
    for request, code in (
        ({"folder": "other", "name": "Taken"}, "rename.taken"),
        ({"folder": "other", "name": "none"}, "rename.taken"),
        ({"folder": "other", "name": ""}, "file.no_name"),
        ({"folder": "other", "name": ".."}, "file.no_name"),
        ({"folder": "other", "name": "../outside"}, "file.name"),
        ({"folder": "demo: smile", "name": "x"}, "edit.demo"),
        ({"folder": "other"}, "edit.request"),
        ({"folder": "other", "name": 1}, "edit.request"),
        ([], "edit.request"),
    ):
        with pytest.raises(error) as fault:
            routes.renamed(request)
        assert fault.value.code == code, request
    assert (comfy / "input" / "other").is_dir()


def test_what_may_not_be_changed_says_why(pack, comfy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    routes = pack.part("nodes.dataset_routes")
    error = pack.core("config.checks").SliderError
    faces = pack.root / "demo_pairs" / "smile"
    copied(faces, tmp_path / "elsewhere")
    (comfy / "input" / "led_away").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    copied(faces, comfy / "input" / "by_hand")
    (comfy / "input" / "by_hand" / "strength_+0.5").mkdir()
    moves = [["positive/01.png", "removed"]]
    for name, code in (
        ("demo: smile", "edit.demo"),
        ("led_away", "dataset.outside"),
        ("by_hand", "edit.strength"),
        ("../elsewhere", "dataset.not_found"),
    ):
        assert not routes.listing(name)["editable"]
        with pytest.raises(error) as fault:
            routes.moved({"folder": name, "moves": moves})
        assert fault.value.code == code
    for request in (None, [], {"folder": 1, "moves": []}, {"folder": "x", "moves": [["a"]]}, {"folder": "x", "moves": [1]}):
        with pytest.raises(error) as fault:
            routes.moved(request)
        assert fault.value.code == "edit.request"
    monkeypatch.setattr(routes, "UNASKED_FILES", 3)
    copied(faces, comfy / "input" / "large")
    assert routes.findings("large", False)["waits"] == 12
    assert routes.findings("large", True)["pairs"]
