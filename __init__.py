"""Slider LoRA for ComfyUI: train a slider on the loaded model and see it move at once."""

from comfy_api.latest import ComfyExtension, io
from server import PromptServer

from .nodes import NODES
from .nodes.routes import add_routes
from .nodes.running import begin_tidying
from .slider_core.with_comfy.assumptions import faults

WEB_DIRECTORY = "./web"


class SliderExtension(ComfyExtension):
    async def on_load(self) -> None:
        add_routes(PromptServer.instance)
        begin_tidying()
        faults()  # which features this ComfyUI cannot have: said once, at the start

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> SliderExtension:
    return SliderExtension()
