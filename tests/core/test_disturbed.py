"""What the system does to a run: signals at the edge of a step, drives that fail, clocks that go back, names without case."""

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from core.conftest import LinearBackend, samples_of
from core.faults import refused

import slider_core.__main__ as program
from slider_core.config.lora import AdapterSpec, FileFormat
from slider_core.config.training import SaveSpec, TrainSpec
from slider_core.data import bucket_files as bucket_files_module
from slider_core.data.bucket_files import bucket_files
from slider_core.encode.disk_cache import DiskCache
from slider_core.layers.layer import Target
from slider_core.lora import safe_files
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, load_slider, save_slider
from slider_core.train import training_saves
from slider_core.train.interrupts import uninterrupted
from slider_core.train.trainer import Trainer
from slider_core.train.training_file import load_run
from slider_core.train.training_saves import Autosave, run_file
from slider_core.train.trainings import Session

STEPS, OLD_S = 6, 2 * 24 * 3600
NEVER = SaveSpec(seconds=1e9)
DENIED = PermissionError(13, "Permission denied", "the folder")


def trainer() -> Trainer:
    adapter = Adapter.create(LinearBackend().module, [Target("mix")], AdapterSpec(rank=2), seed=3)
    return Trainer(adapter, samples_of(4), TrainSpec(steps=STEPS, lr=1e-2, ema=0.5))


# --- signals


@pytest.fixture
def pressed() -> Iterator[list[int]]:
    """What SIGINT's handler was called with; the second call raises, as on the command line."""
    calls: list[int] = []

    def stop(number: int, _frame: object) -> None:
        calls.append(number)
        raise KeyboardInterrupt

    def request(number: int, _frame: object) -> None:
        calls.append(number)
        signal.signal(signal.SIGINT, stop)

    before = signal.signal(signal.SIGINT, request)
    yield calls
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("broke", [False, True])
def test_no_press_is_lost_in_what_must_not_be_interrupted(pressed: list[int], broke: bool) -> None:
    done = []

    def work() -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        done.append(True)
        if broke:
            raise OSError("a full disk")

    with pytest.raises(KeyboardInterrupt), uninterrupted():
        work()
    assert done
    assert len(pressed) == 2
    assert signal.getsignal(signal.SIGINT).__name__ == "stop"


def test_an_interrupt_as_a_step_begins_leaves_the_average_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer()
    run.run(LinearBackend(), 3)
    read, trained, hide = run.adapter.state()["mix"], run.average.raw, run.average._hide

    def interrupted() -> None:
        hide()
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run.average, "_hide", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run(LinearBackend(), STEPS)
    assert all(map(torch.equal, run.adapter.state()["mix"], read))
    assert all(map(torch.equal, run.state_dict()["adapter"]["mix"], trained))


def test_an_interrupt_at_any_line_of_a_write_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    path, ends = tmp_path / "x.safetensors", set()
    before = sys.gettrace()  # that of a coverage, which goes on afterwards
    for stop in range(200):
        lines = iter(range(200))

        def trace(frame: object, event: str, _value: object, lines: Iterator[int] = lines, stop: int = stop) -> object:
            if event == "line" and next(lines) == stop:
                raise KeyboardInterrupt
            return trace if frame.f_code.co_filename == safe_files.__file__ else None

        sys.settrace(trace)
        try:
            safe_files.atomic_write(path, b"new", overwrite=True)
            ends.add("written")
        except KeyboardInterrupt:
            ends.add("interrupted")
        finally:
            sys.settrace(before)
        assert {inside.name for inside in tmp_path.iterdir()} <= {path.name}, stop
    assert ends == {"written", "interrupted"}


# --- folders and drives


