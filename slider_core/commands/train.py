"""train: a slider from a dataset or from prompts, kept on disk while it trains as the node keeps it, so it can go on.

<runs>/<name>/   the slider at the last autosave, the run, checkpoints, the strip (train/training_saves.py). <runs> is runs/
                 beside --out for the built-in model, and the node's own folder (ComfyUI's output/sliders) for a model of ComfyUI
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..backend import Backend
from ..config.checks import choice, need, values_of
from ..config.lora import AdapterSpec, FileDtype, FileFormat
from ..config.training import Sides, TrainSpec
from ..data.dataset import Dataset
from ..data.fitting import enlarged_note
from ..lora.header_fields import kinds
from ..lora.safe_files import check_writable
from ..lora.slider_file import Slider, load_slider, lost_to
from ..ranks import of_environment, world_size
from ..train.interrupts import SIGNALS, handled
from ..train.step_report import StepReport
from ..train.training_choices import TrainChoices, end_of_run
from ..train.training_run import Run
from ..train.training_saves import Autosave, run_file
from ..train.trainings_driver import TrainingRequest, calibrate_run, train, until_ready
from .choices import adapter_spec, add_flags, train_choices
from .datasets import add_dataset, add_text_options, training_data
from .hosts import Host, add_host, opened, wants_comfy
from .options import Commands, Progress, Shared, add_strict, need_ending, refuse_existing, say, say_left_out
from .strips import Strip, add_sampling, strip_of
from .tiny_host import TinyHost

REPEATED_S = 2.0  # torchrun hands Ctrl-C on to processes that have it already
RUNS = "runs"  # beside the file that is written


def add(commands: Commands, shared: Shared) -> None:
    text = "train a slider from positive/ and negative/ folders, or from prompts"
    add_options(commands.add_parser("train", parents=shared, help=text))


def add_options(command: argparse.ArgumentParser) -> None:
    add_host(command)
    add_dataset(command)
    add_text_options(command)
    add_flags(command.add_argument_group("how it trains"), "training")
    add_flags(command.add_argument_group("what is trained"), "targets")
    add_sampling(command, "drawn while it trains, in place of --prompt")
    command.add_argument("--strip", action="store_true", help="draw a strip without a prompt too: of the first caption")
    command.add_argument("--start-from", type=Path, help="a slider or LoRA to go on from, with its own layers and algorithm")
    add_strict(command)
    command.add_argument("--dtype", default=FileDtype.FP32.value, help=f"number format of the file: {values_of(FileDtype)}")
    command.add_argument("--format", default=FileFormat.NATIVE.value, help=f"of the file: {values_of(FileFormat)}")
    command.add_argument("--config", metavar="FILE", help="SimpleTuner's config.json: its options, before those given here")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file, and begin a run of that name anew")
    command.add_argument("--resume", action="store_true", help="go on with the run of that name, exactly where it was stopped")
    command.add_argument("--resume-if-begun", action="store_true", help="--resume where there is a run, else begin")
    command.add_argument("--name", help="name of the run; that of --out unless given")
    command.add_argument("--runs", type=Path, help="of runs; else runs/ beside --out, or ComfyUI's output/sliders")
    command.add_argument("--out", type=Path, required=True, help="the .safetensors file to write; a folder with --format peft")
    command.set_defaults(run=run)


@dataclass(frozen=True)
class Job:
    """A training as its options say it, before the model is known."""

    args: argparse.Namespace
    choices: TrainChoices
    adapter: AdapterSpec
    form: FileFormat
    dtype: FileDtype
    dataset: Dataset
    start: Slider | None


def train_spec(args: argparse.Namespace) -> TrainSpec:
    """The training choices of the options, as the built-in model has them."""
    return replace(train_choices(args, ""), checkpointing=False).for_model(TinyHost().likes).train_spec()


def job_of(args: argparse.Namespace) -> Job:
    """Everything that can be wrong without a model is refused here."""
    wants_comfy(args)
    train_spec(args)
    form = choice(FileFormat, args.format, "File format")
    if form is not FileFormat.PEFT:  # a folder
        need_ending(args.out, ".safetensors")
    adapter, notes = adapter_spec(args)
    dtype = choice(FileDtype, args.dtype, "Number format")
    start = load_slider(args.start_from, args.strict) if args.start_from else None
    dataset = training_data(args)
    for note in notes:
        say(f"Note: {note}.")
    return Job(args, train_choices(args, args.name or args.out.stem), adapter, form, dtype, dataset, start)


def _saved_run(job: Job, runs: Path) -> Path | None:
    """The saved run to go on with, None to begin. SliderError where something would be lost, or cannot be written."""
    args = job.args
    saved = run_file(runs, job.choices.name)
    check_writable(args.out.parent, args.out.name)
    check_writable(saved.parent, saved.name)
    if args.resume_if_begun:
        args.resume = saved.is_file()
        args.overwrite = True
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
    presses: list[float] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def stop(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    def request(_signal: int, _frame: object) -> None:
        again = bool(presses) and time.monotonic() - presses[0] > REPEATED_S
        presses.append(time.monotonic())
        if world_size() > 1 and not again:
            return
        for number in SIGNALS:
            signal.signal(number, stop)

    with handled(request):
        yield lambda: bool(presses)


class Stoppable(Progress):
    """A progress bar; Ctrl-C requests a stop; a strip is drawn now and then."""

    def __init__(self, stop_requested: Callable[[], bool], strip: Strip | None, until: int) -> None:
        self._stop_requested = stop_requested
        self._strip = strip
        self._until = until

    def stop_requested(self) -> bool:
        return self._stop_requested()

    def pause_due(self, report: StepReport) -> bool:
        return self._strip is not None and self._strip.due(report.step, self._until)

    def pause(self) -> None:
        if self._strip is not None:
            self._strip.draw()


def _train(backend: Backend, run: Run, autosave: Autosave | None, choices: TrainChoices, strip: Strip | None) -> None:
    """Up to the last step of this call, then calibrated. Raises Stopped when the user stops it."""
    until = end_of_run(run.step, choices.steps_per_run, run.trainer.end)
    try:
        with finishing() as stop_requested:
            observer = Stoppable(stop_requested, strip, until)
            train(run, backend, until, autosave, observer)
            until = until_ready(run, until)
            if run.step >= until and choices.calibrate:
                calibrate_run(run, backend, autosave, observer)
        stopped = run.step < until
    except KeyboardInterrupt:
        stopped = True
    if stopped and not run.step:
        raise KeyboardInterrupt  # nothing was kept to go on with
    if stopped:
        message = f"Stopped after step {run.step}."
        if autosave is not None:
            message += f" {autosave.summary()} It lies in {autosave.folder}; the same command with --resume goes on."
        raise Stopped(message)
    if strip is not None:
        strip.draw()


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Train the job of the options. Raises Stopped when the user stops it."""
    with of_environment() as ranks:
        job = job_of(args)
        with opened(args) as host:
            host.ranks = ranks
            try:
                return train_on(host, job)
            finally:
                host.session.drop(job.choices.name)  # what goes on reads the file; a queue's next job needs the memory


