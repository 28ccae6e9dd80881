"""A training that cannot go on with another dataset names what of it is another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from core.faults import refused

from slider_core.config.lora import AdapterSpec, FileDtype, FileFormat
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset
from slider_core.data.dataset_parts import changed_parts, is_part, parts_of
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.trainer import Trainer
from slider_core.train.trainings import Session

PAIRS = Path(__file__).parents[2] / "demo_pairs" / "smile"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for side in ("positive", "negative"):
        (tmp_path / side).mkdir()
        for file in sorted((PAIRS / side).glob("*.png"))[:2]:
            shutil.copy(file, tmp_path / side)
            (tmp_path / side / file.name).with_suffix(".txt").write_text("a face")
    return tmp_path


def read(folder: Path, **choices: object) -> Dataset:
    return read_dataset(bucket_folders(folder, **choices))


def another_picture(folder: Path) -> None:
    shutil.copy(sorted((PAIRS / "positive").glob("*.png"))[3], sorted((folder / "positive").glob("*.png"))[0])


def another_caption(folder: Path) -> None:
    sorted((folder / "positive").glob("*.txt"))[0].write_text("a man")


def both(folder: Path) -> None:
    another_picture(folder)
    another_caption(folder)


def swapped(folder: Path) -> None:
    first, other = (sorted((folder / side).glob("*.png"))[0] for side in ("positive", "negative"))
    content = first.read_bytes()
    first.write_bytes(other.read_bytes())
    other.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "choices", "said"),
    [
        (another_picture, {}, "other images"),
        (another_caption, {}, "other captions"),
        (both, {}, "other images and captions"),
        (swapped, {}, "other sides or strengths"),
        (None, {"caption": "a man"}, "other captions"),
        (None, {"trigger": "zks"}, "other captions"),
        (None, {"strength": 0.5}, "other sides or strengths"),
        (None, {"repeats": 1}, "other options"),
        (None, {}, ""),
    ],
)
def test_what_has_changed_is_named(change: Callable | None, choices: dict, said: str, folder: Path) -> None:
    before = parts_of(read(folder))
    if change is not None:
        change(folder)
    after = parts_of(read(folder, **choices))
    assert changed_parts(before, after) == said
    assert changed_parts({"dataset": "abc"}, after) == "", "a record of before says nothing"
    assert all(map(is_part, after))


def test_the_error_of_a_training_names_it(folder: Path, linear_backend, make_samples) -> None:
    def make() -> Trainer:
        adapter = Adapter.create(linear_backend().module, [Target("mix")], AdapterSpec())
        return Trainer(adapter, make_samples(2), TrainSpec())

    session, mark = Session(), "0123456789abcdef"
    run = session.begin("smile", {"dataset": mark} | parts_of(read(folder)), make)
    assert not any(map(is_part, run.slider().info.header({}, "", FileFormat.NATIVE, FileDtype.FP32)))
    another_caption(folder)
    with refused("training.differs", "with another dataset: other captions. Give"):
        session.begin("smile", {"dataset": mark[::-1]} | parts_of(read(folder)), make)
    assert session.begin("smile", {"dataset": mark}, make) is run, "the parts alone refuse nothing"
