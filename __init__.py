"""Slider LoRA for ComfyUI: train a slider on the loaded model and see it move at once."""

from comfy_api.latest import ComfyExtension, io

from .nodes import NODES

WEB_DIRECTORY = "./web"


class SliderExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> SliderExtension:
    return SliderExtension()
