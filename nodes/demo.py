"""SliderDemoModel: the embedded model as MODEL, CLIP and VAE, so the quickstart needs no download."""

from comfy_api.latest import io

from ..slider_core.with_tiny.model import load_weights
from ..slider_core.with_tiny.model_in_comfy import load_demo
from .sockets import CATEGORY


class SliderDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderDemoModel",
            display_name="Slider Demo Model",
            category=CATEGORY,
            description="A tiny diffusion model of cartoon faces (64 x 64, shipped with the pack, runs on a CPU) to try sliders "
            'on. Prompts name skin and background: "a face with tan skin on a blue background".',
            search_aliases=["tiny model", "cartoon faces", "slider quickstart"],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_demo(load_weights()))


NODES = [SliderDemoModel]
