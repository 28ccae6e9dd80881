"""SliderReportCard: what papers report of sliders, measured on a sweep."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
from comfy_api.latest import io, ui

from ..slider_core.lora.safe_files import atomic_write
from ..slider_core.use.perceptual import best_metric
from ..slider_core.use.sweep_export import ShownSweep
from ..slider_core.use.sweep_report import Clip, report_card
from ..slider_core.use.sweep_report_shown import draw_card, table, to_json
from ..slider_core.use.sweep_steps import measured_steps, steps_line
from ..slider_core.with_comfy.clip_space import embed_images, embed_prompt
from .checked_inputs import refusal
from .finding import check_prefix, free_place
from .frames import as_image
from .sockets import USE_MENU, SliderSocket, SweepSocket, option

VISION = "Adds identity and CLIP direction. From Load CLIP Vision."
CLIP = "With clip_vision: the text encoder of the same CLIP, from Load CLIP."
END = "What the {} end shows, for the CLIP direction. Empty: the slider's own label."
OF_THE_SLIDER = "the slider's label"
NO_DIRECTION = "No CLIP direction: it needs clip_vision, clip, and a prompt or a label of both ends."
EVEN = "The slider that was swept, with a dial whose steps look even (units: even_steps), for Save Slider LoRA."
PREFIX = "Saves the figures as JSON under the output folder. Empty: nothing is saved."


class SliderReportCard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderReportCard",
            display_name="Slider Report Card",
            category=USE_MENU,
            description="What papers report of sliders, measured on a sweep: triangle deficit, even steps, linearity, identity, "
            "CLIP direction, range. LPIPS where its package is installed, else distances of latents.",
            search_aliases=["slider metrics", "lpips", "clip score", "linearity", "benchmark slider"],
            is_output_node=True,
            inputs=[
                SweepSocket.Input("sweep", tooltip="From Slider Strength Sweep. As in papers: 0 to 1 in six steps, many rows."),
                io.ClipVision.Input("clip_vision", optional=True, tooltip=VISION),
                io.Clip.Input("clip", optional=True, tooltip=CLIP),
                option("plus", io.String, "", END.format("high"), placeholder=OF_THE_SLIDER),
                option("minus", io.String, "", END.format("low"), placeholder=OF_THE_SLIDER),
                option("filename_prefix", io.String, "", PREFIX, placeholder="not saved"),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="The figures of each side as a table."),
                io.Image.Output(display_name="card", tooltip="Distance over strength, and the table, as a picture."),
                io.String.Output(display_name="json", tooltip="All figures as JSON."),
                SliderSocket.Output(display_name="slider", tooltip=EVEN),
            ],
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return refusal(check_prefix, (filename_prefix or "").strip() or None)

    @classmethod
    def execute(
        cls,
        sweep: ShownSweep,
        clip_vision: Any = None,
        clip: Any = None,
        plus: str = "",
        minus: str = "",
        filename_prefix: str = "",
    ) -> io.NodeOutput:
        result = sweep.result
        space = None if clip_vision is None else clip_space(sweep, clip_vision, clip, (minus, plus))
        metric = best_metric(result.images, result.latents, comfy.model_management.get_torch_device())
        card = report_card(result, metric, space, sweep.title)
        report, content = table(card), to_json(card)
        if space is None or space.plus is None:
            report += f"\n{NO_DIRECTION}"
        if filename_prefix.strip():
            place, inner = free_place(filename_prefix)
            file = place.with_name(f"{place.name}.json")
            atomic_write(file, content.encode())
            report += f"\nSaved output/{Path(inner, file.name).as_posix()}."
        slider = sweep.slider
        if slider is not None:
            dial = measured_steps(result, metric, slider.info, sweep.units)
            report += f"\n{steps_line(dial, result)}"
            slider = slider if dial is None else replace(slider, info=replace(slider.info, even_steps=dial))
        picture = as_image(draw_card(card, sweep.useful))
        return io.NodeOutput(report, picture, content, slider, ui=ui.PreviewImage(picture, cls=cls))


def clip_space(sweep: ShownSweep, clip_vision: Any, clip: Any, ends: tuple[str, str]) -> Clip:
    """The sweep's pictures in CLIP; its ends too, where both have a prompt or a label and `clip` is connected."""
    images = embed_images(clip_vision, sweep.result.images)
    minus, plus = (end.strip() or label for end, label in zip(ends, (sweep.minus, sweep.plus), strict=True))
    if clip is None or not (minus and plus):
        return Clip(images)
    width = images.shape[-1]
    return Clip(images, embed_prompt(clip, minus, width), embed_prompt(clip, plus, width))


NODES = [SliderReportCard]
