"""What lies beside images: several captions of which a step draws one, strengths of single images, folders of other names."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from core.faults import refused
from core.test_bucket_files import put

from slider_core.config.training import Objective, TrainSpec
from slider_core.data.bucket_spec import BucketSpec, CaptionFrom, Pairing
from slider_core.data.bucket_text import has_strengths
from slider_core.data.buckets import read_bucket
from slider_core.data.dataset import bucket_folders, read_dataset, sides_named
from slider_core.data.folder_leftovers import leftovers
from slider_core.data.simpletuner import read_dataset_file
from slider_core.data.source import DatasetChoices
from slider_core.encode.encoder import encode
from slider_core.objective.batch_plan import plan
from slider_core.with_tiny.model import TinyBackend

LINES = "a face\n\n  a  head \na face\n"


def test_the_captions_of_an_image(tmp_path: Path) -> None:
    cases = [
        ("1.txt", LINES, CaptionFrom.TEXTLINES, ("w a face", "w a head")),
        ("1.caption", LINES, CaptionFrom.TEXTFILE, ("w a face a head a face",)),
        ("1.txt", " \n", CaptionFrom.TEXTLINES, ("w",)),
        ("1.json", '{"prompt": "a face", "strength": 1}', CaptionFrom.TEXTLINES, ("w a face",)),
        ("metadata.csv", 'file_name,text\n1.png,"a, b"\n', CaptionFrom.TEXTFILE, ("w a, b",)),
        ("metadata.csv", 'file_name,text\n1.png,"a\nb"\n', CaptionFrom.TEXTFILE, ("w a b",)),
        ("metadata.jsonl", '{"file_name": "1.png", "tags": ["a", "b"]}\n', CaptionFrom.TEXTLINES, ("w a, b",)),
        ("metadata.jsonl", '{"file_name": "1.png", "text": "a\u2028b"}\n', CaptionFrom.TEXTFILE, ("w a b",)),
    ]
    for number, (name, content, how, captions) in enumerate(cases):
        folder = tmp_path / str(number)
        folder.mkdir()
        put(folder / "1.png")
        (folder / name).write_text(content, encoding="utf-8")
        bucket, faults = read_bucket(BucketSpec(str(folder), 1.0, captions=how, trigger="w"))
        assert (bucket.image_samples[0].captions, faults, bucket.unused) == (captions, [], ())


def two_sides(root: Path, captions: str) -> None:
    for side in ("positive", "negative"):
        for number in range(2):
            put(root / side / f"{number}.png", 30 + 90 * number)
            (root / side / f"{number}.txt").write_text(captions, encoding="utf-8")


@pytest.mark.parametrize("objective", [Objective.DENOISE_PAIRED, Objective.DENOISE_ROTATING])
def test_a_step_draws_one_caption_and_a_pair_the_same(objective: Objective, tmp_path: Path) -> None:
    two_sides(tmp_path, "one\ntwo\nthree")
    samples = encode(read_dataset(bucket_folders(tmp_path, captions=CaptionFrom.TEXTLINES)), TinyBackend(), 16)
    spec = TrainSpec(objective=objective, batch=2, seed=5)
    steps = [[s.cond.text for s in plan(samples, spec).batch(step).samples] for step in range(60)]
    assert steps == [[s.cond.text for s in plan(samples, spec).batch(step).samples] for step in range(60)]
    if objective is Objective.DENOISE_PAIRED:
        assert all(positive == negative for positive, negative in steps)
    counts = Counter(text for step in steps for text in step)
    assert set(counts) == {"one", "two", "three"}
    assert min(counts.values()) > 20


def test_a_dataset_file_splits_captions_unless_told_otherwise_and_draws_the_same_names_on_both_sides(tmp_path: Path) -> None:
    for side in ("p", "n"):
        for number in range(9):
            put(tmp_path / side / f"{number}.png")
            (tmp_path / side / f"{number}.txt").write_text("one\ntwo", encoding="utf-8")
    file = tmp_path / "data.json"
    plus = {"id": "p", "instance_data_dir": "p", "slider_strength": 1, "max_num_samples": 4}
    minus = {"id": "n", "instance_data_dir": "n", "slider_strength": -1, "max_num_samples": 4, "disable_multiline_split": True}
    file.write_text(json.dumps([plus, minus]), encoding="utf-8")
    dataset = DatasetChoices(caption="a face", crop="none").read(file)
    assert len(dataset.pairs) == 4
    assert "caption, crop" in dataset.report, "which the file says itself"
    for positive, negative in dataset.pairs:
        assert positive.name == negative.name
        assert (positive.captions, negative.captions) == (("one", "two"), ("one two",))
    file.write_text(json.dumps([plus, minus | {"max_num_samples": None}]), encoding="utf-8")
    assert len(read_dataset(*read_dataset_file(file)[:1]).pairs) == 4, "limited on one side alone"
    file.write_text(json.dumps([plus | {"max_num_samples": -1}, minus]), encoding="utf-8")
    with refused("bucket_spec.most", "p", "-1"):
        read_dataset_file(file)


NAMES = [
    (["pos", "neg"], {"pos": 2.0, "neg": -2.0}),
    (["1", "-1", "0"], {"1": 1.0, "-1": -1.0, "0": 0.0}),
    (["10_positive", "3_negative"], {"10_positive": 2.0, "3_negative": -2.0}),
    (["Plus", "minus", "2024"], {"Plus": 2.0, "minus": -2.0}),
]


def test_folders_as_other_programs_name_them(tmp_path: Path) -> None:
    for number, (names, strengths) in enumerate(NAMES):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in names:
            put(folder / name / "1.png")
        specs = bucket_folders(folder, strength=2.0)
        assert {Path(spec.folder).name: spec.strength for spec in specs} == strengths
        assert {spec.repeats for spec in specs} <= ({9, 2} if "10_positive" in names else {0})
        assert (sides_named(names), sides_named(["2024", "1"])) == (2, 0)


def refuse_shut(listed: Callable[[Path], Iterator[Path]], folder: Path) -> Iterator[Path]:
    if folder.name == "shut":
        raise PermissionError(13, "Permission denied")
    return listed(folder)


def test_what_lies_beside_the_sides_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir
    images = (
        "positive/1.png",
        "negative/1.png",
        "extra/2.png",
        "loose.png",
        "positive_mask/1.png",
        "removed/3.png",
        ".hid/4.png",
    )
    for name in images:
        put(tmp_path / name)
    (tmp_path / "empty").mkdir()
    specs = bucket_folders(tmp_path)
    lines = leftovers(tmp_path, specs)
    dataset = read_dataset(specs, beside=lines)
    assert [name for line in lines for name in ("extra/", "loose.png", "mask", "removed", ".hid", "empty") if name in line] == [
        "extra/",
        "loose.png",
    ]
    assert dataset.unused[:2] == lines
    assert all(line in dataset.report for line in lines)
    (tmp_path / "shut").mkdir()
    monkeypatch.setattr(Path, "iterdir", lambda self: refuse_shut(listed, self))
    assert "shut/" in leftovers(tmp_path, specs)[0], "not listed, and no error"
    put(tmp_path / "graded" / "1.png")
    assert leftovers(tmp_path / "graded", [BucketSpec(str(tmp_path / "graded"), 0.0)]) == [], "its images lie right in it"


def test_two_folders_may_be_chosen(tmp_path: Path) -> None:
    for name in ("bigsize", "smallsize", "10_smile", "old"):
        put(tmp_path / name / "1.png")
    with refused("dataset.side", "bigsize", "positive_folder"):
        bucket_folders(tmp_path)
    specs = bucket_folders(tmp_path, positive="10_Smile/", negative="smallsize")
    assert [(Path(s.folder).name, s.strength, s.repeats) for s in specs] == [("10_smile", 1.0, 9), ("smallsize", -1.0, 0)]
    for sides, named in (({"positive": "bigsize"}, '""'), ({"positive": "big", "negative": "old"}, '"big"')):
        with refused("dataset.chosen", named, "smallsize"):
            bucket_folders(tmp_path, **sides)
    with refused("dataset.chosen", "old"):
        bucket_folders(tmp_path, positive="old", negative="old")


GRADES = {"1": 1.0, "2": 0.25, "3": -0.5, "4": 0.0}


def graded(root: Path, how: str) -> None:
    for name in GRADES:
        put(root / f"{name}.png", 50 * int(name))
        (root / f"{name}.txt").write_text("a face", encoding="utf-8")
    rows: list[dict[str, Any]] = [{"file_name": f"{name}.png", "strength": value} for name, value in GRADES.items()]
    if how == "json":
        for row in rows:
            (root / row["file_name"]).with_suffix(".json").write_text(json.dumps(row), encoding="utf-8")
    elif how == "jsonl":
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        lines = [f"{row['file_name']},{row['strength']}" for row in rows]
        (root / "metadata.csv").write_text("\n".join(["file_name,slider_strength", *lines]), encoding="utf-8")


def test_a_clip_has_a_strength_of_its_own_as_an_image_has(tmp_path: Path) -> None:
    (tmp_path / "1.mp4").write_bytes(b"")
    (tmp_path / "1.json").write_text('{"strength": 1}', encoding="utf-8")
    assert has_strengths(tmp_path)


@pytest.mark.parametrize("how", ["json", "csv", "jsonl"])
@pytest.mark.parametrize("inside", ["", "faces"])
def test_graded_images_in_one_folder_are_a_dataset(how: str, inside: str, tmp_path: Path) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    graded(tmp_path / inside, how)
    dataset = read_dataset(bucket_folders(tmp_path))
    assert {sample.name: (sample.strength, sample.caption) for sample in dataset.image_samples} == {
        name: (value, "a face") for name, value in GRADES.items()
    }
    assert (dataset.spec.pairing, dataset.unused) == (Pairing.RANDOM, [])
    samples = encode(dataset, TinyBackend(), 16)
    spec = TrainSpec(objective=Objective.DENOISE_ROTATING, batch=1, seed=0)
    trained_at = {strength for step in range(12) for strength in plan(samples, spec).batch(step).strengths}
    assert {1.0, 0.25, -0.5} <= trained_at


STAGES = (1.0, 0.5, 0.0, -1.0)
BY_STAGE = {(1.0, -1.0), (0.5, -1.0), (1.0, 0.0), (0.0, -1.0)}


@pytest.mark.parametrize("own", [False, True])
def test_stages_of_a_subject_are_paired_with_each_other(own: bool, tmp_path: Path) -> None:
    """By name in a folder for each strength; or a folder for each subject, with a strength for each image."""
    for subject, strength in itertools.product(("anna", "bob"), STAGES):
        place = tmp_path / (f"{subject}/{strength}.png" if own else f"strength_{strength:+g}/{subject}.png")
        put(place, 90 if subject == "anna" else 160)
        if own:
            place.with_suffix(".json").write_text(json.dumps({"strength": strength}), encoding="utf-8")
    if not own:
        put(tmp_path / "neutral" / "anna.png")
    dataset = read_dataset([BucketSpec(str(tmp_path), 1.0)] if own else bucket_folders(tmp_path))
    for subject in ("anna", "bob"):
        pairs = [pair for pair in dataset.pairs if subject in str(pair[0].path)]
        assert {(plus.strength, minus.strength) for plus, minus in pairs} == BY_STAGE
        assert all(subject in str(minus.path) for _, minus in pairs)
    samples = encode(dataset, TinyBackend(), 16)
    asked = [plan(samples, TrainSpec(batch=2)).batch(step) for step in range(24)]
    held = [sample for batch in asked if batch.neutral for sample in batch.samples]
    assert {sample.pair for sample in held} == (set() if own else {None}), "the stage at 0 is not held as a neutral picture"
    assert {batch.strengths for batch in asked if not batch.neutral} == BY_STAGE


def test_what_is_no_strength_is_named(tmp_path: Path) -> None:
    graded(tmp_path, "json")
    for content, code in (('{"strength": "much"}', "caption.strength"), ('{"strength": [1]}', "caption.strength")):
        (tmp_path / "1.txt").unlink(missing_ok=True)
        (tmp_path / "1.json").write_text(content, encoding="utf-8")
        with refused(code, "1.json"):
            read_dataset(bucket_folders(tmp_path))
    (tmp_path / "metadata.csv").write_text("name,strength\n1.png,1", encoding="utf-8")
    with refused("table.name", "metadata.csv", "file_name"):
        read_dataset(bucket_folders(tmp_path))
    (tmp_path / "metadata.csv").write_text("file_name,strength\n9.png,1", encoding="utf-8")
    (tmp_path / "1.json").unlink()
    assert any("9.png" in line for line in read_dataset(bucket_folders(tmp_path)).unused)
