"""SliderPromptLibrary: named prompts, each at a strength of its own, read and drawn."""

from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..slider_core.config.checks import SliderError
from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.plot_grids import draw_entries
from ..slider_core.use.prompt_library import EXAMPLE, PromptLibrary, parse_prompts, read_prompts
from ..slider_core.with_comfy.sweep import Drawer, draw_library, encoded
from .apply import units_input
from .dataset import walked
from .drawing import sampler_inputs
from .frames import as_image
from .sockets import USE_MENU, PromptsSocket, SliderSocket
from .sweep import SEEDS, most_at_once_input

NO_FILE = "none"
DRAWN_WITH = ("model", "clip", "vae", "slider", "latent_image")


def library_files() -> list[str]:
    """JSON files of ComfyUI's input folder, by their place in it."""
    root = Path(folder_paths.get_input_directory())
    found = [here / name for here, _, files in walked(root) for name in files if name.lower().endswith(".json")]
    return sorted(path.as_posix() for path in found)


def chosen(library: str, file: str) -> PromptLibrary:
    """The library of the file, or else of the text. SliderError when neither is one."""
    if file == NO_FILE:
        return parse_prompts(library)
    return read_prompts(Path(folder_paths.get_input_directory()) / file)


class SliderPromptLibrary(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderPromptLibrary",
            display_name="Slider Prompt Library",
            category=USE_MENU,
            description="Named prompts, each at a strength of its own, as SimpleTuner writes them. With a model and a slider "
            "connected, every entry is drawn; prompts goes to Slider Strength Sweep and to Slider Live Preview.",
            search_aliases=["validation prompts", "adapter_strength", "user prompt library"],
            is_output_node=True,
            inputs=[
                io.String.Input(
                    "library",
                    default=EXAMPLE,
                    multiline=True,
                    tooltip="JSON: a name and a text, or a name and a prompt with an adapter_strength.",
                ),
                io.Combo.Input(
                    "file",
                    options=[NO_FILE, *library_files()],
                    default=NO_FILE,
                    tooltip="A JSON file of the input folder, in place of the text above.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    round=0.001,
                    tooltip="For every entry that has no adapter_strength of its own.",
                ),
                io.Int.Input("seed", default=0, min=0, max=SEEDS, control_after_generate=True, tooltip="Noise of every picture."),
                *sampler_inputs(),
                io.Model.Input("model", optional=True, tooltip="Without the slider. Needed only to draw."),
                io.Clip.Input("clip", optional=True, tooltip="Encodes the prompts. Needed only to draw."),
                io.Vae.Input("vae", optional=True, tooltip="Needed only to draw."),
                SliderSocket.Input("slider", optional=True, tooltip="Needed only to draw."),
                io.Latent.Input("latent_image", optional=True, tooltip="Size of the pictures. Needed only to draw."),
                io.Conditioning.Input("negative", optional=True, tooltip="The negative prompt; without it an empty one."),
                units_input(),
                most_at_once_input(),
            ],
            outputs=[
                PromptsSocket.Output(display_name="prompts", tooltip="For Slider Strength Sweep and Slider Live Preview."),
                io.Image.Output(display_name="grid", tooltip="Every entry with its name and strength."),
                io.Image.Output(display_name="images", tooltip="One picture for each entry, in order."),
                io.String.Output(display_name="report", tooltip="The entries, and how they were drawn."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NO_FILE, **_choices: object) -> str:
        """Changes when the file changes."""
        path = Path(folder_paths.get_input_directory()) / (file or NO_FILE)
        return str(path.stat().st_mtime_ns) if file not in (None, NO_FILE) and path.is_file() else str(file)

    @classmethod
    def execute(
        cls,
        library: str,
        file: str,
        strength: float,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        negative: Any = None,
        units: str = Units.CALIBRATED.value,
        most_at_once: int = 0,
        **given: Any,
    ) -> io.NodeOutput:
        found = chosen(library, file)
        missing = [name for name in DRAWN_WITH if given.get(name) is None]
        if missing:
            if len(missing) < len(DRAWN_WITH):
                raise SliderError(f"Slider Prompt Library: to draw it needs {', '.join(missing)} too; or connect none of them.")
            words = found.summary(strength)
            return io.NodeOutput(found, ExecutionBlocker(None), ExecutionBlocker(None), words, ui=ui.PreviewText(words))
        model, clip, vae, slider, latent = (given[name] for name in DRAWN_WITH)
        negative = encoded(clip, {"": ""})[""] if negative is None else negative
        drawer = Drawer(model, vae, latent, negative, steps, cfg, sampler_name, scheduler, most_at_once, units)
        bar = comfy.utils.ProgressBar(len(found.groups()))
        images = draw_library(found, strength, seed, drawer, slider, clip, lambda: bar.update(1))
        return drawn(cls, found, images, strength, slider, drawer.summary())


def drawn(
    cls: type[io.ComfyNode], library: PromptLibrary, images: torch.Tensor, strength: float, slider: Slider, how: str
) -> io.NodeOutput:
    """A drawn library as the node's outputs."""
    labels = [(entry.name, entry.at(strength)) for entry in library.entries]
    grid = as_image(draw_entries(images, labels, slider.info.name))
    words = f"{library.summary(strength)} {how}"
    return io.NodeOutput(library, grid, images.movedim(1, -1), words, ui=ui.PreviewImage(grid, cls=cls))


NODES = [SliderPromptLibrary]
