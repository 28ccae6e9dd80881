"""SliderTextPair: prompts in the place of images."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.data.bucket_spec import Latents, TextSliderSpec, held
from ..slider_core.data.dataset import Dataset, add_text_slider
from .sockets import DATASET_MENU, DatasetSocket, chooser, flattened, option

GUIDANCE = "How far +1 is pushed, in differences between both ends."
LATENTS = "own: the model makes them. images: the dataset's images."
WEIGHT = "Loss weight of a step of prompts beside a step of images."


def making() -> list[io.Input]:
    """How the model makes its own latents."""
    side = {"min": 0, "max": 4096, "step": 8}
    return [
        option("count", io.Int, 16, "Latents to make.", min=1, max=1000),
        option("width", io.Int, 0, "0: the run's resolution.", **side),
        option("height", io.Int, 0, "0: the run's resolution.", **side),
        option("steps", io.Int, 10, "Steps to make a latent.", min=1, max=100),
        option("cfg", io.Float, 1.0, "Guidance scale while latents are made. 1: none.", min=1.0, max=30.0, step=0.5),
    ]


class SliderTextPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTextPair",
            display_name="Slider Text Pair",
            category=DATASET_MENU,
            description="A slider from prompts, without images: what the target becomes at +1 and at -1. Goes into Slider Train "
            "Step where a dataset would. The model teaches itself, on latents that it makes.",
            search_aliases=["text slider", "prompt slider", "concept slider", "LECO"],
            inputs=[
                io.String.Input("target", default="a person", multiline=True, tooltip="The subject prompt. Empty: everything."),
                io.String.Input("positive", default="a person, smiling", multiline=True, tooltip="The full prompt of +1."),
                io.String.Input("negative", default="a person, sad", multiline=True, tooltip="The full prompt of -1."),
                io.String.Input(
                    "hold",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Attributes to preserve: man, woman, old, young. Each joins all three prompts in turn.",
                ),
                io.Float.Input("guidance", default=1.0, min=0.1, max=20.0, step=0.1, optional=True, tooltip=GUIDANCE),
                DatasetSocket.Input(
                    "dataset", optional=True, tooltip="Images, or other text sliders, to be trained beside these."
                ),
                io.Float.Input("weight", default=1.0, min=0.01, max=100.0, step=0.05, optional=True, tooltip=WEIGHT),
                chooser("latents", LATENTS, {Latents.OWN.value: making(), Latents.IMAGES.value: []}, optional=True),
            ],
            outputs=[
                DatasetSocket.Output(display_name="dataset", tooltip="For Slider Train Step."),
                io.String.Output(display_name="report", tooltip="The prompts, as they will be trained on."),
            ],
        )

    @classmethod
    def execute(
        cls,
        target: str,
        positive: str,
        negative: str,
        hold: str = "",
        dataset: Dataset | None = None,
        latents: dict[str, Any] | str = Latents.OWN.value,
        **numbers: Any,
    ) -> io.NodeOutput:
        chosen = flattened({"latents": latents}) | numbers
        if Latents(chosen["latents"]) is Latents.IMAGES and (dataset is None or not dataset.buckets):
            raise SliderError(
                "Slider Text Pair: latents is images, and no images are connected. Connect a dataset, or choose own.",
                "text_slider.no_images",
            )
        whole = add_text_slider(TextSliderSpec(target, positive, negative, held(hold), **chosen), dataset)
        return io.NodeOutput(whole, whole.report)


NODES = [SliderTextPair]
