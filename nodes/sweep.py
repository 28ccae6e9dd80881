"""SliderStrengthSweep: prompts at many strengths from the same noise, as a labelled strip, a curve and a scrubber."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import comfy.utils
from comfy_api.latest import InputImpl, Types, io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..slider_core.config.sweep import SweepSpec, parse_strengths
from ..slider_core.data.dataset import Dataset
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.sampling import Sampling, SamplingRequest
from ..slider_core.use.sweep import effect_curve, figures, rows_of, table
from ..slider_core.use.sweep_export import ShownSweep
from ..slider_core.with_comfy.sampling_request import sampling_on_model
from ..slider_core.with_comfy.sweep import SliderSampler, along, sweep_model
from .checked_inputs import refusal
from .frames import as_image, as_images, frames_of, moving_preview, scrubber_frames
from .graph_files import model_files
from .inputs import SEEDS
from .running import encoded_before
from .sockets import USE_MENU, DatasetSocket, SamplingSocket, SliderSocket, SweepOptionsSocket, SweepSocket
from .sweep_options import SweepOptions

IMAGES = "Every picture as a batch: row by row, strengths in order; of a clip all its frames, then the next strength's."
VIDEO = "Of a video model the strip, all its clips playing together, for Save Video."
NO_VIDEO = "Slider Strength Sweep: this model drew single pictures, no clips. Connect strip or images instead of video."
CELL = 192  # pictures on the strip are enlarged to this width when they are smaller


def grid_spec(strengths: tuple[float, ...], rows: int, sampling: Sampling) -> SweepSpec:
    """Columns and rows of a sweep: `rows` seeds, counted up from the sampling's."""
    seeds = tuple((sampling.seed + row) & SEEDS for row in range(rows))
    return SweepSpec(strengths, seeds, steps=sampling.steps, cfg=sampling.cfg)


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
            hidden=[io.Hidden.prompt],
            inputs=[
                io.Model.Input("model", tooltip="Without the slider: the sweep puts it on."),
                SliderSocket.Input("slider", tooltip="From Slider Train Step or Load Slider LoRA."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                SamplingSocket.Input("sampling", tooltip="What is drawn and how, from Slider Sampling."),
                io.String.Input("strengths", default="-2, -1, 0, 1, 2", tooltip="A list, or a range such as -2:2:0.5."),
                io.Int.Input("rows", default=2, min=1, max=16, tooltip="How many seeds, counted up from that of the sampling."),
                SliderSocket.Input("slider_b", optional=True, tooltip="A second slider: a row for each of its strengths."),
                DatasetSocket.Input("dataset", optional=True, tooltip="Measure the effect along the difference of its pairs."),
                SweepOptionsSocket.Input("options", optional=True, tooltip="From Slider Sweep Options."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="strip", tooltip="All pictures with their strengths, as one; of clips a few frames."
                ),
                io.Image.Output(display_name="images", tooltip=IMAGES),
                io.Image.Output(display_name="curve", tooltip="How far pictures and latents go from strength 0."),
                io.String.Output(display_name="report", tooltip="How it ran, and the figures of each strength."),
                SweepSocket.Output(display_name="sweep", tooltip="For Save Slider Sweep."),
                io.Video.Output(display_name="video", tooltip=VIDEO),
            ],
        )

    @classmethod
    def validate_inputs(cls, strengths: str | None = None) -> bool | str:
        return refusal(parse_strengths, strengths)

    @classmethod
    def execute(
        cls,
        model: Any,
        slider: Slider,
        vae: Any,
        sampling: SamplingRequest,
        strengths: str,
        rows: int,
        slider_b: Slider | None = None,
        dataset: Dataset | None = None,
        options: SweepOptions | None = None,
    ) -> io.NodeOutput:
        options = options or SweepOptions()
        columns = parse_strengths(strengths)
        others = (None,) if slider_b is None else parse_strengths(options.strengths_b)
        drawing = sampling_on_model(sampling, model, model_files(cls.hidden.prompt), most_at_once=options.most_at_once)
        spec = grid_spec(columns, rows, drawing.sampling)
        positives = drawing.positives or {"": drawing.sampling.positive}
        grid = rows_of(spec.seeds, tuple(positives), others)
        sampler = SliderSampler(drawing.model, vae, slider, options.units)
        bar = comfy.utils.ProgressBar(len(grid))
        result = sweep_model(spec, grid, sampler, drawing.sampling, positives, slider_b, lambda: bar.update(1))
        direction = None if dataset is None else along(dataset, sampler, result, encoded_before())
        lines = figures(result, direction)
        summary = f"{sampler.summary()} {drawing.summary}".strip()
        if slider_b is not None:
            summary += f" B is {slider_b.info.name or 'the second slider'}."
        info = slider.info
        sweep = ShownSweep(result, info.name, info.minus, info.plus, "", slider, options.units, slider_b)
        report = "\n".join([*filter(None, [summary, sweep.note()]), *table(result, lines)])
        return shown(cls, replace(sweep, report=report), lines)


def shown(cls: type[io.ComfyNode], sweep: ShownSweep, lines: dict[str, list[float]]) -> io.NodeOutput:
    """A finished sweep as the node's outputs, its strip and the scrubber's frames."""
    result, name, report = sweep.result, sweep.title, sweep.report
    curve = as_image(effect_curve(result, lines, f"{name or 'slider'}: change from strength 0", sweep.useful))
    scrubber = {"slider_sweep": [scrubber_frames(sweep)]}
    moving = sweep.strip()
    if moving is None or result.clips is None:
        cell = max(CELL, result.images.shape[-1])
        strip = as_image(sweep.sheet(cell))
        preview = ui.PreviewImage(strip, cls=cls).as_dict() | scrubber
        images = frames_of(result.images.flatten(0, 1))
        return io.NodeOutput(strip, images, curve, report, sweep, ExecutionBlocker(NO_VIDEO), ui=preview)
    images = frames_of(result.clips.frames.flatten(0, 1)).float() / 255
    video = InputImpl.VideoFromComponents(Types.VideoComponents(as_images(moving.moving), Fraction(moving.fps)))
    preview = moving_preview(moving) | scrubber
    return io.NodeOutput(as_image(moving.still), images, curve, report, sweep, video, ui=preview)


NODES = [SliderStrengthSweep]
