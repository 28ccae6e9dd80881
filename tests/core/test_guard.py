"""A run that explodes keeps its last good state, and two runs on one name lose no step."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core.conftest import LinearBackend, samples_of

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import SaveSpec, Schedule, TrainSpec
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.trainer import Trainer
from slider_core.train.training_file import load_run
from slider_core.train.training_saves import Autosave, run_file
from slider_core.train.trainings import Session

GOOD, MORE = 10, 60
SPEC = TrainSpec(steps=MORE, lr=1e-2, warmup=0, seed=3, schedule=Schedule.CONSTANT)


def trainer() -> Trainer:
    adapter = Adapter.create(LinearBackend().module, [Target("mix")], AdapterSpec(rank=2), seed=3)
    return Trainer(adapter, samples_of(4), SPEC)


def test_an_exploded_run_is_back_at_its_last_good_state_and_goes_on_at_a_lower_rate(tmp_path: Path) -> None:
    run = Session().begin("s", {}, trainer, saved=run_file(tmp_path, "s"))
    with Autosave(run, tmp_path, SaveSpec(seconds=1e9)) as autosave:
        run.trainer.run(LinearBackend(), GOOD)
    good, content = run.trainer.adapter.state()["mix"], autosave.file.read_bytes()
    run.trainer.adopt(replace(SPEC, lr=10.0))
    with pytest.raises(SliderError) as fault, Autosave(run, tmp_path, SaveSpec(seconds=1e9)):
        run.trainer.run(LinearBackend(), MORE)
    assert fault.value.code in ("training.exploded", "training.not_finite")
    assert run.step == GOOD
    assert all(map(torch.equal, run.trainer.adapter.state()["mix"], good))
    assert autosave.file.read_bytes() == content
    run.trainer.adopt(SPEC)
    run.trainer.run(LinearBackend(), MORE)
    assert run.step == MORE


def test_the_second_of_two_runs_on_one_name_is_told_and_saved_under_another(tmp_path: Path) -> None:
    runs = [Session().begin("s", {}, trainer, saved=run_file(tmp_path, "s")) for _ in range(2)]
    saves = [Autosave(run, tmp_path, SaveSpec(seconds=1e9)) for run in runs]
    for steps, run, autosave in zip((3, 2), runs, saves, strict=True):
        run.trainer.run(LinearBackend(), steps)
        autosave.save()
    assert [load_run(run_file(tmp_path, name)).step for name in ("s", "s-2")] == [3, 2]
    assert '"s-2"' in saves[1].summary()
