"""SliderTrainStep: trains on the model the graph has loaded and hands the slider on, so that the same run previews it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

import comfy.utils
from comfy_api.latest import io

from ..slider_core.config.checks import clean_text
from ..slider_core.config.training import Sides, TrainSpec
from ..slider_core.data.dataset import Dataset, OnImage
from ..slider_core.data.fitting import enlarged_note
from ..slider_core.encode.encoder import Sample
from ..slider_core.families.distilled import Distilled
from ..slider_core.lora.formats.native import to_native
from ..slider_core.lora.slider_file import Slider
from ..slider_core.train.training_choices import TrainChoices, end_of_run
from ..slider_core.train.training_file import lineage_of
from ..slider_core.train.training_run import Run
from ..slider_core.train.training_saves import Autosave, run_file
from ..slider_core.train.trainings_driver import TrainingRequest, calibrate_run, go_on_with, train, until_ready
from ..slider_core.use.plot_curves import draw_training
from ..slider_core.use.sampling import SamplingRequest
from ..slider_core.with_comfy.edit_reference import has_reference
from ..slider_core.with_comfy.family import preferences_of, shifted
from ..slider_core.with_comfy.model_backend import ComfyBackend
from ..slider_core.with_comfy.model_with_control import backend_for
from ..slider_core.with_comfy.training_strip import live_preview
from ..slider_core.with_comfy.trainings_host import begin_on_model, encoded_samples, snapshot
from .frames import as_image
from .graph_files import model_files
from .live import Place, showing
from .live_preview import Strips
from .messages import MESSAGE_EVERY, executing_graph, executing_node, preparing, say
from .running import (
    SESSION,
    NodeObserver,
    begin_turn,
    encoded_before,
    run_again,
    runs_folder,
    steps_wanted,
    training_here,
    turn_of,
)
from .sockets import TRAINING_MENU, DatasetSocket, SamplingSocket, SliderSocket, TargetsSocket, TrainOptionsSocket
from .target import Targets, automatic_targets
from .train_options import MOST

NAME = "The slider's name, and its file's. The same name continues it. Empty: that of the dataset's folder."
STEPS = "Training ends here; more than before goes on. 0: when the slider is ready."
RATE = "0: found by a probe of a few batches, for every model, rank and algorithm."
OLD_NAME = "A name that was trained before: go on with it, or discard that training and begin anew."
TARGETS = "From Slider Target Injector. Without it: the layers that suit the model, at rank 4."
NAMELESS = "my_slider"
FINISHED = "The training is already finished: press train on to go beyond its end, or set steps above {}."
NO_OPTIONS = TrainChoices(name="")
START_FROM = "A slider or LoRA to continue from (Load Slider LoRA), with its own layers, rank and algorithm."
CONTROL = "From Apply ControlNet: its ControlNet acts while the slider trains. One image for all, one per pair, or one per image."


class OldName(str, Enum):
    """What a name that was trained before means."""

    CONTINUE = "continue"
    RESTART = "restart"


@dataclass(frozen=True, kw_only=True)
class TrainSockets:
    """What may be connected beside model and dataset, by the names of the inputs."""

    targets: Targets | None = None
    sampling: SamplingRequest | None = None
    options: TrainChoices | None = None
    start_from: Slider | None = None
    control: Any = None


def encoder(backend: ComfyBackend, request: TrainingRequest) -> Callable[[], Sequence[Sample]]:
    """Encodes the dataset with ComfyUI's progress bar and the cache."""
    bar = comfy.utils.ProgressBar(1)

    def reporting(work: str) -> OnImage:
        def on_one(done: int, total: int) -> None:
            bar.update_absolute(done, total)
            if done % MESSAGE_EVERY == 1 or done == total:
                say(f"{work} {done} of {total}")

        return on_one

    def encode() -> Sequence[Sample]:
        disk = encoded_before()
        reports = reporting("encoding image"), reporting("making latent")
        samples = encoded_samples(backend, request.dataset, request.resolution or 0, disk, *reports)
        say(f"{disk.summary()} Next: the layers and the learning rate.")
        return samples

    return encode


def begin_in_node(backend: ComfyBackend, request: TrainingRequest, reset: bool = False) -> Run:
    """The slider of that name: continued when it is under training with the same choices, here or on disk, else begun."""
    saved = run_file(runs_folder(), request.name)
    if not reset:
        return begin_on_model(SESSION, backend, request, saved, encoder(backend, request))
    before = SESSION.get(request.name)
    lineage = lineage_of(saved) if before is None else before.lineage
    SESSION.drop(request.name)
    run = begin_on_model(SESSION, backend, request, None, encoder(backend, request))
    if lineage is not None:
        run.lineage = lineage.restarted()
    return run


