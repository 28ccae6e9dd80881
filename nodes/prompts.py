"""SliderPromptLibrary: named prompts, each at a strength of its own, read and drawn."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from ..slider_core.config.checks import SliderError, need, shown
from ..slider_core.config.regular_files import inside
from ..slider_core.lora.useful_range import beyond_note, useful_range
from ..slider_core.use.plot_grids import draw_entries
from ..slider_core.use.plot_video import Strip, length_of, over_time
from ..slider_core.use.prompt_library import EXAMPLE, PromptLibrary, parse_prompts, read_prompts
from ..slider_core.with_comfy.sampling_request import sampling_on_model
from ..slider_core.with_comfy.sweep import SliderSampler, sample_library
from .checked_inputs import NOT_CONNECTED, refusal
from .dataset_places import json_files, walked
from .frames import as_image, frames_of, moving_preview
from .graph_files import model_files
from .inputs import strength_input
from .sockets import USE_MENU, PromptsSocket, SamplingSocket, SliderSocket, SweepOptionsSocket
from .sweep_options import SweepOptions

NO_FILE = "none"
LIBRARY = "JSON: a name and a text, or a name and a prompt with an adapter_strength."
FILE = "A JSON file of the input folder, in place of the text above."
DRAWN_WITH = ("model", "vae", "slider", "sampling")


def is_drawn(inputs: dict[str, Any]) -> bool:
    """Whether the library is to be drawn. SliderError when something is missing for that."""
    return check_drawn([name for name in DRAWN_WITH if inputs.get(name) is not None])


def check_drawn(connected: Collection[str]) -> bool:
    """Whether a library with these inputs is to be drawn. SliderError when something is missing for that."""
    missing = [name for name in DRAWN_WITH if name not in connected]
    if missing and len(missing) < len(DRAWN_WITH):
        message = f"Slider Prompt Library: to draw it needs {', '.join(missing)} too; or connect none of them."
        raise SliderError(message, "prompts.incomplete")
    return not missing


def library_files() -> list[str]:
    """JSON files of ComfyUI's input folder that are no captions, by their place in it."""
    paths = []
    for folder, _, names in walked(Path(folder_paths.get_input_directory())):
        paths += [(folder / name).as_posix() for name in json_files(names)]
    return sorted(paths)


def library_path(file: str) -> Path | None:
    """The place of that name in the input folder, when it really lies there."""
    root = Path(folder_paths.get_input_directory())
    return root / file if inside(root / file, [root]) else None


def chosen(library: str, file: str) -> PromptLibrary:
    """The library of the file, or else of the text. SliderError when neither is one."""
    if file == NO_FILE:
        return parse_prompts(library)
    path = library_path(file)
    message = f'Prompt library "{shown(file)}" is not in ComfyUI\'s input folder, or leads out of it. Copy it there.'
    need(path is not None, message, "prompts.outside")
    return read_prompts(path)


class SliderPromptLibrary(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderPromptLibrary",
            display_name="Slider Prompt Library",
            category=USE_MENU,
            description="Named prompts, each at a strength of its own, as SimpleTuner writes them. With a model and a slider "
            "connected, every entry is drawn; prompts goes to Slider Sampling.",
            search_aliases=["validation prompts", "adapter_strength", "user prompt library"],
            is_output_node=True,
            hidden=[io.Hidden.prompt],
            inputs=[
                io.String.Input("library", default=EXAMPLE, multiline=True, tooltip=LIBRARY),
                io.Combo.Input("file", options=[NO_FILE, *library_files()], default=NO_FILE, tooltip=FILE),
                strength_input("strength", 1.0, "For every entry that has no adapter_strength of its own."),
                io.Model.Input("model", optional=True, tooltip="Without the slider. Needed only to draw."),
                io.Vae.Input("vae", optional=True, tooltip="Needed only to draw."),
                SliderSocket.Input("slider", optional=True, tooltip="Needed only to draw."),
                SamplingSocket.Input("sampling", optional=True, tooltip="A Slider Sampling with clip. Needed only to draw."),
                SweepOptionsSocket.Input("options", optional=True, tooltip="From Slider Sweep Options."),
            ],
            outputs=[
                PromptsSocket.Output(display_name="prompts", tooltip="For Slider Sampling."),
                io.Image.Output(display_name="grid", tooltip="Every entry with its name and strength."),
                io.Image.Output(display_name="images", tooltip="One picture for each entry, in order; of a clip all frames."),
                io.String.Output(display_name="report", tooltip="The entries, and how they were drawn."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NO_FILE, **_choices: object) -> str:
        """Changes when the file changes."""
        path = None if file in (None, NO_FILE) else library_path(str(file))
        return str(file) if path is None else str(path.stat().st_mtime_ns)

    @classmethod
    def validate_inputs(
        cls,
        library: str | None = None,
        file: str | None = NO_FILE,
        model: Any = NOT_CONNECTED,
        vae: Any = NOT_CONNECTED,
        slider: Any = NOT_CONNECTED,
        sampling: Any = NOT_CONNECTED,
    ) -> bool | str:
        sockets = {"model": model, "vae": vae, "slider": slider, "sampling": sampling}
        complete = refusal(check_drawn, [name for name, value in sockets.items() if value is not NOT_CONNECTED])
        return refusal(chosen, library, file) if complete is True else complete

    @classmethod
    def execute(
        cls, library: str, file: str, strength: float, options: SweepOptions | None = None, **inputs: Any
    ) -> io.NodeOutput:
        prompts = chosen(library, file)
        if not is_drawn(inputs):
            summary = prompts.summary(strength)
            return io.NodeOutput(prompts, ExecutionBlocker(None), ExecutionBlocker(None), summary, ui=ui.PreviewText(summary))
        options = options or SweepOptions()
        model, slider = inputs["model"], inputs["slider"]
        request = replace(inputs["sampling"], library=prompts)
        drawing = sampling_on_model(request, model, model_files(cls.hidden.prompt), most_at_once=options.most_at_once)
        sampler = SliderSampler(drawing.model, inputs["vae"], slider, options.units)
        bar = comfy.utils.ProgressBar(len(prompts.groups()))
        images = sample_library(prompts, strength, sampler, drawing, lambda: bar.update(1))
        how = f"{sampler.summary()} {drawing.summary}".strip()
        labels = [(entry.name, entry.at(strength)) for entry in prompts.entries]
        useful = useful_range(slider.info, options.units)
        report = "\n".join(filter(None, [f"{prompts.summary(strength)} {how}", beyond_note([at for _, at in labels], useful)]))

        def draw(at: Callable[[torch.Tensor], torch.Tensor]) -> Image.Image:
            return draw_entries(at(images), labels, slider.info.name, useful=useful)

        strip = over_time(draw, length_of(images), drawing.sampling.fps)
        return drawn(cls, prompts, images, strip, report)


def drawn(cls: type[io.ComfyNode], library: PromptLibrary, images: torch.Tensor, strip: Strip, report: str) -> io.NodeOutput:
    """A drawn library as the node's outputs."""
    grid = as_image(strip.still)
    preview = moving_preview(strip) if strip.moving else ui.PreviewImage(grid, cls=cls)
    return io.NodeOutput(library, grid, frames_of(images), report, ui=preview)


NODES = [SliderPromptLibrary]
