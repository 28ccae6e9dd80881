"""Begins, continues and runs a training over any backend: the one driver of the node, the command line and the demo.

In: a TrainingRequest, a Session, a Backend; what only a host has (folders, encoders with a progress bar, a screen) as callbacks.
Out: a Run in the session, trained up to a step, saved while it trains, calibrated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from ..backend import Backend
from ..config.checks import clean_text
from ..config.lora import AdapterSpec
from ..config.training import Optimizer, Sides, TrainSpec
from ..data.dataset import Dataset, origin
from ..data.dataset_parts import parts_of
from ..data.pairs_report import pairs_report
from ..encode.encoder import Sample
from ..encode.text_latents import encode_all
from ..layers.layer import Target, slices
from ..layers.select import survey
from ..lora.combine import cut
from ..lora.formats.native import to_native
from ..lora.safetensors_file import tensor_hash
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..objective.one_way import on_sides
from ..ranks import Ranks
from .displacement import Wanted
from .learning_rate import need_plausible
from .step_report import StepReport
from .trainer import Trainer
from .training_run import Run
from .training_saves import Autosave
from .trainings import Session


@dataclass(frozen=True)
class TrainingRequest:
    """What a slider is to be trained with. `targets`: None for those that `adapter` chooses. `start`: a slider to go on from.
    `resolution`: 0 for the backend's own; None where there is no choice, so that it is no part of the fingerprint."""

    name: str
    dataset: Dataset
    adapter: AdapterSpec
    spec: TrainSpec
    targets: Sequence[Target] | None = None
    start: Slider | None = None
    resolution: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", clean_text(self.name))  # as a file gives it back


class Observer:
    """What a host does while a run trains. This one does nothing; a host replaces what it needs."""

    def after_step(self, report: StepReport) -> None:
        """Called after each step; an exception out of it ends the training, and what was learned is saved."""

    def stop_requested(self) -> bool:
        """Whether the training is to end with this step."""
        return False

    def pause_due(self, _report: StepReport) -> bool:
        """Whether the training is to pause after this step."""
        return False

    def pause(self) -> None:
        """Called in a pause, when the borrowed model is back in its place."""

    def calibration_begins(self) -> None:
        """Called before the calibration."""

    def calibration_pass(self, done: int, expected: int) -> None:
        """Called after each forward pass of the calibration, of about so many; an exception out of it ends the calibration."""


def fingerprint(backend: Backend, request: TrainingRequest) -> dict[str, str]:
    """What a run is begun with and must keep, by name."""
    values = backend.training_fingerprint() | origin(request.dataset) | {"adapter": request.adapter.to_json()}
    values |= parts_of(request.dataset)
    if request.resolution is not None:
        values["resolution"] = str(request.resolution)
    if request.spec.sides is not Sides.BOTH:
        values["sides"] = request.spec.sides.value
    if request.start is not None:
        values["start"] = tensor_hash(to_native(request.start.cut().weights))[:16]
    return values


def make_adapter(backend: Backend, request: TrainingRequest, place: Callable[[Slider], Slider] | None = None) -> Adapter:
    """A fresh adapter, or that of the slider to go on from: its own layers, sizes and algorithm, and no more slices than chosen.

    `place` finds the layers of that slider in the backend's module, where it may name them otherwise.
    """
    backend.load()  # encoding may have sent the model away, and a DoRA reads its weights
    spec = request.adapter
    targets = request.targets
    if targets is None:
        selection = survey(backend.module, spec)
        targets, spec = selection.targets, selection.spec
    if request.start is None:
        return Adapter.create(backend.module, targets, spec, seed=request.spec.seed, device=backend.device)
    start = place(request.start) if place else request.start.cut()
    weights = cut(start.weights, slices(targets))
    return Adapter.from_weights(backend.module, weights, backend.device, dropout=spec.dropout)