def with_steps(run: Run, spec: TrainSpec, steps: int) -> TrainSpec:
    """The choices with that number of steps, which the run takes over while it has not made them."""
    if steps == spec.steps:
        return spec
    spec = replace(spec, steps=steps)
    if run.step < steps:
        go_on_with(run, spec)
    return spec


def ignored(run: Run, spec: TrainSpec) -> str:
    """Which choices had no effect because nothing was left to train; empty where none differs."""
    was = run.trainer.spec
    names = {"lr": "learning_rate", "seed": "training_seed", "window": "noise_from or noise_to"}
    changed = []
    for field in fields(TrainSpec):
        before, now = getattr(was, field.name), getattr(spec, field.name)
        if before != now and field.name != "steps":
            value = getattr(now, "value", now)
            changed.append(names.get(field.name, field.name) + (f" {value:g}" if isinstance(value, float) else f" {value}"))
    return f" Not used, because nothing was left to train: {', '.join(changed)}." if changed else ""


@dataclass(frozen=True)
class Turn:
    """One run of the graph: the steps that it began at and was to reach, what was asked for, what the model's family chose; what
    is said of images that are `small`."""

    begun: int
    until: int
    spec: TrainSpec
    choices: TrainChoices
    took: str
    small: str = ""
    one_by_one: bool = False

    def remark(self, run: Run) -> str:
        """What a user should know of how it ended."""
        if run.step == self.begun and run.step:
            return f" {FINISHED.format(run.step)}{ignored(run, self.spec)}"
        text = ""
        if self.one_by_one:
            text += " This model mixes the samples of a batch, so they ran one by one."
        if run.step < self.until:
            text += " Finished early, as you asked: run again to go on."
        return text


class SliderTrainStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTrainStep",
            display_name="Slider Train Step",
            category=TRAINING_MENU,
            description="Trains the slider on the loaded model until it is ready and hands it on. Run again to go on with "
            "one that is unfinished. The model itself is not changed. Stop keeps what was learned.",
            search_aliases=["train slider", "concept slider", "train lora"],
            has_intermediate_output=True,  # what the node shows comes again when it is not run anew
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            inputs=[
                io.Model.Input("model", tooltip="The model to train on. It is borrowed, and the same afterwards."),
                io.Clip.Input("clip", tooltip="Encodes the captions."),
                io.Vae.Input("vae", tooltip="Encodes the images."),
                DatasetSocket.Input("dataset", tooltip="From Load Slider Dataset, Slider Bucket or Slider Text Pair."),
                io.String.Input("name", default="", placeholder="the folder's name", tooltip=NAME),
                io.Int.Input("steps", default=0, min=0, max=MOST, tooltip=STEPS),
                io.Float.Input("learning_rate", default=0.0, min=0.0, max=1.0, step=1e-5, round=1e-7, tooltip=RATE),
                io.Int.Input("training_seed", default=0, min=0, max=2**31 - 1, tooltip="Noise and order of the training."),
                io.Combo.Input("old_name", options=OldName, default=OldName.CONTINUE, optional=True, tooltip=OLD_NAME),
                TargetsSocket.Input("targets", optional=True, tooltip=TARGETS),
                SamplingSocket.Input("sampling", optional=True, tooltip="A strip to watch meanwhile, from Slider Sampling."),
                TrainOptionsSocket.Input("options", optional=True, tooltip="From Slider Train Options."),
                SliderSocket.Input("start_from", optional=True, tooltip=START_FROM),
                io.Conditioning.Input("control", optional=True, tooltip=CONTROL),
            ],
            outputs=[
                SliderSocket.Output(display_name="slider", tooltip="For Slider LoRA Apply, the sweep and Save Slider LoRA."),
                io.LoraModel.Output(display_name="lora", tooltip="For ComfyUI's own nodes: Load LoRA Model, Save LoRA Weights."),
                io.LossMap.Output(display_name="loss_map", tooltip="For ComfyUI's Plot Loss Graph."),
                io.String.Output(display_name="status", tooltip="The step, and whether the slider works."),
                io.Image.Output(display_name="curve", tooltip="Explained share and loss over the steps, as a picture."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, old_name: str | None = OldName.CONTINUE.value, **_choices: object) -> float | int:
        """Changes, so that the node runs again, while its last run has left something to train, or when it is to train on.
        Always anew with restart."""
        if old_name == OldName.RESTART.value:
            return float("nan")
        return turn_of(str(cls.hidden.unique_id))

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Dataset,
        name: str,
        steps: int,
        learning_rate: float,
        training_seed: int,
        old_name: str = OldName.CONTINUE.value,
        **sockets: Any,
    ) -> io.NodeOutput:
        connected = TrainSockets(**sockets)
        files = model_files(cls.hidden.prompt)
        likes = preferences_of(model, files, Distilled.AUTO if connected.sampling is None else connected.sampling.distilled)
        numbers = {"steps": steps, "learning_rate": learning_rate, "training_seed": training_seed}
        choices = replace(connected.options or NO_OPTIONS, name=clean_text(name).strip() or dataset.name or NAMELESS, **numbers)
        drawn_with_one = connected.sampling is not None and has_reference(connected.sampling.positive)
        reference = dataset.spec.reference_note(choices.sides == Sides.PLUS.value, drawn_with_one)
        took = " ".join(filter(None, [reference, choices.taken(likes)]))
        choices = choices.for_model(likes)
        name, spec = choices.name, choices.train_spec()
        restart = old_name == OldName.RESTART.value
        preview = None
        if connected.sampling is not None:
            preview = live_preview(connected.sampling, model, files, clip, choices.strip_strengths, choices.strip_every)
            took = f"{took} {preview.drawing.summary}".strip()
        targets = connected.targets or automatic_targets(model)
        backend = backend_for(shifted(model, likes), vae, clip, targets.control_net, connected.control, spec.checkpointing)
        backend.few_steps = likes.few_steps
        layers = targets.selection.targets
        small = enlarged_note(dataset, choices.resolution, backend.image_step, "resolution in Slider Train Options")
        request = TrainingRequest(name, dataset, targets.spec, spec, layers, connected.start_from, choices.resolution)
        place = Place(executing_node(), executing_graph())
        begin_turn(place.node)
        with preparing():
            run = begin_in_node(backend, request, restart)
            spec = with_steps(run, spec, steps_wanted(run, place.node, steps))
            until = end_of_run(run.step, choices.steps_per_run, spec.steps or run.trainer.ready_at)
            turn = Turn(run.step, until, spec, choices, took, small)
            status, shown = train_and_show(run, backend, turn, Strips(preview, vae), place)
        return results(run, model, status, shown)


