"""SliderStrengthSweep: prompts at many strengths from the same noise, as a labelled strip, a curve and a scrubber."""

from typing import Any

import comfy.samplers
import comfy.utils
from comfy_api.latest import io, ui

from ..slider_core.config.checks import SliderError
from ..slider_core.config.sweep import SweepSpec, parse_strengths
from ..slider_core.data.dataset import Dataset
from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.plot_grids import draw_strip
from ..slider_core.use.prompt_library import PromptLibrary
from ..slider_core.use.sweep import SweepResult, effect_curve, figures, rows_of, table
from ..slider_core.use.sweep_export import ShownSweep
from ..slider_core.with_comfy.sweep import Drawer, along, carrying, encoded, sweep_model
from .apply import units_input
from .drawing import sampler_inputs
from .frames import as_image, frames_told
from .running import encoded_before
from .sockets import USE_MENU, DatasetSocket, PromptsSocket, SliderSocket, SweepSocket

CELL = 192  # pictures on the strip are enlarged to this width when they are smaller
SEEDS = 0xFFFFFFFFFFFFFFFF


def most_at_once_input() -> io.Int.Input:
    """How much of the memory one sampling call may take."""
    return io.Int.Input(
        "most_at_once",
        default=0,
        min=0,
        max=1000,
        advanced=True,
        optional=True,
        tooltip="Strengths in one sampling call. 0: as many as the free memory holds.",
    )


class SliderStrengthSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderStrengthSweep",
            display_name="Slider Strength Sweep",
            category=USE_MENU,
            description="Draws prompts at several slider strengths from the same noise, all strengths in one sampling call. "
            "Columns are strengths; rows are seeds, prompts, and strengths of a second slider. Drag the handle in the node.",
            search_aliases=["adapter_strength", "xy plot", "slider strip", "scrubber"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="Without the slider: the sweep puts it on."),
                SliderSocket.Input("slider", tooltip="From Slider Train Step or Load Slider LoRA."),
                io.Conditioning.Input("positive", tooltip="The prompt, as for KSampler."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as for KSampler."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                io.Latent.Input("latent_image", tooltip="Size of the pictures, e.g. from Empty Latent Image."),
                io.String.Input(
                    "strengths",
                    default="-2, -1, 0, 1, 2",
                    tooltip="A list, or a range start:stop:step such as -2:2:0.5.",
                ),
                io.Int.Input("seed", default=0, min=0, max=SEEDS, control_after_generate=True, tooltip="Noise of the first row."),
                io.Int.Input("rows", default=2, min=1, max=16, tooltip="How many seeds, counted up from seed."),
                *sampler_inputs(),
                units_input(),
                PromptsSocket.Input(
                    "prompts", optional=True, tooltip="Several prompts in place of positive, from Slider Prompt Library."
                ),
                io.Clip.Input("clip", optional=True, tooltip="Encodes the prompts; needed only with prompts."),
                SliderSocket.Input("slider_b", optional=True, tooltip="A second slider: a row for each of its strengths."),
                io.String.Input(
                    "strengths_b", default="-1, 0, 1", optional=True, tooltip="Strengths of slider_b; without it no effect."
                ),
                DatasetSocket.Input(
                    "dataset", optional=True, tooltip="Measure the effect along the way from its negative to its positive images."
                ),
                most_at_once_input(),
            ],
            outputs=[
                io.Image.Output(display_name="strip", tooltip="All pictures with their strengths, as one."),
                io.Image.Output(display_name="images", tooltip="Every picture as a batch: row by row, strengths in order."),
                io.Image.Output(display_name="curve", tooltip="How far pictures and latents go from strength 0."),
                io.String.Output(display_name="report", tooltip="How it ran, and the figures of each strength."),
                SweepSocket.Output(display_name="sweep", tooltip="For Save Slider Sweep."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        slider: Slider,
        positive: Any,
        negative: Any,
        vae: Any,
        latent_image: dict[str, Any],
        strengths: str,
        seed: int,
        rows: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        units: str = Units.CALIBRATED.value,
        prompts: PromptLibrary | None = None,
        clip: Any = None,
        slider_b: Slider | None = None,
        strengths_b: str = "-1, 0, 1",
        dataset: Dataset | None = None,
        most_at_once: int = 0,
    ) -> io.NodeOutput:
        if prompts is not None and clip is None:
            raise SliderError("Slider Strength Sweep: prompts need clip to encode them; connect it.")
        seeds = tuple((seed + row) & SEEDS for row in range(rows))
        spec = SweepSpec(parse_strengths(strengths), seeds, steps=steps, cfg=cfg)
        positives = {"": positive} if prompts is None else carrying(positive, encoded(clip, prompts.prompts()))
        grid = rows_of(seeds, tuple(positives), (None,) if slider_b is None else parse_strengths(strengths_b))
        drawer = Drawer(model, vae, latent_image, negative, steps, cfg, sampler_name, scheduler, most_at_once, units)
        bar = comfy.utils.ProgressBar(len(grid))
        result = sweep_model(spec, grid, drawer, slider, positives, slider_b, lambda: bar.update(1))
        lines = figures(result, None if dataset is None else along(dataset, drawer, result, encoded_before()))
        told = drawer.summary() + (f" B is {slider_b.info.name or 'the second slider'}." if slider_b else "")
        return shown(cls, result, slider, lines, "\n".join([told, *table(result, lines)]))


def shown(
    cls: type[io.ComfyNode], result: SweepResult, slider: Slider, lines: dict[str, list[float]], report: str
) -> io.NodeOutput:
    """A finished sweep as the node's outputs, its strip and the scrubber's frames."""
    name = slider.info.name
    whole = ShownSweep(result, name, slider.info.minus, slider.info.plus, report)
    cell = max(CELL, result.images.shape[-1])
    strip = as_image(draw_strip(result.images, result.spec.strengths, result.names(), name, cell))
    curve = as_image(effect_curve(result, lines, f"{name or 'slider'}: change from strength 0"))
    images = result.images.flatten(0, 1).movedim(1, -1)
    seen = ui.PreviewImage(strip, cls=cls).as_dict() | {"slider_sweep": [frames_told(whole)]}
    return io.NodeOutput(strip, images, curve, report, whole, ui=seen)


NODES = [SliderStrengthSweep]
