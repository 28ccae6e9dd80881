"""A program that trains with an autosave until it is killed; each line on its input gives it another life. See test_autosave.py.

    python -m core.killed FOLDER LOG, with tests/ and the repository on PYTHONPATH

Into LOG goes a line per event: "<pid> begun|step|saved <step>".
"""

import os
import sys
from pathlib import Path

import torch
from core.conftest import LinearBackend, samples_of

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Objective, SaveSpec, TrainSpec
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.trainer import Trainer
from slider_core.train.training_saves import Autosave, run_file
from slider_core.train.trainings import Session

INTERVAL_S, ENDLESS, GAIN_EVERY = 0.02, 1_000_000, 50
SPEC = TrainSpec(steps=ENDLESS, lr=1e-2, seed=3, objective=Objective.DENOISE_PAIRED)


def make() -> tuple[Trainer, LinearBackend]:
    model = LinearBackend()
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2), seed=SPEC.seed)
    return Trainer(adapter, samples_of(5, 2), SPEC), model


def live(folder: Path, log: int) -> None:
    trainer, model = make()
    run = Session().begin("smile", {"model": "linear"}, lambda: trainer, saved=run_file(folder, "smile"))

    def tell(what: str, step: int) -> None:
        os.write(log, f"{os.getpid()} {what} {step}\n".encode())

    tell("begun", run.step)
    with Autosave(run, folder, SaveSpec(seconds=INTERVAL_S)) as autosave:

        def on_step(report) -> None:
            before = run.saved
            autosave.after_step()
            tell("step", report.step)
            if run.saved != before:
                tell("saved", run.saved)

        run.trainer.run(model, ENDLESS, on_step, read_every=GAIN_EVERY)


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, log_file = Path(sys.argv[1]), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    make()  # what it imports late it imports now: a life is to begin at once
    for _line in sys.stdin:
        if os.fork():
            os.wait()
        else:
            live(place, log_file)
