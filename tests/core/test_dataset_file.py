"""SimpleTuner's dataloader JSON: what matters is read, what cannot matter is noted, what is misspelt is an error."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from slider_core.config.checks import SliderError
from slider_core.data.bucket_spec import BucketSpec, CaptionFrom, Crop
from slider_core.data.dataset import read_dataset
from slider_core.data.simpletuner import is_dataset_file, read_dataset_file

PLUS = {"id": "plus", "instance_data_dir": "p", "slider_strength": 0.5}
MINUS = {"id": "minus", "instance_data_dir": "n", "slider_strength": -0.5}


def written(folder: Path, *backends: dict[str, Any]) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(list(backends)), encoding="utf-8")
    return path


def one(tmp_path: Path, **fields: Any) -> BucketSpec:
    return read_dataset_file(written(tmp_path, PLUS | fields))[0][0]


def test_a_plain_file(tmp_path: Path) -> None:
    specs, notes = read_dataset_file(written(tmp_path, PLUS, MINUS, {"id": "rest", "instance_data_dir": "z"}))
    assert [(s.name, s.strength, s.folder) for s in specs] == [
        ("plus", 0.5, str(tmp_path / "p")),
        ("minus", -0.5, str(tmp_path / "n")),
        ("rest", 0.0, str(tmp_path / "z")),
    ]
    assert notes == []


@pytest.mark.parametrize("told", [{}, {"slider_strength": None}, {"slider_strength": 0}, {"slider_strength": 0.0}])
def test_no_strength_is_neutral(told: dict, tmp_path: Path) -> None:
    """Where SimpleTuner itself trains such a bucket at +1."""
    specs, _ = read_dataset_file(written(tmp_path, {"id": "a", "instance_data_dir": "z"} | told))
    assert specs[0].strength == 0.0
    assert specs[0].sign == 0


def test_weights(tmp_path: Path) -> None:
    spec = one(tmp_path, probability=0.25, repeats=3)
    assert (spec.probability, spec.repeats) == (0.25, 3)


@pytest.mark.parametrize(
    ("fields", "side"),
    [
        ({"resolution": 768}, 768),
        ({"resolution": 1.048576, "resolution_type": "area"}, 1024),
        ({"resolution": 512, "resolution_type": "pixel"}, 512),
        ({}, 0),
    ],
)
def test_resolution(fields: dict, side: int, tmp_path: Path) -> None:
    assert one(tmp_path, **fields).resolution == side


@pytest.mark.parametrize(
    ("fields", "crop"),
    [
        ({}, Crop.CENTER),
        ({"crop": False}, Crop.NONE),
        ({"crop": True, "crop_style": "random"}, Crop.RANDOM),
        ({"crop": True, "crop_style": "face"}, Crop.CENTER),
    ],
)
def test_crop(fields: dict, crop: Crop, tmp_path: Path) -> None:
    assert one(tmp_path, **fields).crop is crop


def test_captions(tmp_path: Path) -> None:
    spec = one(tmp_path, caption_strategy="filename", prepend_instance_prompt=True, instance_prompt="sks")
    assert (spec.captions, spec.trigger, spec.caption) == (CaptionFrom.FILENAME, "sks", None)
    spec = one(tmp_path, caption_strategy="instanceprompt", instance_prompt="a face")
    assert (spec.captions, spec.caption) == (CaptionFrom.INSTANCEPROMPT, "a face")
    assert one(tmp_path, only_instance_prompt=True, instance_prompt="x").caption == "x"


@pytest.mark.parametrize("key", ["disabled", "disable"])
def test_disabled_buckets_are_left_out_with_a_note(key: str, tmp_path: Path) -> None:
    specs, notes = read_dataset_file(written(tmp_path, PLUS, MINUS | {key: True}))
    assert [s.name for s in specs] == ["plus"]
    assert notes == ['Backend "minus": disabled, left out.']


def test_what_cannot_matter_is_noted(tmp_path: Path) -> None:
    embeds = {"id": "text", "dataset_type": "text_embeds", "default": True, "cache_dir": "c", "type": "aws"}
    specs, notes = read_dataset_file(written(tmp_path, PLUS | {"cache_dir_vae": "v", "metadata_backend": "discovery"}, embeds))
    assert len(specs) == 1
    assert 'Backend "plus": cache_dir_vae, metadata_backend have no meaning here.' in notes
    assert any("text_embeds is not needed here" in note for note in notes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"slider_strenght": 1}, 'field "slider_strenght" is not known; did you mean "slider_strength"?'),
        ({"instance_data_dir": ""}, "instance_data_dir is missing"),
        ({"caption_strategy": "parquet"}, 'caption_strategy "parquet" is not taken here'),
        ({"caption_strategy": "instanceprompt"}, "needs an instance_prompt"),
        ({"probability": 0}, "probability must be above 0"),
        ({"probability": "1"}, 'probability must be a number, got "1"'),
        ({"repeats": 1.5}, "repeats must be a whole number"),
        ({"repeats": -1}, "repeats must be a whole number from 0"),
        ({"slider_strength": True}, "slider_strength must be a number, got true"),
        ({"disabled": "yes"}, 'disabled must be true or false, got "yes"'),
        ({"type": "aws"}, 'type "aws" is not taken here'),
        ({"dataset_type": "imgae"}, 'did you mean "image"'),
        ({"crop_style": "middle"}, 'crop_style "middle" is not known'),
        ({"resolution": 10**9}, "out of range"),
        ({"resolution_type": "edge"}, 'resolution_type "edge" is not known'),
    ],
)
def test_faults_are_named(fields: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(SliderError) as fault:
        read_dataset_file(written(tmp_path, PLUS | fields, MINUS))
    assert message in str(fault.value)
    assert str(fault.value).startswith('data.json: Backend "plus"') or "Bucket plus" in str(fault.value)


def test_all_faults_in_one_report(tmp_path: Path) -> None:
    with pytest.raises(SliderError) as fault:
        read_dataset_file(written(tmp_path, PLUS | {"idd": 1, "repeats": "x"}, MINUS | {"type": "csv"}, PLUS))
    text = str(fault.value)
    for words in ('"idd"', 'repeats must be a number, got "x"', 'type "csv"', 'Two backends have the id "plus"'):
        assert words in text


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "[1]", "null", '"x"', "[" * 100000])
def test_no_list_of_backends(content: str, tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SliderError, match=r"data\.json"):
        read_dataset_file(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SliderError, match=r"cannot be read: .*gone\.json"):
        read_dataset_file(tmp_path / "gone.json")


def test_from_the_file_to_the_images(tmp_path: Path) -> None:
    for folder, colour in (("p", "red"), ("n", "blue"), ("z", "white")):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (16, 16), colour).save(tmp_path / folder / "a_smiling_face.png")
    rest = {
        "id": "rest",
        "instance_data_dir": "z",
        "caption_strategy": "filename",
        "prepend_instance_prompt": True,
        "instance_prompt": "sks",
    }
    specs, notes = read_dataset_file(written(tmp_path, PLUS | {"repeats": 1}, MINUS, rest))
    dataset = read_dataset(specs, notes=notes)
    assert sorted((s.strength, s.caption) for s in dataset.image_samples) == [(-0.5, ""), (0.0, "sks a smiling face"), (0.5, "")]
    assert "2 times an epoch" in str(dataset.report)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.json", '[{"instance_data_dir": "x"}]', True),
        ("a.JSON", '  [{"id": 1, "instance_data_dir": "x"}]', True),
        ("a.json", '{"instance_data_dir": 1}', False),
        ("a.json", "[1, 2]", False),
        ("a.txt", '[{"instance_data_dir": "x"}]', False),
    ],
)
def test_what_looks_like_a_dataset_file(name: str, content: str, found: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert is_dataset_file(tmp_path / name) is found
