"""SaveSliderLoRA and LoadSliderLoRA: sliders in models/loras, where every LoRA loader finds them."""

from pathlib import Path

import folder_paths
from comfy_api.latest import io, ui

from ..slider_core.config import FileDtype, SliderError
from ..slider_core.store import Slider, load_slider, rounding_error, save_slider
from .sockets import CATEGORY, SliderSocket


def load_by_name(name: str) -> Slider:
    """A slider by its name in the LoRA list. SliderError when it is gone or no slider."""
    path = folder_paths.get_full_path("loras", name)
    if path is None:
        raise SliderError(f'LoRA "{name}" not found in models/loras. Press R to refresh the list.')
    return load_slider(Path(path))


def file_mark(name: str) -> str:
    """Changes when the file of that name changes, so that it is read again."""
    path = folder_paths.get_full_path("loras", name)
    return f"{path}:{Path(path).stat().st_mtime_ns}" if path else name


class SaveSliderLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveSliderLoRA",
            display_name="Save Slider LoRA",
            category=CATEGORY,
            description="Saves a slider as safetensors under models/loras, so that Load LoRA and every other loader "
            "lists it. An existing file is never replaced: the number in the name grows.",
            search_aliases=["export slider", "save lora"],
            is_output_node=True,
            inputs=[
                SliderSocket.Input("slider"),
                io.String.Input("filename_prefix", default="sliders/my_slider", tooltip="Under models/loras; folders are made."),
                io.Combo.Input("dtype", options=FileDtype, default=FileDtype.FP32, advanced=True, tooltip="Number format."),
            ],
            outputs=[io.String.Output(display_name="lora_name", tooltip="The name in the LoRA list.")],
        )

    @classmethod
    def execute(cls, slider: Slider, filename_prefix: str, dtype: str) -> io.NodeOutput:
        root = folder_paths.get_folder_paths("loras")[0]
        folder, name, counter, _, _ = folder_paths.get_save_image_path(filename_prefix, root)
        path = Path(folder) / f"{name}_{counter:05}_.safetensors"
        save_slider(path, slider, FileDtype(dtype))
        listed = path.relative_to(root).as_posix()
        lost = rounding_error(slider, FileDtype(dtype))
        words = f"Saved models/loras/{listed}" + (f"; as {dtype} its effect is rounded by {lost:.2%}." if lost else "")
        return io.NodeOutput(listed, ui=ui.PreviewText(words))


class LoadSliderLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadSliderLoRA",
            display_name="Load Slider LoRA",
            category=CATEGORY,
            description="Reads a saved slider, for Slider LoRA Apply or Slider Strength Sweep.",
            search_aliases=["open slider"],
            inputs=[io.Combo.Input("file", options=folder_paths.get_filename_list("loras"), tooltip="From models/loras.")],
            outputs=[SliderSocket.Output(display_name="slider")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return file_mark(file)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        return io.NodeOutput(load_by_name(file))


NODES = [SaveSliderLoRA, LoadSliderLoRA]
