"""SimpleTuner's dataloader JSON: what matters is read, what cannot matter is noted, what is misspelt is an error."""

import json
from pathlib import Path
from typing import Any

from core.faults import refused

from slider_core.data.bucket_spec import BucketSpec, CaptionFrom, Crop
from slider_core.data.simpletuner import read_dataset_file

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


def test_no_strength_is_neutral(tmp_path: Path) -> None:
    """Where SimpleTuner itself trains such a bucket at +1."""
    for fields in ({}, {"slider_strength": None}, {"slider_strength": 0}):
        specs, _ = read_dataset_file(written(tmp_path, {"id": "a", "instance_data_dir": "z"} | fields))
        assert specs[0].strength == 0.0, fields


def test_fields_become_choices(tmp_path: Path) -> None:
    cases = [
        ({"probability": 0.25, "repeats": 3}, {"probability": 0.25, "repeats": 3}),
        ({"resolution": 768}, {"resolution": 768}),
        ({"resolution": 1.048576, "resolution_type": "area"}, {"resolution": 1024}),
        ({"resolution": 512, "resolution_type": "pixel"}, {"resolution": 512}),
        ({}, {"resolution": 0, "crop": Crop.CENTER, "captions": CaptionFrom.TEXTLINES, "repeats": 0, "most": 0}),
        ({"disable_multiline_split": True, "max_num_samples": 3}, {"captions": CaptionFrom.TEXTFILE, "most": 3}),
        ({"crop": False}, {"crop": Crop.NONE}),
        ({"crop": True, "crop_style": "random"}, {"crop": Crop.RANDOM}),
        ({"crop": True, "crop_style": "face"}, {"crop": Crop.CENTER}),
        (
            {"caption_strategy": "filename", "prepend_instance_prompt": True, "instance_prompt": "sks"},
            {"captions": CaptionFrom.FILENAME, "trigger": "sks", "caption": None},
        ),
        (
            {"caption_strategy": "instanceprompt", "instance_prompt": "a face"},
            {"captions": CaptionFrom.INSTANCEPROMPT, "caption": "a face", "trigger": ""},
        ),
        ({"only_instance_prompt": True, "instance_prompt": "x"}, {"caption": "x"}),
    ]
    for fields, expected in cases:
        bucket = one(tmp_path, **fields)
        assert {name: getattr(bucket, name) for name in expected} == expected, fields


def test_disabled_buckets_are_left_out_with_a_note(tmp_path: Path) -> None:
    for key in ("disabled", "disable"):
        specs, notes = read_dataset_file(written(tmp_path, PLUS, MINUS | {key: True}))
        assert [s.name for s in specs] == ["plus"]
        assert len(notes) == 1
        assert "minus" in notes[0]


def test_what_cannot_matter_is_noted(tmp_path: Path) -> None:
    embeds = {"id": "text", "dataset_type": "text_embeds", "default": True, "cache_dir": "c", "type": "aws"}
    specs, notes = read_dataset_file(written(tmp_path, PLUS | {"cache_dir_vae": "v", "metadata_backend": "discovery"}, embeds))
    assert len(specs) == 1
    assert [name in "".join(notes) for name in ("cache_dir_vae", "metadata_backend", "text_embeds")] == [True] * 3


def test_what_is_unlike_any_field_is_noted_and_what_is_for_readers_is_not(tmp_path: Path) -> None:
    fields = {"wholly_other": 1, "_comment": "a", "comment": "b", "Notes": "c", "read_batch_size": 2, "max_num_samples": 4}
    specs, notes = read_dataset_file(written(tmp_path, PLUS | fields, MINUS))
    assert len(specs) == 2
    assert [name in "".join(notes) for name in ("wholly_other", "read_batch_size", "omment", "Notes")] == [
        True,
        True,
        False,
        False,
    ]


def test_nothing_is_checked_of_a_backend_that_is_left_out(tmp_path: Path) -> None:
    odd = {"id": "plus", "type": "huggingface", "slider_strenght": 1, "repeats": "x"}
    for off in ({"disabled": True}, {"dataset_type": "caption"}, {"dataset_type": "distillation_cache"}):
        assert len(read_dataset_file(written(tmp_path, PLUS, MINUS, odd | off))[0]) == 2


FAULTS = [
    ({"slider_strenght": 1}, "field", '"slider_strength"'),
    ({"instance_data_dir": ""}, "folder", "instance_data_dir"),
    ({"caption_strategy": "parquet"}, "caption_strategy", "parquet"),
    ({"caption_strategy": "instanceprompt"}, "instance_prompt", ""),
    ({"probability": "1"}, "number", '"1"'),
    ({"repeats": 1.5}, "repeats", 1.5),
    ({"slider_strength": True}, "number", "true"),
    ({"disabled": "yes"}, "flag", '"yes"'),
    ({"instance_prompt": 3}, "text", 3),
    ({"type": "aws"}, "type", "aws"),
    ({"dataset_type": "imgae"}, "dataset_type", '"image"'),
    ({"crop_style": "middle"}, "crop_style", "middle"),
    ({"resolution": 10**9}, "resolution", 16384),
    ({"resolution": 1.5}, "resolution", '"area"'),
    ({"resolution_type": "edge"}, "resolution_type", "edge"),
]


def test_faults_are_named(tmp_path: Path) -> None:
    for fields, problem, value in FAULTS:
        with refused(f"dataset_file.{problem}", "data.json", "plus", value):
            read_dataset_file(written(tmp_path, PLUS | fields, MINUS))


def test_faults_of_a_bucket_are_named(tmp_path: Path) -> None:
    for fields, problem in (({"probability": 0}, "probability"), ({"repeats": -1}, "repeats")):
        with refused(f"bucket_spec.{problem}", "data.json", "plus"):
            read_dataset_file(written(tmp_path, PLUS | fields, MINUS))


def test_all_faults_in_one_report(tmp_path: Path) -> None:
    with refused("dataset_file.field", '"idd"', "repeats", '"x"', '"csv"', '"plus"') as fault:
        read_dataset_file(written(tmp_path, PLUS | {"idd": 1, "repeats": "x"}, MINUS | {"type": "csv"}, PLUS))
    assert len(str(fault.value).splitlines()) == 4


def test_no_list_of_backends(tmp_path: Path) -> None:
    cases = {"": "json", "{": "json", "[" * 100000: "json", "{}": "list", "[]": "list", "[1]": "list", '"x"': "list"}
    for content, problem in cases.items():
        path = tmp_path / "data.json"
        path.write_text(content, encoding="utf-8")
        with refused(f"dataset_file.{problem}", path):
            read_dataset_file(path)
    with refused("dataset_file.unreadable", "gone.json"):
        read_dataset_file(tmp_path / "gone.json")
