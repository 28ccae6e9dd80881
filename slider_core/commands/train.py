"""python -m slider_core train: a slider from a folder, kept on disk while it trains as the node keeps it, so it can go on.

<folder of --out>/runs/<name>/   the slider at the last autosave, the run, checkpoints (autosave.py)
"""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.checks import SliderError, choice
from ..config.lora import AdapterSpec, Algorithm, FileDtype
from ..config.training import Objective, Optimizer, SaveSpec, Schedule, Timesteps, TrainPreset, TrainSpec, preset_fields
from .line import add_dataset, dataset_of, need_ending, progress, refuse_existing, say, seed_number, whole_number

if TYPE_CHECKING:
    from ..train.training_run import Run
    from ..with_tiny.model import TinyBackend

RUNS = "runs"  # beside the file that is written


class Stopped(KeyboardInterrupt):
    """Ctrl-C, when something was kept. The message says what, and how to go on."""


def _adapter_spec(args: argparse.Namespace) -> AdapterSpec:
    """The adapter that the options ask for, or the LyCORIS configuration in their place."""
    spec = AdapterSpec(
        rank=args.rank,
        alpha=float(args.rank) if args.alpha is None else args.alpha,
        algorithm=choice(Algorithm, args.algorithm, "Algorithm"),
        dropout=args.dropout,
        factor=args.factor,
    )
    if args.lycoris_config is None:
        return spec
    from ..lora.lycoris_config import read_lycoris

    try:
        text = args.lycoris_config.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise SliderError(f"Cannot read {args.lycoris_config} ({fault}).") from None
    spec, notes = read_lycoris(text, spec)
    for note in notes:
        say(f"Note: {note}.")
    return spec


def _train_spec(args: argparse.Namespace) -> TrainSpec:
    """What the options ask for; a preset in place of those that it sets."""
    optimizer = choice(Optimizer, args.optimizer, "Optimizer")
    plain = {
        "steps": args.steps,
        "batch": args.batch,
        "schedule": choice(Schedule, args.schedule, "Schedule"),
        "warmup": args.warmup,
        "accumulate": args.accumulate,
        "ema": args.ema,
    }
    return TrainSpec(
        seed=args.seed,
        objective=choice(Objective, args.objective, "Objective"),
        lr=args.lr,
        timesteps=choice(Timesteps, args.timesteps, "Timesteps"),
        neutral_weight=args.neutral_weight,
        optimizer=optimizer,
        **plain | preset_fields(choice(TrainPreset, args.preset, "Preset"), optimizer),
    )


def _check_place(args: argparse.Namespace) -> Path | None:
    """The saved run to go on with, None to begin. SliderError where something would be lost, or cannot be written."""
    from ..lora.safe_files import check_writable
    from ..train.training_saves import run_file

    saved = run_file(args.out.parent / RUNS, args.out.stem)
    check_writable(args.out.parent, args.out.name)
    check_writable(saved.parent, saved.name)
    if args.resume:
        if not saved.is_file():
            raise SliderError(f"There is no run to go on with: {saved} is missing. Leave --resume out to begin.")
        return saved
    refuse_existing(args)
    if saved.is_file() and not args.overwrite:
        raise SliderError(f"{saved} holds a run. Add --resume to go on with it, or --overwrite to begin anew.")
    return None


@contextmanager
def finishing() -> Iterator[Callable[[], bool]]:
    """Within the block the first Ctrl-C only asks; the answer is whether it was asked. The second one stops at once."""
    asked: list[bool] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler

    def ask(_signal: int, _frame: object) -> None:
        asked.append(True)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)


def _train(backend: TinyBackend, run: Run, spec: TrainSpec, args: argparse.Namespace) -> None:
    """Up to the last step, and calibrated unless that is switched off. Stopped when the user stops it."""
    from ..train.training_saves import Autosave

    trainer = run.trainer
    if run.step < spec.steps:
        trainer.adopt(spec)
    keep = SaveSpec(every=args.checkpoint_every, keep=args.checkpoints_kept)
    with finishing() as asked, Autosave(run, args.out.parent / RUNS, keep) as autosave:

        def on_step(report: Any) -> bool:
            autosave.after_step()
            progress(report)
            return asked()

        try:
            trainer.run(backend, spec.steps, on_step)
            if run.step >= spec.steps and not args.no_calibration:
                run.calibrate(backend)
        except KeyboardInterrupt:
            autosave.save()
            raise Stopped(_kept(run, autosave.summary(), autosave.folder)) from None
    if run.step < spec.steps:
        raise Stopped(_kept(run, autosave.summary(), autosave.folder))


def _kept(run: Run, words: str, folder: Path) -> str:
    return f"Stopped after step {run.step}. {words} It lies in {folder}; the same command with --resume goes on."


