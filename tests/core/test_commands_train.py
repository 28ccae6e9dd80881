"""python -m slider_core train: Ctrl-C keeps the last finished step, --resume goes on bit for bit, a preset sets its fields."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from core.faults import refused
from PIL import Image
from safetensors.torch import load_file

from slider_core.__main__ import main, parser
from slider_core.commands import train as command_train
from slider_core.commands.train import finishing
from slider_core.config.training import PRESETS, Optimizer, TrainPreset, TrainSpec, preset_fields
from slider_core.lora.slider_file import load_slider
from slider_core.train.training_file import load_run
from slider_core.train.training_saves import run_file

STEPS, STOP = 4, 2


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., int]:
    """(options) -> exit code of a short training into s.safetensors, or a file of that name elsewhere."""
    data = tmp_path / "data"
    assert main(["demo-data", "--attribute", "mouth", "--pairs", "2", "--out", str(data)]) == 0

    def run(*options: str, folder: str = ".") -> int:
        out = tmp_path / folder / "s.safetensors"
        plain = ["train", "--dataset", str(data), "--rank", "1", "--no-calibration", "--out", str(out)]
        return main([*plain, "--steps", str(STEPS), "--lr", "0.002", "--any-rate", "--ema", "0.5", *options])

    return run


def test_a_prompt_library_is_drawn_while_it_trains_a_row_for_each_entry_without_a_strength(
    train: Callable[..., int], tmp_path: Path
) -> None:
    prompt = "a face with tan skin on a blue background"
    entries = {"row": prompt, "other row": prompt, "one": {"prompt": prompt, "adapter_strength": 1}}
    library = tmp_path / "library.json"
    library.write_text(json.dumps(entries), encoding="utf-8")
    heights = []
    for folder, options in (("plain", ["--prompt", prompt]), ("library", ["--prompts", str(library)])):
        assert train(*options, "--sample-steps", "1", folder=folder) == 0
        heights.append(Image.open(tmp_path / folder / "runs" / "s" / "s_strip.png").height)
    assert heights[1] > 2.5 * heights[0]


def press_ctrl_c(monkeypatch: pytest.MonkeyPatch, step: int, times: int = 1) -> None:
    def progress(_self, report) -> None:
        if report.step == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(command_train.Stoppable, "after_step", progress)


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends a process there")
@pytest.mark.parametrize("times", [1, 2], ids=["once", "twice"])
def test_ctrl_c_keeps_the_last_finished_step_and_resume_is_the_straight_run(
    train: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], times: int
) -> None:
    kept, before = tmp_path / "runs" / "s", signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        press_ctrl_c(patch, STOP, times)
        assert train() == 130
    said = capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
    assert f"Stopped after step {STOP}. Saved up to step {STOP} in {tmp_path.name}/runs/s/." in said
    assert f"{kept}; the same command with --resume goes on." in said
    assert not (tmp_path / "s.safetensors").exists()
    assert load_slider(kept / "s.safetensors").info.step == STOP
    assert load_run(run_file(tmp_path / "runs", "s")).step == STOP
    if times > 1:
        return
    assert train() == 2, "nothing is lost by chance"
    assert "holds a run. Add --resume" in capsys.readouterr().err
    assert train("--resume") == 0
    assert f"Going on after step {STOP}." in capsys.readouterr().out
    assert train(folder="straight") == 0
    one, other = (load_file(tmp_path / place / "s.safetensors") for place in (".", "straight"))
    assert all(one[name].equal(other[name]) for name in other)
    assert train("--resume", "--steps", "5") == 0, "and on, past its end"
    assert load_slider(tmp_path / "s.safetensors").info.step == 5


def test_resume_needs_a_run_of_the_same_making(train: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert train("--resume") == 2
    assert "There is no run to go on with" in capsys.readouterr().err
    assert train() == 0
    assert train("--resume", "--steps", "6", "--rank", "2") == 2
    assert "with another adapter" in capsys.readouterr().err
    assert train("--overwrite", "--rank", "2", "--optimizer", "prodigy", "--lr", "1", "--checkpoint-every", "2") == 0


def test_checkpoints_lie_beside_the_run(train: Callable[..., int], tmp_path: Path) -> None:
    assert train("--checkpoint-every", "1", "--checkpoints-kept", "1", "--accumulate", "2", "--schedule", "linear") == 0
    names = {p.name for p in (tmp_path / "runs" / "s").iterdir()}
    assert {"s.safetensors", "s.run.safetensors", f"s_step{STEPS:06}.safetensors"} <= names


def spec_of(*options: str) -> TrainSpec:
    args = parser().parse_args(["train", "--dataset", "d", "--out", "s.safetensors", *options])
    return command_train.train_spec(args)


def test_the_options_are_the_fields() -> None:
    spec = spec_of("--optimizer", "schedule_free", "--warmup", "0", "--accumulate", "3", "--schedule", "linear")
    assert (spec.optimizer, spec.warmup, spec.accumulate, spec.schedule.value) == (Optimizer.SCHEDULE_FREE, 0, 3, "linear")
    assert spec_of() == TrainSpec(steps=0, lr=0.0)


def test_a_preset_sets_its_fields_and_leaves_the_others() -> None:
    for preset, fields in PRESETS.items():
        spec = spec_of("--preset", preset.value, "--lr", "0.5", "--steps", "7", "--batch", "3", "--seed", "5")
        assert {name: getattr(spec, name) for name in fields} == fields
        assert (spec.lr, spec.seed) == (0.5, 5)
    assert spec_of("--preset", "balanced") == TrainSpec(lr=0.0)
    assert PRESETS[TrainPreset.QUICK]["steps"] < TrainSpec.steps < PRESETS[TrainPreset.CAREFUL]["steps"]
    assert "ema" not in preset_fields(TrainPreset.CAREFUL, Optimizer.SCHEDULE_FREE)
    with refused("train_preset.unknown", '"quick"'):
        spec_of("--preset", "qick")


@pytest.mark.skipif(os.name == "nt", reason="os.kill ends a process there")
def test_the_second_ctrl_c_stops_at_once() -> None:
    def press_twice() -> None:
        with finishing() as asked:
            assert not asked()
            os.kill(os.getpid(), signal.SIGINT)
            assert asked()
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores Ctrl-C
    try:
        with pytest.raises(KeyboardInterrupt):
            press_twice()
    finally:
        signal.signal(signal.SIGINT, before)
