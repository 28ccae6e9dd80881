"""train: a slider from a dataset or from prompts, kept on disk while it trains as the node keeps it, so it can go on.

<folder of --out>/runs/<name>/   the slider at the last autosave, the run, checkpoints (train/training_saves.py)
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..config.checks import choice, need
from ..config.lora import AdapterSpec, Algorithm, FileDtype
from ..config.regular_files import read_text
from ..config.training import Objective, Optimizer, SaveSpec, Schedule, Timesteps, TrainPreset, TrainSpec, chosen_spec
from ..lora.header_fields import kinds
from ..lora.lycoris_config import read_lycoris
from ..lora.safe_files import check_writable
from ..lora.slider_file import load_slider, lost_to, save_slider
from ..train.interrupts import SIGNALS, put_back
from ..train.learning_rate import rate_note
from ..train.training_run import Run
from ..train.training_saves import Autosave, run_file
from ..train.trainings import Session
from ..train.trainings_driver import TrainingRequest, begin, calibrate_run, train
from ..with_tiny.model import TinyBackend
from .options import (
    Commands,
    Progress,
    Shared,
    add_dataset,
    add_text_options,
    dataset_of,
    need_ending,
    number_or_0,
    refuse_existing,
    rounding,
    say,
    say_left_out,
    seed_number,
    strict,
    whole_number,
    with_text_slider,
)

RUNS = "runs"  # beside the file that is written
# options that are fields of a TrainSpec
CHOICES = (
    *("steps", "lr", "batch", "seed", "objective", "timesteps", "schedule"),
    *("warmup", "optimizer", "accumulate", "ema", "any_rate"),
)


def add(commands: Commands, shared: Shared) -> None:
    text = "train a slider from positive/ and negative/ folders, or from prompts"
    command = commands.add_parser("train", parents=shared, help=text)
    add_dataset(command)
    add_text_options(command)
    command.add_argument("--backend", choices=["tiny"], default="tiny")
    _add_training(command)
    _add_adapter(command)
    command.add_argument("--dtype", default=FileDtype.FP32.value, help=", ".join(d.value for d in FileDtype))
    command.add_argument("--resume", action="store_true", help="go on with the run of that name, kept in runs/ beside --out")
    command.add_argument(
        "--checkpoint-every", type=number_or_0, default=SaveSpec.every, help="keep the slider every so many steps"
    )
    command.add_argument(
        "--checkpoints-kept", type=whole_number(1000), default=SaveSpec.keep, help="of the last ones; the best stays"
    )
    command.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(run=run)


def _add_training(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", type=number_or_0, default=0, help="0: until the slider is ready")
    command.add_argument("--seed", type=seed_number, default=0)
    command.add_argument("--objective", default=TrainSpec.objective.value, help=", ".join(o.value for o in Objective))
    command.add_argument("--lr", type=float, default=0.0, help="0: as a probe of a few batches finds it")
    command.add_argument("--any-rate", action="store_true", help="train at --lr even where it is far beyond the probe's")
    command.add_argument("--timesteps", default=TrainSpec.timesteps.value, help=", ".join(t.value for t in Timesteps))
    command.add_argument("--schedule", default=TrainSpec.schedule.value, help=", ".join(s.value for s in Schedule))
    command.add_argument("--preset", default=TrainPreset.CUSTOM.value, help=", ".join(p.value for p in TrainPreset))
    command.add_argument("--optimizer", default=TrainSpec.optimizer.value, help=", ".join(o.value for o in Optimizer))
    command.add_argument("--warmup", type=number_or_0, default=TrainSpec.warmup, help="warm-up steps of the learning rate")
    command.add_argument("--accumulate", type=whole_number(1024), default=TrainSpec.accumulate, help="batches in one step")
    command.add_argument("--ema", type=float, default=TrainSpec.ema, help="decay of the average that is saved; 0: none")
    command.add_argument("--neutral-weight", type=float, default=TrainSpec.neutral_weight)
    command.add_argument("--no-calibration", action="store_true", help="leave the strengths as they were trained")
    command.add_argument("--batch", type=whole_number(1024), default=TrainSpec.batch)


def _add_adapter(command: argparse.ArgumentParser) -> None:
    command.add_argument("--algorithm", default=AdapterSpec.algorithm.value, help=", ".join(a.value for a in Algorithm))
    command.add_argument("--rank", type=whole_number(1024), default=AdapterSpec.rank)
    command.add_argument("--alpha", type=float, help="the update is scaled by alpha / rank; the rank unless given")
    command.add_argument("--dropout", type=float, default=AdapterSpec.dropout)
    command.add_argument("--factor", type=int, default=AdapterSpec.factor, help="of lokr")
    command.add_argument("--lycoris-config", type=Path, help="a LyCORIS configuration (JSON) in place of these five")
    command.add_argument("--start-from", type=Path, help="a slider or LoRA to go on from, with its own layers and algorithm")
    strict(command)


def train_spec(args: argparse.Namespace) -> TrainSpec:
    """The training choices of the options."""
    return chosen_spec(args.preset, **{name: getattr(args, name) for name in (*CHOICES, "neutral_weight")})


def adapter_spec(args: argparse.Namespace) -> AdapterSpec:
    """The adapter of the options, or of the LyCORIS configuration in their place."""
    spec = AdapterSpec(
        rank=args.rank,
        alpha=float(args.rank) if args.alpha is None else args.alpha,
        algorithm=choice(Algorithm, args.algorithm, "Algorithm"),
        dropout=args.dropout,
        factor=args.factor,
    )
    if args.lycoris_config is None:
        return spec
    text = read_text(args.lycoris_config, "LyCORIS configuration", "lycoris_config.unreadable")
    spec, notes = read_lycoris(text, spec)
    for note in notes:
        say(f"Note: {note}.")
    return spec


def _saved_run(args: argparse.Namespace) -> Path | None:
    """The saved run to go on with, None to begin. SliderError where something would be lost, or cannot be written."""
    saved = run_file(args.out.parent / RUNS, args.out.stem)
    check_writable(args.out.parent, args.out.name)
    check_writable(saved.parent, saved.name)
    if args.resume:
        message = f"There is no run to go on with: {saved} is missing. Leave --resume out to begin."
        need(saved.is_file(), message, "resume.missing")
        return saved
    refuse_existing(args)
    message = f"{saved} holds a run. Add --resume to go on with it, or --overwrite to begin anew."
    need(args.overwrite or not saved.is_file(), message, "resume.exists")
    return None


class Stopped(KeyboardInterrupt):
    """Ctrl-C, when something was kept. The message says what, and how to go on."""


@contextmanager
def finishing() -> Iterator[Callable[[], bool]]:
    """Within the block the first Ctrl-C or SIGTERM only requests a stop: whether it came is what the callable returns. The second
    one stops at once."""
    presses: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def request(_signal: int, _frame: object) -> None:
        presses.append(True)
        for number in SIGNALS:
            signal.signal(number, stop)

    for number in SIGNALS:
        signal.signal(number, request)
    try:
        yield lambda: bool(presses)
    finally:
        put_back(before)


class Stoppable(Progress):
    """A progress bar; Ctrl-C requests a stop."""

    def __init__(self, stop_requested: Callable[[], bool]) -> None:
        self._stop_requested = stop_requested

    def stop_requested(self) -> bool:
        return self._stop_requested()


def _train(backend: TinyBackend, run: Run, autosave: Autosave, calibrating: bool) -> None:
    """Up to the last step, then calibrated. Raises Stopped when the user stops it."""
    try:
        with finishing() as stop_requested:
            observer = Stoppable(stop_requested)
            train(run, backend, run.trainer.end, autosave, observer)
            if run.step >= run.trainer.end and calibrating:
                calibrate_run(run, backend, autosave, observer)
        stopped = run.step < run.trainer.end
    except KeyboardInterrupt:
        stopped = True
    if stopped and not run.step:
        raise KeyboardInterrupt  # nothing was kept to go on with
    if stopped:
        raise Stopped(
            f"Stopped after step {run.step}. {autosave.summary()} It lies in {autosave.folder}; the same command with --resume "
            "goes on."
        )


def run(args: argparse.Namespace) -> dict[str, Any]:
    spec = train_spec(args)
    need_ending(args.out, ".safetensors")
    adapter = adapter_spec(args)
    dtype = choice(FileDtype, args.dtype, "Number format")
    backend = TinyBackend()
    start = load_slider(args.start_from, args.strict).cut().on(backend.module) if args.start_from else None
    if start is not None:
        say_left_out(start)
    dataset = with_text_slider(args, dataset_of(args) if args.dataset else None)
    saved = _saved_run(args)
    say(dataset.report)
    training = begin(Session(), backend, TrainingRequest(args.out.stem, dataset, adapter, spec, start=start), saved)
    if saved:
        say(f"Going on after step {training.step}.")
    saves = SaveSpec(every=args.checkpoint_every, keep=args.checkpoints_kept)
    autosave = Autosave(training, args.out.parent / RUNS, saves)
    _train(backend, training, autosave, not args.no_calibration)
    slider = training.slider()
    if training.saved_as != training.name:  # another process trains under this name: its file stays
        args.out = args.out.with_stem(training.saved_as)
        say(autosave.summary())
    save_slider(args.out, slider, dtype, overwrite=args.overwrite or args.resume)
    lost = lost_to(slider, dtype)
    say(f"Step {training.step}.{rate_note(spec, training.trainer.probed)}")
    say(f"{training.verdict()} Saved {args.out}.{rounding(dtype, lost)}")
    say(training.calibrated)
    last = training.trainer.readings[-1]
    return {
        "out": str(args.out),
        "steps": training.step,
        "algorithm": adapter.algorithm.value if start is None else "/".join(kinds(slider.weights)),
        "objective": spec.objective.value,
        "learning_rate": training.trainer.rate,
        "loss": training.trainer.losses[-1],
        "explained": {"positive": last.positive, "negative": last.negative},
        "verdict": training.verdict(),
        "calibration": slider.info.calibration.to_dict() if slider.info.calibration else None,
        "rounding": lost,
    }