def train_on(host: Host, job: Job) -> dict[str, Any]:
    """Train, save and report that job on a loaded model."""
    args = job.args
    runs = args.runs or host.runs or args.out.parent / RUNS
    first = host.ranks.rank == 0  # of several processes the first reads and writes
    saved = _saved_run(job, runs) if first else None
    say(job.dataset.report)
    choices = job.choices.for_model(host.likes)
    tiny = isinstance(host, TinyHost)
    if tiny:
        choices = replace(choices, checkpointing=False)
    backend = host.backend()
    if tiny and job.start is not None:
        start = job.start.cut().on(backend.module)
        job = replace(job, start=start)
        say_left_out(start)
    request = request_of(host, job, choices, None if tiny else choices.resolution)
    if saved is None:
        host.session.drop(choices.name)
    size = request.resolution or 0
    begun = host.begin(backend, request, saved, lambda: host.encoded(backend, job.dataset, size, *encoding()))
    small = enlarged_note(job.dataset, size or backend.resolution, backend.image_step, "--resolution")
    lines = [small, job.dataset.spec.reference_note(request.spec.sides is Sides.PLUS, drawn_with_one=False), host.summary()]
    if not tiny:
        lines += [job.choices.taken(host.likes), *backend.left_out]
    for line in filter(None, lines):
        say(line)
    if saved:
        say(f"Going on after step {begun.step}.")
    if not first:
        _train(backend, begun, None, choices, None)
        return {}
    autosave = Autosave(begun, runs, choices.saves())
    strip = strip_of(args, host, job.dataset, begun, autosave)
    _train(backend, begun, autosave, choices, strip)
    return _written(host, job, begun, autosave, strip)


def request_of(host: Host, job: Job, choices: TrainChoices, resolution: int | None) -> TrainingRequest:
    """What the run is begun with, the layers chosen as Slider Target Injector chooses them."""
    if resolution is None:
        return TrainingRequest(choices.name, job.dataset, job.adapter, choices.train_spec(), start=job.start)
    selection = host.select(job.adapter)
    say(selection.report())
    spec = choices.train_spec()
    return TrainingRequest(choices.name, job.dataset, selection.spec, spec, selection.targets, job.start, resolution)


def encoding() -> tuple[Callable[[int, int], None], Callable[[int, int], None]]:
    """What says how far the encoding of images, and the making of latents, has come: a line every tenth of the way."""

    def reporting(work: str) -> Callable[[int, int], None]:
        def on_one(done: int, total: int) -> None:
            if done % max(1, total // 10) == 0 or done == total:
                say(f"{work} {done} of {total}")

        return on_one

    return reporting("Encoding image"), reporting("Making latent")


def _written(host: Host, job: Job, run: Run, autosave: Autosave, strip: Strip | None) -> dict[str, Any]:
    """The slider saved, and what there is to report."""
    args = job.args
    trainer = run.trainer
    slider = host.slider(run)
    out = args.out
    if run.saved_as != run.name:  # another process trains under this name: its file stays
        out = out.with_stem(run.saved_as)
        say(autosave.summary())
    notes = host.save(out, slider, job.form, job.dtype, args.overwrite or args.resume)
    say(f"Step {run.step}.{run.found_note()}")
    say(" ".join([f"{run.verdict()} Saved {out}.", *notes]))
    if strengths := f"{run.strength_note()}{trainer.fallback.summary()}".strip():
        say(strengths)
    report: dict[str, Any] = dict.fromkeys(("loss", "explained", "calibration", "strip"))
    if trainer.losses:
        report["loss"] = trainer.losses[-1]
    if trainer.readings:
        last = trainer.readings[-1]
        report["explained"] = {"positive": last.positive, "negative": last.negative}
    if slider.info.calibration:
        report["calibration"] = slider.info.calibration.to_dict()
    if strip is not None and not strip.trouble:
        report["strip"] = str(strip.file)
    return report | {
        "out": str(out),
        "steps": run.step,
        "algorithm": job.adapter.algorithm.value if job.start is None else "/".join(kinds(slider.weights)),
        "objective": trainer.spec.objective.value,
        "learning_rate": trainer.rate,
        "jitter": run.spec_in_force().jitter,
        "verdict": run.verdict(),
        "rounding": lost_to(slider, job.dtype),
    }
