"""A run on disk outlives the program: it goes on bit for bit, a kill leaves it whole, and a full disk costs nothing."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from core import killed
from core.faults import refused
from safetensors.torch import save_file

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec
from slider_core.config.names import nested_stem
from slider_core.config.training import Objective, SaveSpec, TrainSpec
from slider_core.layers.layer import Target
from slider_core.lora import safe_files as store
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import load_slider
from slider_core.train import training_saves as autosave_module
from slider_core.train.progress import Reading
from slider_core.train.trainer import Trainer
from slider_core.train.training_file import KEY, load_run
from slider_core.train.training_run import Run
from slider_core.train.training_saves import Autosave, file_stem, run_file
from slider_core.train.trainings import Session

ROOT = Path(__file__).resolve().parents[2]
STEPS, STOP = 12, 7
MADE_OF = {"model": "linear", "dataset": "abc123"}
SPEC = TrainSpec(steps=STEPS, lr=1e-2, seed=3, warmup=4, objective=Objective.DENOISE_PAIRED)
NEVER = SaveSpec(seconds=1e9)
KILLS, LONGEST_LIFE_S, PATIENCE_S = 4, 0.25, 60.0
ENDLESS = 1_000_000


@pytest.fixture
def make(linear_backend, make_samples):
    def trainer(spec: TrainSpec = SPEC) -> Trainer:
        adapter = Adapter.create(linear_backend().module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0), seed=spec.seed)
        return Trainer(adapter, make_samples(5, 2), spec)

    return trainer


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Thousands of tiny steps: a second thread only costs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def begun(make, session: Session, root: Path, fingerprint: dict | None = None) -> Run:
    return session.begin("smile", fingerprint or MADE_OF, make, saved=run_file(root, "smile"))


def train(run: Run, backend, root: Path, until: int, spec: SaveSpec = NEVER) -> Autosave:
    with Autosave(run, root, spec) as autosave:
        run.trainer.run(backend, until, lambda _report: autosave.after_step(), read_every=2)
    return autosave


def numbers(trainer: Trainer) -> tuple:
    moments = trainer.optimizer.state_dict()["state"]
    flat = {(n, name): value.tolist() for n, entries in moments.items() for name, value in entries.items()}
    readings = [reading for reading in trainer.readings if reading.step != STOP]  # a run that stops there reads once more
    return trainer.step, trainer.losses, [p.tolist() for p in trainer.adapter.parameters()], flat, readings


def test_a_run_goes_on_in_another_session_bit_for_bit(make, linear_backend, tmp_path: Path) -> None:
    straight = begun(make, Session(), tmp_path / "other")
    straight.trainer.run(linear_backend(), STEPS, read_every=2)
    train(begun(make, Session(), tmp_path), linear_backend(), tmp_path, STOP)
    again = begun(make, Session(), tmp_path)  # nothing is left but the file
    assert again.step == STOP
    train(again, linear_backend(), tmp_path, STEPS)
    assert numbers(again.trainer) == numbers(straight.trainer)
    assert load_run(run_file(tmp_path, "smile")).step == STEPS


def test_whatever_ends_the_training_the_last_step_is_saved(make, linear_backend, tmp_path: Path) -> None:
    run = begun(make, Session(), tmp_path)

    def stop(report) -> None:
        if report.step == STOP:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Autosave(run, tmp_path, NEVER) as autosave:
        run.trainer.run(linear_backend(), STEPS, stop)
    assert load_run(autosave.file).step == STOP
    slider = load_slider(autosave.slider_file)
    assert slider.info.step == STOP
    for target, weight in run.trainer.adapter.weights().items():
        assert all(torch.equal(slider.weights[target].tensors[name], value) for name, value in weight.tensors.items())
    assert autosave.summary() == f"Saved up to step {STOP} in {'/'.join(tmp_path.parts[-2:])}/smile/."


def test_a_run_of_another_origin_or_name_is_refused_before_anything_is_made(make, linear_backend, tmp_path: Path) -> None:
    train(begun(make, Session(), tmp_path), linear_backend(), tmp_path, STOP)

    def refuse() -> Trainer:
        raise AssertionError("made for nothing")

    for key, value in MADE_OF.items():
        with refused("training.differs", STOP, f"{key}: {value} then, other now"):
            begun(refuse, Session(), tmp_path, MADE_OF | {key: "other"})
    with refused("resume.name", '"smile"', '"Smile"'):
        Session().begin("Smile", MADE_OF, refuse, saved=run_file(tmp_path, "smile"))


def test_a_damaged_file_is_an_error_that_names_it(make, linear_backend, tmp_path: Path) -> None:
    file = train(begun(make, Session(), tmp_path), linear_backend(), tmp_path, STOP).file
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b""):
        file.write_bytes(content)
        with pytest.raises(SliderError, match=r"smile\.run\.safetensors"):
            load_run(file)
    headers = {"other": "damaged", KEY: "damaged"}, {KEY: json.dumps({"version": 0})}
    for header, code in zip(headers, ("resume.damaged", "resume.version"), strict=True):
        save_file({"losses": torch.zeros(1)}, file, header)
        with refused(code, file):
            load_run(file)


def test_a_full_disk_stops_nothing_and_the_older_files_stay(make, linear_backend, tmp_path: Path, monkeypatch) -> None:
    run = begun(make, Session(), tmp_path)
    before = train(run, linear_backend(), tmp_path, STOP)
    kept = before.file.read_bytes(), before.slider_file.read_bytes()

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", full)
        after = train(run, linear_backend(), tmp_path, STEPS, SaveSpec(seconds=0))
    assert run.step == STEPS, "the training went on"
    assert "No space left on device" in after.summary()
    assert after.summary().startswith("Not saved: ")
    assert (before.file.read_bytes(), before.slider_file.read_bytes()) == kept
    assert sorted(p.name for p in after.folder.iterdir()) == ["smile.run.safetensors", "smile.safetensors"], "no scraps"
    with Autosave(run, tmp_path, NEVER):  # nothing is trained in it, but what could not be saved still is not
        pass
    assert load_run(after.file).step == STEPS


def test_checkpoints_keep_the_last_and_the_best(make, linear_backend, tmp_path: Path) -> None:
    run = begun(make, Session(), tmp_path)
    autosave = Autosave(run, tmp_path, SaveSpec(seconds=1e9, every=2, keep=2))
    for step, explained in ((2, 0.1), (4, 0.5), (6, 0.2), (8, 0.3), (9, 0.9), (10, 0.4)):
        run.trainer.run(linear_backend(), step, read_every=ENDLESS)
        run.trainer.readings[:] = [r for r in run.trainer.readings if r.step != step] + [Reading(step, explained, explained)]
        autosave.after_step()
    assert list(autosave.checkpoints()) == [4, 8, 10], "9 was read, but is no checkpoint"
    assert load_slider(autosave.checkpoints()[4]).info.step == 4
    Session().begin("other", MADE_OF, make)
    (autosave.folder / "mine.safetensors").write_bytes(b"x")
    begin_again = Autosave(Run("smile", MADE_OF, make()), tmp_path, SaveSpec(seconds=1e9, every=2, keep=2))
    begin_again.run.trainer.run(linear_backend(), 2)
    begin_again.after_step()
    assert list(begin_again.checkpoints()) == [2], "those of the run before are gone"
    assert (autosave.folder / "mine.safetensors").exists()


def test_every_name_has_a_file_of_its_own(tmp_path: Path) -> None:
    for name in ("smile", "Größe", "../up", "CON", "con.x", "", ".", " x", "a" * 200, "a:b"):
        stem = file_stem(name)
        assert stem == file_stem(name)
        assert run_file(tmp_path, name).resolve().parent.parent == tmp_path.resolve(), "one folder below the root"
        (tmp_path / f"{stem}.x").touch()
        others = {file_stem(other) for other in ("a_b", "__up", "con", "slider", "x", "a" * 80) if other != name}
        assert stem not in others


def test_folders_in_a_name_are_folders_where_each_can_stand_as_it_is() -> None:
    for name in ("smile", "smiles/first", "a b/ü.x/v1"):
        assert nested_stem(name) == name
    for name in (
        "../up",
        "/up",
        "a//b",
        "a/",
        "a/./b",
        "con/x",
        "a /b",
        "a./b",
        "a\\b",
        "a:b/c",
        "%date%/x",
        "\0/x",
        "a/" * 60 + "b",
        "",
    ):
        assert nested_stem(name) == file_stem(name), name
        assert "/" not in nested_stem(name)


def test_a_save_comes_when_its_time_has_come(make, linear_backend, tmp_path: Path, monkeypatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(autosave_module.time, "monotonic", lambda: clock[0])
    run, saved = begun(make, Session(), tmp_path), []
    autosave = Autosave(run, tmp_path, SaveSpec(seconds=3))
    for step in range(1, 10):  # a step takes a second
        run.trainer.run(linear_backend(), step)
        clock[0] += 1
        autosave.after_step()
        saved.append(run.saved)
    assert saved == [0, 0, 3, 3, 3, 6, 6, 6, 9]


def test_an_interrupt_while_it_saves_counts_as_saved(make, linear_backend, tmp_path: Path, monkeypatch) -> None:
    run, real = begun(make, Session(), tmp_path), autosave_module.save_run

    def interrupted(*args: object) -> str:
        mark = real(*args)
        signal.raise_signal(signal.SIGINT)
        return mark

    run.trainer.run(linear_backend(), STOP)
    monkeypatch.setattr(autosave_module, "save_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Autosave(run, tmp_path, NEVER).save()
    assert run.saved == load_run(run_file(tmp_path, "smile")).step == STOP


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, to live often and quickly")
def test_a_program_that_is_killed_at_any_moment_loses_nothing_that_was_saved(tmp_path: Path, one_thread) -> None:
    log, folder, draw = tmp_path / "log", tmp_path / "kept", random.Random(0)
    log.touch()

    def events() -> list[list[str]]:
        return [line.split() for line in log.read_text().splitlines()]

    command = [sys.executable, "-m", "core.killed", str(folder), str(log)]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": paths}) as program:
        begun_at = []
        for life in range(KILLS):
            program.stdin.write("live\n")
            program.stdin.flush()
            end = time.monotonic() + PATIENCE_S
            while sum(what == "begun" for _, what, _ in events()) <= life:
                assert time.monotonic() < end, "it does not begin"
                time.sleep(0.005)
            time.sleep(draw.uniform(0.0, LONGEST_LIFE_S))
            pid, _, step = [event for event in events() if event[1] == "begun"][-1]
            os.kill(int(pid), signal.SIGKILL)
            begun_at.append(int(step))
            saved = [int(step) for _, what, step in events() if what == "saved"]
            if saved:
                kept = load_run(run_file(folder, "smile"))
                assert kept.step >= saved[-1]
                assert load_slider(folder / "smile" / "smile.safetensors").info.name == "smile"
        program.stdin.close()
    assert begun_at == sorted(begun_at)
    assert begun_at[-1] > begun_at[0], "it went on where it was"
    kept = load_run(run_file(folder, "smile"))
    straight, model = killed.make()
    straight.run(model, kept.step, read_every=killed.GAIN_EVERY)
    again, _ = killed.make()
    kept.restore(again)
    assert again.losses == straight.losses
    assert again.adapter.state()["mix"][0].equal(straight.adapter.state()["mix"][0])
