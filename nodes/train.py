"""SliderTrainStep: trains on the model the graph has loaded and hands the slider on, so that the same run previews it."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import comfy.utils
from comfy_api.latest import io

from ..slider_core.config.checks import clean_text
from ..slider_core.data.dataset import Dataset, OnImage
from ..slider_core.encode.encoder import Sample
from ..slider_core.encode.text_latents import encode_all
from ..slider_core.families.distilled import Distilled
from ..slider_core.lora.formats.native import to_native
from ..slider_core.lora.slider_file import Slider
from ..slider_core.train.learning_rate import rate_note
from ..slider_core.train.training_choices import TrainChoices, end_of_run, lengths
from ..slider_core.train.training_run import Run
from ..slider_core.train.training_saves import Autosave, run_file
from ..slider_core.train.trainings_driver import TrainingRequest, begin, calibrate_run, train, until_ready
from ..slider_core.use.plot_curves import draw_training
from ..slider_core.use.sampling import SamplingRequest
from ..slider_core.with_comfy.family import preferences_of, shifted
from ..slider_core.with_comfy.layer_names import architecture
from ..slider_core.with_comfy.model_backend import ComfyBackend
from ..slider_core.with_comfy.model_with_control import backend_for
from ..slider_core.with_comfy.proof import Proof
from ..slider_core.with_comfy.training_strip import live_preview
from .frames import as_image
from .graph_files import model_files
from .live import showing
from .live_preview import Strips
from .messages import MESSAGE_EVERY, say
from .running import SESSION, NodeObserver, encoded_before, runs_folder, training_here
from .sockets import TRAINING_MENU, DatasetSocket, SamplingSocket, SliderSocket, TargetsSocket
from .target import Targets
from .train_inputs import fine_inputs, main_inputs, optimizer_inputs

START_FROM = "A slider or LoRA to continue from (Load Slider LoRA), with its own layers, rank and algorithm."
CONTROL = "From Apply ControlNet: its ControlNet acts while the slider trains. One image for all, one per pair, or one per image."


def encoder(backend: ComfyBackend, request: TrainingRequest) -> Callable[[], Sequence[Sample]]:
    """Encodes the dataset with ComfyUI's progress bar and the cache; with control hints each sample has its own."""
    bar = comfy.utils.ProgressBar(1)

    def reporting(work: str) -> OnImage:
        def on_one(done: int, total: int) -> None:
            bar.update_absolute(done, total)
            if done % MESSAGE_EVERY == 1 or done == total:
                say(f"{work} {done} of {total}")

        return on_one

    def encode() -> Sequence[Sample]:
        disk = encoded_before()
        hints = backend.hints
        backend.hints = None  # latents of a text slider are drawn without them
        try:
            on_image, on_latent = reporting("encoding image"), reporting("making latent")
            samples = encode_all(request.dataset, backend, request.resolution or None, disk, on_image, on_latent)
        finally:
            backend.hints = hints
        say(disk.summary())
        return samples if hints is None else hints.given_out(samples)

    return encode


def begin_in_node(backend: ComfyBackend, request: TrainingRequest, reset: bool = False) -> Run:
    """The slider of that name: continued when it is under training with the same choices, here or on disk, else begun."""
    if reset:
        SESSION.drop(request.name)
    saved = None if reset else run_file(runs_folder(), request.name)
    run = begin(SESSION, backend, request, saved, encoder(backend, request), backend.place)
    if backend.hints is not None:
        backend.hints.encode(run.trainer.samples, backend.patcher.model.model_sampling, backend.device)
    return run


def snapshot(run: Run, model: Any) -> Slider:
    """The slider as it stands, with what it takes to try its file on a real forward."""
    sample = run.trainer.samples[0]
    slider = run.slider()
    info = replace(slider.info, architecture=architecture(model))
    proof = None if info.in_controlnet else Proof(weakref.ref(model), sample.latent, sample.cond)
    return replace(slider, info=info, proof=proof)


def remark(run: Run, begun: int, until: int, reset: bool, one_by_one: bool) -> str:
    """What a user should know of how this run of the graph ended."""
    if run.step == begun:
        return " The training is already finished: a larger total_steps goes on."
    text = ""
    if one_by_one:
        text += " This model mixes the samples of a batch, so they ran one by one."
    if run.step < until:
        text += " Finished early, as you asked: queue again to go on."
    if reset:
        text += " reset is on: the next run begins anew."
    return text


