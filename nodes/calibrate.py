"""SliderCalibrate: what the strengths of any slider mean, measured on a dataset's images."""

from dataclasses import replace
from typing import Any

from comfy_api.latest import io, ui

from ..slider_core.data.dataset import Dataset
from ..slider_core.encode.text_latents import encode_all
from ..slider_core.lora.slider_file import Slider
from ..slider_core.lora.useful_range import useful_range
from ..slider_core.train.calibration import calibrated
from ..slider_core.train.measurement import measure_any
from ..slider_core.train.progress_verdict import strengths_found
from ..slider_core.use.plot_curves import draw_calibration
from ..slider_core.with_comfy.family import preferences_of, shifted
from ..slider_core.with_comfy.model_backend import ComfyBackend
from .frames import as_image
from .graph_files import model_files
from .messages import calibrating, say
from .running import encoded_before
from .sockets import TRAINING_MENU, DatasetSocket, SliderSocket
from .train_options import resolution_input


class SliderCalibrate(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderCalibrate",
            display_name="Slider Calibrate",
            category=TRAINING_MENU,
            description="Finds the strength at which a slider, or any LoRA, shows what a dataset's images show, and makes it 1. "
            "Nothing is trained: some forward passes on noise that was never trained on.",
            search_aliases=["slider range", "normalise lora strength", "measure lora"],
            inputs=[
                io.Model.Input("model", tooltip="The model the slider is for, without the slider."),
                io.Clip.Input("clip", tooltip="Encodes the captions."),
                io.Vae.Input("vae", tooltip="Encodes the images."),
                SliderSocket.Input("slider", tooltip="From Load Slider LoRA or Slider Train Step."),
                DatasetSocket.Input("dataset", tooltip="Images of both ends: the ones it was trained on, or better, others."),
                io.Int.Input("seed", default=0, min=0, max=2**31 - 1, advanced=True, tooltip="Noise of the measurement."),
                resolution_input(),
            ],
            outputs=[
                SliderSocket.Output(display_name="slider", tooltip="The slider with strength 1 at what the images show."),
                io.String.Output(display_name="report", tooltip="What each strength means, in words."),
                io.Image.Output(display_name="curve", tooltip="What is explained of the images, against strength."),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls, model: Any, clip: Any, vae: Any, slider: Slider, dataset: Dataset, seed: int, resolution: int = 0
    ) -> io.NodeOutput:
        likes = preferences_of(model, model_files(cls.hidden.prompt))
        backend = ComfyBackend(shifted(model, likes), vae, clip)
        backend.few_steps = likes.few_steps
        samples = encode_all(dataset, backend, resolution or None, encoded_before())
        backend.load()  # encoding may have sent the model away, and a DoRA reads its weights
        placed = backend.place(slider)
        calibration = measure_any(backend, backend.adapter(placed), samples, seed, calibrating, slider.info.one_way)
        useful, found = strengths_found(calibration, placed.info)
        weights, info = calibrated(placed.weights, placed.info, calibration, useful)
        report = f"{found} {calibration.passes} forward passes."
        say(report)
        name = slider.info.name or "slider"
        title = f"{name}: what is explained of {calibration.shown}"
        curve = as_image(draw_calibration(calibration, title, useful_range(info)))
        slider = replace(placed, weights=weights, info=info, proof=slider.proof)
        return io.NodeOutput(slider, report, curve, ui=ui.PreviewImage(curve, cls=cls))


NODES = [SliderCalibrate]