def begin(
    session: Session,
    backend: Backend,
    request: TrainingRequest,
    saved: Path | None = None,
    encode: Callable[[], Sequence[Sample]] | None = None,
    place: Callable[[Slider], Slider] | None = None,
    ranks: Ranks | None = None,
) -> Run:
    """The run of that name, with the choices of the request from here on: continued from memory or from the file `saved` when it
    was begun with the same fingerprint, else begun. `encode` and `place`: the host's own ways, see `make_adapter`. `ranks`: the
    processes that train it together, of which the first reads the file and encodes.
    """
    backend.load()  # what ran last may have left its patches in place, which a fingerprint would see
    ranks = ranks or Ranks()
    marks = fingerprint(backend, request)
    ranks.need_same(str(marks), "model, dataset or choice")

    def make() -> Trainer:
        samples = ranks.share(encode or (lambda: encode_all(request.dataset, backend, request.resolution or None)))
        sided = on_sides(samples, request.spec.sides)
        return Trainer(make_adapter(backend, request, place), sided, request.spec)

    adapter_spec = request.adapter if request.start is None else None
    if ranks.rank:  # the first reads for all
        saved = None
    run = session.begin(request.name, marks, make, adapter_spec, saved)
    run.trainer.ranks = ranks
    if ranks.world > 1:
        run.trainer.load_state_dict(ranks.share(run.trainer.state_dict))
    if run.contradiction is None and run.trainer.wanted is Wanted.PAIRS:
        run.contradiction, run.alike = ranks.share(lambda: _at_fault(request.dataset))
    if run.step < (request.spec.steps or run.trainer.ready_at):  # what nothing is left to train with does not enter the file
        go_on_with(run, request.spec)
    return run


def go_on_with(run: Run, spec: TrainSpec) -> None:
    """Take over other choices from the next step on. SliderError, before anything of the run changes, where their learning rate
    is far beyond the one that the probe has found."""
    if run.step and spec.optimizer is not Optimizer.PRODIGY:
        need_plausible(spec, run.trainer.probed)
    run.trainer.adopt(spec)


def _at_fault(dataset: Dataset) -> tuple[str, str]:
    """Which pairs contradict each other, and in which nothing differs."""
    report = pairs_report(dataset)[2]
    return report.contradiction, report.alike


def train(run: Run, backend: Backend, until: int, autosave: Autosave | None = None, observer: Observer | None = None) -> None:
    """Train up to step `until`, until the slider is ready where no number of steps is set, or until the observer requests a stop;
    saved at the end, however that comes.

    For every pause the trainer is left, so that the borrowed model is back in its place; a step depends on the seed and its
    number only, so the pauses change nothing.
    """
    watch = observer or Observer()

    def on_step(report: StepReport) -> bool:
        if autosave is not None:
            autosave.after_step()
        watch.after_step(report)
        return watch.stop_requested() or watch.pause_due(report)

    ranks = run.trainer.ranks
    run.trainer.check_rate(backend)
    with autosave or nullcontext():
        while True:
            run.trainer.run(backend, until, on_step)
            stopped = ranks.any(watch.stop_requested())
            if run.step >= until_ready(run, until) or stopped:
                return
            watch.pause()
            if ranks.any(watch.stop_requested()):
                return


def until_ready(run: Run, until: int) -> int:
    """The step at which a training up to `until` ends: earlier where no number of steps is set and the slider is ready."""
    return until if run.trainer.spec.steps else min(until, run.trainer.end)


def calibrate_run(run: Run, backend: Backend, autosave: Autosave | None = None, observer: Observer | None = None) -> None:
    """Find what the strengths of the run's slider mean, unless it was trained by no step or calibrated at this one already."""
    watch = observer or Observer()
    if not run.step or run.calibrated_now:
        return
    watch.calibration_begins()
    run.calibrate(backend, watch.calibration_pass)
    if autosave is not None:
        autosave.save_slider()  # once more, now that its strengths mean something


def trained(backend: Backend, request: TrainingRequest, observer: Observer | None = None) -> Run:
    """A run from its first to its last step, calibrated, in memory alone."""
    run = begin(Session(), backend, request)
    train(run, backend, run.trainer.end, observer=observer)
    calibrate_run(run, backend, observer=observer)
    return run