def at_begin(run: Run, small: str) -> str:
    """What is said beside a training from its begin: of images that are enlarged, and of pairs in which nothing differs."""
    alike = f"{run.alike[0].upper()}{run.alike[1:]}: replace one of the two images." if run.alike else ""
    return " ".join(filter(None, [small, alike]))


def train_and_show(run: Run, backend: ComfyBackend, turn: Turn, strips: Strips, place: Place) -> tuple[str, dict[str, Any]]:
    """(how it ended, in sentences; what the node shows). An unfinished training makes the node run again."""
    autosave = Autosave(run, runs_folder(), replace(turn.choices.saves(), slider=False))
    with showing(run, turn.until, strips, place, at_begin(run, turn.small)) as live:
        observer = NodeObserver(turn.until, live)
        with training_here():
            train(run, backend, turn.until, autosave, observer)
        if turn.choices.calibrate:
            calibrate_run(run, backend, autosave, observer)
        elif run.step:
            run.read_now(backend)
        live.draw()
        until = until_ready(run, turn.until)
        if run.step < (turn.spec.steps or run.trainer.end):
            run_again(place.node)
        turn = replace(turn, until=until, one_by_one=backend.one_by_one)
        status = summary(run, turn, autosave, backend, live.strips)
        live.conclude(status, until)
    return status, live.state()


def results(run: Run, model: Any, status: str, shown: dict[str, Any]) -> io.NodeOutput:
    """The outputs of the node."""
    curve = as_image(draw_training(run.trainer.losses, run.trainer.readings, run.name))
    slider = snapshot(run, model)
    state = to_native(slider.weights, slider.info.place.prefix)
    loss_map = {"loss": list(run.trainer.losses)}
    return io.NodeOutput(slider, state, loss_map, status, curve, ui={"text": (status,), "slider_train": [shown]})


def summary(run: Run, turn: Turn, autosave: Autosave, backend: ComfyBackend, strips: Strips) -> str:
    """How a run of the graph ended, in sentences."""
    trainer = run.trainer
    memory = backend.memory.summary()
    total = f"{max(run.step, turn.spec.steps or trainer.ready_at)}"
    if run.step < trainer.end and run.open_ended:
        total = f"at most {total}"
    verdict = [f"{run.name}: step {run.step} of {total}.{turn.remark(run)}", run.verdict(), run.strength_note()]
    parts = [
        run.found_note().strip(),
        f"{autosave.summary()}{trainer.fallback.summary()}{strips.summary()}",
        turn.small,
        turn.took,
        backend.notes(),
        f"Peak memory {memory}." if memory else "",
    ]
    lines = [" ".join(filter(None, verdict)), " ".join(filter(None, parts))]
    return "\n".join([*lines, *(f"start_from: {line}" for line in backend.left_out)])


NODES = [SliderTrainStep]