class SliderTrainStep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTrainStep",
            display_name="Slider Train Step",
            category=TRAINING_MENU,
            description="Trains the slider on the loaded model for some steps and hands it on. Queue again to continue. "
            "The model itself is not changed. Stop keeps what was learned.",
            search_aliases=["train slider", "concept slider", "train lora"],
            has_intermediate_output=True,
            hidden=[io.Hidden.prompt],
            inputs=[
                io.Model.Input("model", tooltip="The model to train on. It is borrowed, and the same afterwards."),
                io.Clip.Input("clip", tooltip="Encodes the captions."),
                io.Vae.Input("vae", tooltip="Encodes the images."),
                DatasetSocket.Input("dataset", tooltip="From Load Slider Dataset, Slider Bucket or Slider Text Pair."),
                TargetsSocket.Input("targets", tooltip="From Slider Target Injector."),
                *main_inputs(),
                *fine_inputs(),
                SliderSocket.Input("start_from", optional=True, tooltip=START_FROM),
                SamplingSocket.Input(
                    "sampling", optional=True, tooltip="A strip to watch while it trains, drawn by Slider Sampling."
                ),
                *optimizer_inputs(),
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
    def fingerprint_inputs(
        cls, name: str, steps: int, total_steps: int, reset: bool = False, preset: str | None = "custom", **_choices: object
    ) -> float | str:
        """The step this run would reach: changes, and so runs again, while there are steps left.

        Always anew with reset, and where an input is linked, which is None here.
        """
        if reset or None in (name, steps, total_steps, preset):
            return float("nan")
        name = clean_text(name)
        steps, total_steps = lengths(preset, steps, total_steps)
        if not steps and not total_steps:
            return f"{name}: until it is ready, finished early at {SESSION.ended_at(name)}"
        until = end_of_run(SESSION.step(name), steps, total_steps or SESSION.ready_at(name))
        return f"{name}: {until}, finished early at {SESSION.ended_at(name)}"

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Dataset,
        targets: Targets,
        start_from: Slider | None = None,
        sampling: SamplingRequest | None = None,
        control: Any = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        files = model_files(cls.hidden.prompt)
        likes = preferences_of(model, files, Distilled.AUTO if sampling is None else sampling.distilled)
        chosen = TrainChoices(**inputs)
        took = chosen.taken(likes)
        chosen = chosen.for_model(likes)
        name = chosen.name
        preview = None
        if sampling is not None:
            preview = live_preview(sampling, model, files, clip, chosen.strip_strengths, chosen.strip_every)
            took = f"{took} {preview.drawing.summary}".strip()
        steps, total_steps = chosen.lengths()
        backend = backend_for(shifted(model, likes), vae, clip, targets.control_net, control, chosen.checkpointing)
        layers = targets.selection.targets
        request = TrainingRequest(name, dataset, targets.spec, chosen.train_spec(), layers, start_from, chosen.resolution)
        run = begin_in_node(backend, request, chosen.reset)
        begun = run.step
        until = end_of_run(begun, steps, total_steps or run.trainer.ready_at)
        autosave = Autosave(run, runs_folder(), chosen.saves())
        with showing(run, until, Strips(preview, vae)) as live:
            observer = NodeObserver(begun, until, live)
            with training_here():
                train(run, backend, until, autosave, observer)
            if chosen.calibrate:
                calibrate_run(run, backend, autosave, observer)
            live.draw()
        until = until_ready(run, until)
        if run.step < until:
            run.ended_at = run.step
        slider = snapshot(run, model)
        memory = backend.memory.summary()
        trainer = run.trainer
        rate = rate_note(trainer.spec, trainer.probed)
        status = (
            f"{name}: step {run.step} of {max(run.step, total_steps or trainer.ready_at)}.{rate}"
            f"{remark(run, begun, until, chosen.reset, backend.one_by_one)} "
            f"{run.verdict()} {run.calibrated} {autosave.summary()}{run.trainer.fallback.summary()}{live.strips.summary()}"
        )
        if took:
            status += f" {took}"
        if notes := backend.notes():
            status += f" {notes}"
        if memory:
            status += f" Peak memory {memory}."
        status = "\n".join([status, *(f"start_from: {line}" for line in backend.left_out)])
        say(status)
        curve = as_image(draw_training(run.trainer.losses, run.trainer.readings, name))
        state = to_native(slider.weights, slider.info.place.prefix)
        return io.NodeOutput(slider, state, {"loss": list(run.trainer.losses)}, status, curve)


NODES = [SliderTrainStep]