def test_the_systems_errors_are_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for side in ("positive", "negative"):
        (tmp_path / side / "inner").mkdir(parents=True)
    plain = Path.iterdir
    for name in ("inner", "positive", tmp_path.name):
        monkeypatch.setattr(Path, "iterdir", lambda path, name=name: _denied() if path.name == name else plain(path))
        assert program.main(["doctor", str(tmp_path)]) == 2
    monkeypatch.setattr(Path, "is_dir", lambda _path: _denied())
    assert program.main(["doctor", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert told.count("permission denied") == 5, "inner is in both"
    assert "Errno" not in told


def _denied() -> None:
    raise DENIED


def test_a_folder_that_is_no_dataset_is_not_walked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_files_module, "MOST_FILES", 3)
    for number in range(4):
        (tmp_path / f"{number}.png").touch()
    with refused("folder.too_many", tmp_path):
        bucket_files(tmp_path)


def test_what_a_kill_has_left_is_put_back_or_removed_from_every_folder_below(tmp_path: Path) -> None:
    place = tmp_path / "loras" / "sliders" / "smile"
    for number in range(2):
        save_slider(tmp_path / "made", Slider(trainer().adapter.weights()), form=FileFormat.PEFT)
        place.parent.mkdir(parents=True, exist_ok=True)
        name = f".smile.{number:032x}.old"
        (tmp_path / "made").rename(place.with_name(name))
        os.utime(place.with_name(name), (time.time() - OLD_S * (2 - number),) * 2)
    newest = (place.with_name(f".smile.{1:032x}.old") / "adapter_config.json").stat().st_ino
    for name, age in (("old", OLD_S), ("young", 0)):
        part = place.with_name(f".{name}.safetensors.{0:032x}.tmp")
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age,) * 2)
    safe_files.tidy_below(tmp_path)
    assert (place / "adapter_config.json").stat().st_ino == newest
    assert load_slider(place).weights
    assert sorted(path.name for path in place.parent.iterdir()) == [f".young.safetensors.{0:032x}.tmp", "smile"]


def test_a_lock_that_is_never_given_back_stops_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_files, "LOCK_S", 0.1)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    run = Session().begin("s", {}, trainer)
    with Autosave(run, tmp_path, NEVER):
        run.trainer.run(LinearBackend(), STEPS)
    os.close(handle)
    assert load_run(run_file(tmp_path, "s")).step == STEPS


# --- names and clocks


def test_a_name_in_other_letters_takes_no_run_where_names_have_no_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_saves, "file_stem", str.lower)  # as Windows and macOS find files
    for name, steps in (("smile", STEPS), ("Smile", 2)):
        run = Session().begin(name, {}, trainer)  # anew, as with reset
        with Autosave(run, tmp_path, NEVER) as autosave:
            run.trainer.run(LinearBackend(), steps)
    assert load_run(run_file(tmp_path, "smile")).step == STEPS
    assert load_run(autosave.file).step == 2
    assert '"Smile-2"' in autosave.summary()


def test_a_name_with_half_a_character_goes_on_as_any_other(tmp_path: Path) -> None:
    for steps in (2, STEPS):
        run = Session().begin("smile \ud83d", {"model": "\udcff"}, trainer, saved=run_file(tmp_path, "smile \ufffd"))
        with Autosave(run, tmp_path, NEVER) as autosave:
            run.trainer.run(LinearBackend(), steps)
    assert load_run(autosave.file).step == STEPS
    assert len(list(tmp_path.iterdir())) == 1


def test_the_name_that_a_second_run_takes_is_free_even_of_what_cannot_be_read(tmp_path: Path) -> None:
    first, second = (Session().begin("s", {}, trainer) for _ in range(2))
    saves = [Autosave(run, tmp_path, NEVER) for run in (first, second)]
    damaged = run_file(tmp_path, "s-2")
    damaged.parent.mkdir()
    damaged.write_bytes(b"damaged")
    for autosave in saves:
        autosave.save()
    assert damaged.read_bytes() == b"damaged"
    assert load_run(run_file(tmp_path, "s-3")).name == "s-3"


def test_a_clock_that_goes_back_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = DiskCache(tmp_path / "cache", budget=3000)
    keys = [cache.key(str(number)) for number in range(8)]
    part = tmp_path / f".s.safetensors.{0:032x}.tmp"
    part.touch()
    for key, now in zip(keys, (2e9, 0, 1, 0, 3e9, 0, 0, 0), strict=True):
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(time, "time_ns", lambda now=now: int(now * 1e9))
        assert cache.put(key, torch.zeros(64))
        assert cache.get(key) is not None
    assert sum(path.stat().st_size for path in cache.folder.rglob("*.safetensors")) <= 3000
    safe_files.tidy(tmp_path)
    assert part.exists(), "of another process, which may still write it"
    run = Session().begin("s", {}, trainer)
    with Autosave(run, tmp_path, SaveSpec(seconds=0)) as autosave:
        run.trainer.run(LinearBackend(), STEPS, lambda _report: autosave.after_step())
    assert load_run(autosave.file).step == STEPS
