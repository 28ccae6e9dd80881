"""SliderFileOptions: what of a saved slider seldom needs a change."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.lora import FileDtype
from .sockets import USE_MENU, FileOptionsSocket, option

DTYPE = "Number format. bf16 and fp16 halve the file; how much they round the slider is reported after saving."
TRIGGER = "A word that a prompt must hold for the slider to act, for LoRA managers. Most sliders need none."
MANAGER = (
    "Also write what ComfyUI-Lora-Manager shows: a .metadata.json with range, base model and trigger, and the preview picture."
)


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """The inputs of the node, by name."""

    dtype: str = FileDtype.FP32.value
    trigger: str = ""
    manager_files: bool = False


class SliderFileOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderFileOptions",
            display_name="Slider File Options",
            category=USE_MENU,
            description="Number format, trigger word and the files of a LoRA manager, for Save Slider LoRA.",
            search_aliases=["lora dtype", "trigger word", "lora manager"],
            inputs=[
                option("dtype", io.Combo, FileDtype.FP32, DTYPE, options=FileDtype),
                option("trigger", io.String, "", TRIGGER),
                option("manager_files", io.Boolean, False, MANAGER),
            ],
            outputs=[FileOptionsSocket.Output(display_name="options", tooltip="For Save Slider LoRA.")],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return io.NodeOutput(FileOptions(**inputs))


NODES = [SliderFileOptions]
