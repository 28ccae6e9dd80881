"""SliderStrengthSweep: one prompt at many strengths from the same noise, as a labelled strip."""

from collections.abc import Sequence
from typing import Any

import comfy.samplers
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import io, ui

from ..slider_core.calibrate import Units, file_strength
from ..slider_core.comfy_files import adapter_on
from ..slider_core.comfy_host import sample_strengths
from ..slider_core.config import SweepSpec, parse_strengths
from ..slider_core.store import Slider
from ..slider_core.sweep import draw_strip, sweep
from .apply import units_input
from .sockets import CATEGORY, SliderSocket

CELL = 192  # pictures on the strip are enlarged to this width when they are smaller


class SliderStrengthSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderStrengthSweep",
            display_name="Slider Strength Sweep",
            category=CATEGORY,
            description="Draws one prompt at several slider strengths from the same noise, all in one sampling call. "
            "Columns are strengths, rows are seeds.",
            search_aliases=["adapter_strength", "xy plot", "slider strip"],
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="Without the slider: the sweep puts it on."),
                SliderSocket.Input("slider"),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Vae.Input("vae"),
                io.Latent.Input("latent_image", tooltip="Size of the pictures, e.g. from Empty Latent Image."),
                io.String.Input(
                    "strengths",
                    default="-2, -1, 0, 1, 2",
                    tooltip="A list, or a range start:stop:step such as -2:2:0.5.",
                ),
                io.Int.Input("seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True),
                io.Int.Input("rows", default=2, min=1, max=16, tooltip="How many seeds, counted up from seed."),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampler steps."),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Guidance: 1 for the demo model and distilled models, 5 to 8 for SD and SDXL.",
                ),
                io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler"),
                io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple"),
                units_input(),
            ],
            outputs=[
                io.Image.Output(display_name="strip"),
                io.Image.Output(display_name="images", tooltip="Every picture as a batch: row by row, strengths in order."),
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
    ) -> io.NodeOutput:
        spec = SweepSpec(
            parse_strengths(strengths), tuple((seed + row) & 0xFFFFFFFFFFFFFFFF for row in range(rows)), steps=steps, cfg=cfg
        )
        adapter = adapter_on(model, slider)
        bar = comfy.utils.ProgressBar(rows)

        def sample(values: Sequence[float], number: int) -> torch.Tensor:
            latents = sample_strengths(
                model,
                adapter,
                [file_strength(value, slider.metadata, units) for value in values],
                number,
                latent_image,
                positive,
                negative,
                steps,
                cfg,
                sampler_name,
                scheduler,
            )
            bar.update(1)
            return vae.decode(latents).movedim(-1, 1)

        result = sweep(spec, sample)
        cell = max(CELL, result.images.shape[-1])
        strip = draw_strip(result.images, spec.strengths, result.names(), slider.metadata.get("slider_name", ""), cell)
        picture = torch.from_numpy(np.asarray(strip, dtype=np.float32) / 255)[None]
        return io.NodeOutput(picture, result.images.flatten(0, 1).movedim(1, -1), ui=ui.PreviewImage(picture, cls=cls))


NODES = [SliderStrengthSweep]
