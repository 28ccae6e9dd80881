"""SliderTextOptions: how strongly a text slider is pushed, and on which latents."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..slider_core.data.bucket_spec import Latents
from .sockets import DATASET_MENU, TextOptionsSocket, chooser, flattened, option

GUIDANCE = "How far +1 is pushed, in differences between both ends."
LATENTS = "own: the model makes them. images: the dataset's images."
WEIGHT = "Loss weight of a step of prompts beside a step of images."


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The inputs of the node, by the names that TextSliderSpec has for them."""

    guidance: float = 1.0
    weight: float = 1.0
    latents: str = Latents.OWN.value
    count: int = 16
    width: int = 0
    height: int = 0
    steps: int = 10
    cfg: float = 1.0


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


class SliderTextOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTextOptions",
            display_name="Slider Text Options",
            category=DATASET_MENU,
            description="How strongly a text slider is pushed, what it counts beside images, and the latents it is trained on.",
            search_aliases=["text slider guidance", "text slider latents"],
            inputs=[
                option("guidance", io.Float, 1.0, GUIDANCE, min=0.1, max=20.0, step=0.1),
                option("weight", io.Float, 1.0, WEIGHT, min=0.01, max=100.0, step=0.05),
                chooser("latents", LATENTS, {Latents.OWN.value: making(), Latents.IMAGES.value: []}, optional=True),
            ],
            outputs=[TextOptionsSocket.Output(display_name="options", tooltip="For Slider Text Pair.")],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return io.NodeOutput(TextOptions(**flattened(inputs)))


NODES = [SliderTextOptions]