def command_train(args: argparse.Namespace) -> dict[str, Any]:
    from ..lora.header_fields import kinds
    from ..lora.slider_file import load_slider, lost_to, save_slider
    from ..with_tiny.model import TinyBackend
    from ..with_tiny.smile_demo import begin_tiny
    from .line import with_words

    spec = _train_spec(args)
    need_ending(args.out, ".safetensors")
    adapter_spec, dtype = _adapter_spec(args), choice(FileDtype, args.dtype, "Number format")
    start = load_slider(args.start_from) if args.start_from else None
    dataset = with_words(args, dataset_of(args) if args.dataset else None)
    saved = _check_place(args)
    say(dataset.report)
    backend = TinyBackend()
    run = begin_tiny(backend, args.out.stem, dataset, adapter_spec, spec, start, saved)
    if saved:
        say(f"Going on after step {run.step}.")
    _train(backend, run, spec, args)
    trainer, slider = run.trainer, run.slider()
    save_slider(args.out, slider, dtype, overwrite=args.overwrite or args.resume)
    lost = lost_to(slider, dtype)
    say(f"{run.verdict()} Saved {args.out}." + (f" As {dtype.value} its effect is rounded by {lost:.2%}." if lost else ""))
    say(run.calibrated)
    plus, minus = trainer.readings[-1].explained
    return {
        "out": str(args.out),
        "steps": trainer.step,
        "algorithm": adapter_spec.algorithm.value if start is None else "/".join(kinds(slider.weights)),
        "objective": spec.objective.value,
        "loss": trainer.losses[-1],
        "explained": {"positive": plus, "negative": minus},
        "verdict": run.verdict(),
        "calibration": slider.info.calibration.to_dict() if slider.info.calibration else None,
        "rounding": lost,
    }


def _from_0(text: str) -> int:
    return 0 if text == "0" else whole_number(10**6)(text)


def add_train(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The command and its options."""
    from .line import add_word_options

    words = "train a slider from positive/ and negative/ folders, or from words"
    train = commands.add_parser("train", parents=[shared], help=words)
    add_dataset(train)
    add_word_options(train)
    train.add_argument("--backend", choices=["tiny"], default="tiny")
    train.add_argument("--steps", type=whole_number(10**6), default=TrainSpec.steps)
    train.add_argument("--seed", type=seed_number, default=0)
    train.add_argument("--objective", default=TrainSpec.objective.value, help=", ".join(o.value for o in Objective))
    train.add_argument("--lr", type=float, default=TrainSpec.lr)
    train.add_argument("--timesteps", default=TrainSpec.timesteps.value, help=", ".join(t.value for t in Timesteps))
    train.add_argument("--schedule", default=TrainSpec.schedule.value, help=", ".join(s.value for s in Schedule))
    train.add_argument("--preset", default=TrainPreset.CUSTOM.value, help=", ".join(p.value for p in TrainPreset))
    train.add_argument("--optimizer", default=TrainSpec.optimizer.value, help=", ".join(o.value for o in Optimizer))
    train.add_argument("--warmup", type=_from_0, default=TrainSpec.warmup, help="steps in which the learning rate rises")
    train.add_argument("--accumulate", type=whole_number(1024), default=TrainSpec.accumulate, help="batches in one step")
    train.add_argument("--ema", type=float, default=TrainSpec.ema, help="decay of the average that is saved; 0: none")
    train.add_argument("--neutral-weight", type=float, default=TrainSpec.neutral_weight)
    train.add_argument("--no-calibration", action="store_true", help="leave the strengths as they were trained")
    train.add_argument("--batch", type=whole_number(1024), default=TrainSpec.batch)
    train.add_argument("--algorithm", default=AdapterSpec.algorithm.value, help=", ".join(a.value for a in Algorithm))
    train.add_argument("--rank", type=whole_number(1024), default=AdapterSpec.rank)
    train.add_argument("--alpha", type=float, help="the update is scaled by alpha / rank; the rank unless given")
    train.add_argument("--dropout", type=float, default=AdapterSpec.dropout)
    train.add_argument("--factor", type=int, default=AdapterSpec.factor, help="of lokr")
    train.add_argument("--lycoris-config", type=Path, help="a LyCORIS configuration (JSON) in place of these five")
    train.add_argument("--start-from", type=Path, help="a slider or LoRA to go on from, with its own layers and algorithm")
    train.add_argument("--dtype", default=FileDtype.FP32.value, help=", ".join(d.value for d in FileDtype))
    train.add_argument("--resume", action="store_true", help="go on with the run of that name, kept in runs/ beside --out")
    train.add_argument("--checkpoint-every", type=_from_0, default=SaveSpec.every, help="keep the slider every so many steps")
    train.add_argument(
        "--checkpoints-kept", type=whole_number(1000), default=SaveSpec.keep, help="of the last ones; the best stays"
    )
    train.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    train.add_argument("--overwrite", action="store_true")
    train.set_defaults(run=command_train)
