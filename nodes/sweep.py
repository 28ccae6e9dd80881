"""SliderStrengthSweep: prompts at many strengths from the same noise, as a labelled strip, a curve and a scrubber."""

from dataclasses import dataclass
from typing import Any

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
from ..slider_core.with_comfy.sampling_request import carrying, encoded
from ..slider_core.with_comfy.sweep import SliderSampler, along, sweep_model
from .frames import as_image, frames_told
from .inputs import SEEDS, SamplerInputs, most_at_once_input, sampler_inputs, seed_input, units_input
from .running import encoded_before
from .sockets import USE_MENU, DatasetSocket, PromptsSocket, SliderSocket, SweepSocket

CELL = 192  # pictures on the strip are enlarged to this width when they are smaller


@dataclass(frozen=True, kw_only=True)
class GridInputs(SamplerInputs):
    """What is drawn: the rows and the columns, by the names of the node's inputs."""

    positive: Any
    negative: Any
    latent_image: dict[str, Any]
    strengths: str
    seed: int
    rows: int
    prompts: PromptLibrary | None = None
    clip: Any = None
    strengths_b: str = "-1, 0, 1"

    def spec(self) -> SweepSpec:
        seeds = tuple((self.seed + row) & SEEDS for row in range(self.rows))
        return SweepSpec(parse_strengths(self.strengths), seeds, steps=self.steps, cfg=self.cfg)

    def positives(self) -> dict[str, Any]:
        """CONDITIONING by the name of a prompt."""
        if self.prompts is None:
            return {"": self.positive}
        if self.clip is None:
            raise SliderError("Slider Strength Sweep: prompts need clip to encode them; connect it.", "sweep.no_clip")
        return carrying(self.positive, {name: encoded(self.clip, prompt) for name, prompt in self.prompts.prompts().items()})


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
                io.String.Input("strengths", default="-2, -1, 0, 1, 2", tooltip="A list, or a range such as -2:2:0.5."),
                seed_input("seed", "Noise of the first row."),
                io.Int.Input("rows", default=2, min=1, max=16, tooltip="How many seeds, counted up from seed."),
                *sampler_inputs(),
                units_input(),
                PromptsSocket.Input("prompts", optional=True, tooltip="In place of positive, from Slider Prompt Library."),
                io.Clip.Input("clip", optional=True, tooltip="Encodes the prompts; needed only with prompts."),
                SliderSocket.Input("slider_b", optional=True, tooltip="A second slider: a row for each of its strengths."),
                io.String.Input("strengths_b", default="-1, 0, 1", optional=True, tooltip="Strengths of slider_b."),
                DatasetSocket.Input("dataset", optional=True, tooltip="Measure the effect along the difference of its pairs."),
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
        vae: Any,
        units: str = Units.CALIBRATED.value,
        slider_b: Slider | None = None,
        dataset: Dataset | None = None,
        **inputs: Any,
    ) -> io.NodeOutput:
        grid = GridInputs(**inputs)
        spec = grid.spec()
        positives = grid.positives()
        others = (None,) if slider_b is None else parse_strengths(grid.strengths_b)
        rows = rows_of(spec.seeds, tuple(positives), others)
        sampling = grid.sampling(grid.positive, grid.negative, grid.latent_image, grid.seed)
        sampler = SliderSampler(model, vae, slider, units)
        bar = comfy.utils.ProgressBar(len(rows))
        result = sweep_model(spec, rows, sampler, sampling, positives, slider_b, lambda: bar.update(1))
        direction = None if dataset is None else along(dataset, sampler, result, encoded_before())
        lines = figures(result, direction)
        summary = sampler.summary()
        if slider_b is not None:
            summary += f" B is {slider_b.info.name or 'the second slider'}."
        return shown(cls, result, slider, lines, "\n".join([summary, *table(result, lines)]))


def shown(
    cls: type[io.ComfyNode], result: SweepResult, slider: Slider, lines: dict[str, list[float]], report: str
) -> io.NodeOutput:
    """A finished sweep as the node's outputs, its strip and the scrubber's frames."""
    info = slider.info
    name = info.name
    sweep = ShownSweep(result, name, info.minus, info.plus, report)
    cell = max(CELL, result.images.shape[-1])
    strip = as_image(draw_strip(result.images, result.spec.strengths, result.names(), name, cell))
    curve = as_image(effect_curve(result, lines, f"{name or 'slider'}: change from strength 0"))
    images = result.images.flatten(0, 1).movedim(1, -1)
    preview = ui.PreviewImage(strip, cls=cls).as_dict() | {"slider_sweep": [frames_told(sweep)]}
    return io.NodeOutput(strip, images, curve, report, sweep, ui=preview)


NODES = [SliderStrengthSweep]
