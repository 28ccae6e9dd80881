"""SliderProbe: what pairs or prompts ask of a model, measured before anything is trained."""

from typing import Any

import comfy.utils
from comfy_api.latest import io, ui

from ..slider_core.config.lora import AdapterSpec, Preset
from ..slider_core.data.dataset import Dataset
from ..slider_core.encode.text_latents import encode_all
from ..slider_core.layers.select import survey
from ..slider_core.lora.slider_adapter import Adapter
from ..slider_core.train.direction import NOISES, PAIRS, asked, asked_levels
from ..slider_core.train.training_choices import TrainChoices
from ..slider_core.use.probe_report import draw_asked, report
from ..slider_core.with_comfy.family import preferences_of, shifted
from ..slider_core.with_comfy.model_backend import ComfyBackend
from .frames import as_image
from .graph_files import model_files
from .messages import say
from .running import encoded_before
from .sockets import TRAINING_MENU, DatasetSocket, TrainOptionsSocket

OPTIONS = "From Slider Train Options, as for Slider Train Step."


class SliderProbe(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderProbe",
            display_name="Slider Probe",
            category=TRAINING_MENU,
            description="Before a training: do the pairs, or prompts, ask for one thing? How strongly, at which noise levels, in "
            "which layers. Nothing is trained; it costs about as much as 40 steps.",
            search_aliases=["is there a direction", "test dataset", "before training", "which layers"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to train on. It is the same afterwards."),
                io.Clip.Input("clip", tooltip="Encodes the captions."),
                io.Vae.Input("vae", tooltip="Encodes the images."),
                DatasetSocket.Input("dataset", tooltip="From Load Slider Dataset, Slider Bucket or Slider Text Pair."),
                TrainOptionsSocket.Input("options", optional=True, tooltip=OPTIONS),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Whether there is a direction, and what it suggests."),
                io.Image.Output(display_name="curve", tooltip="Agreement and size of the step over the noise levels."),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, model: Any, clip: Any, vae: Any, dataset: Dataset, options: TrainChoices | None = None) -> io.NodeOutput:
        likes = preferences_of(model, model_files(cls.hidden.prompt))
        choices = (options or TrainChoices(name="")).for_model(likes)
        backend = ComfyBackend(shifted(model, likes), vae, clip)
        backend.few_steps = likes.few_steps
        samples = encode_all(dataset, backend, choices.resolution, encoded_before())
        backend.load()  # encoding may have sent the model away
        every = survey(backend.module, AdapterSpec(preset=Preset.ALL.value)).targets
        adapter = Adapter.create(backend.module, every, AdapterSpec(), device=backend.device)
        spec = choices.train_spec()
        bar = comfy.utils.ProgressBar(PAIRS * len(asked_levels(spec)) * NOISES)
        found = asked(backend, adapter, samples, spec, lambda: bar.update(1))
        automatic = [target.path for target in survey(backend.module, AdapterSpec()).targets]
        text = report(found, found.share_of(automatic))
        say(text)
        curve = as_image(draw_asked(found, dataset.name or "dataset"))
        return io.NodeOutput(text, curve, ui=ui.PreviewImage(curve, cls=cls))


NODES = [SliderProbe]
