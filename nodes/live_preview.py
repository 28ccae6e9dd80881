"""SliderLivePreview: how the strip is drawn that Slider Train Step shows while it trains, and the drawing of it."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..slider_core.config import SweepSpec, parse_strengths
from ..slider_core.store import Slider
from ..slider_core.sweep import draw_strip
from .drawing import Drawing, sampler_inputs
from .sockets import CATEGORY, PreviewSocket
from .words import executing_node

WIDEST, CELLS = 1280, (48, 256)  # pixels of a strip, of one picture on it
QUALITY = 90


@dataclass(frozen=True)
class LivePreview:
    """What flows on the socket: how to draw, and how often; `every` 0 is at the end only."""

    drawing: Drawing
    every: int


class Strips:
    """The live strips of one training: drawn on `model`, kept as one file of ComfyUI's temporary folder."""

    def __init__(self, preview: LivePreview | None, model: Any, vae: Any) -> None:
        self.preview, self._model, self._vae = preview, model, vae
        self.shown: dict[str, Any] | None = None  # as ComfyUI's /view wants it, and the step
        self.trouble = ""
        self.drawn, self.seconds = 0, 0.0

    def due(self, step: int, until: int) -> bool:
        """Whether the training is to pause for a strip after `step`; that of the end is drawn when all is done."""
        return self._wanted and self.preview.every > 0 and step < until and step % self.preview.every == 0

    @property
    def _wanted(self) -> bool:
        return self.preview is not None and not self.trouble

    def left(self, step: int, until: int) -> int:
        """How many strips are drawn from now, the one of `step` included, to the end."""
        if not self._wanted:
            return 0
        every = self.preview.every or until
        return (until - 1) // every - (step - 1) // every + 1

    def pace(self) -> float:
        """Seconds that a strip took."""
        return self.seconds / self.drawn if self.drawn else 0.0

    def words(self) -> str:
        """For the status: why there is no strip, if that went wrong."""
        return f" {self.trouble}" if self.trouble else ""

    def draw(self, slider: Slider, step: int) -> None:
        """Draw and keep a strip. Whatever a sampler, a VAE or a disk objects to is told in `trouble`, and no other is tried."""
        if not self._wanted:
            return
        start = time.monotonic()
        try:
            self.shown = self._file(slider, step)
            self.drawn += 1
        except Exception as fault:  # the training is worth more than any picture of it; ComfyUI's stop is no Exception
            logging.getLogger(__name__).warning("Slider Live Preview at step %d", step, exc_info=True)
            self.trouble = f"No live strip: {_first_line(fault)}"
        self.seconds += time.monotonic() - start

    def _file(self, slider: Slider, step: int) -> dict[str, Any]:
        drawing = self.preview.drawing
        result = drawing.draw(self._model, self._vae, slider)
        strengths = drawing.spec.strengths
        least, most = CELLS
        cell = max(least, min(most, WIDEST // len(strengths)))
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        name = f"slider_live_{executing_node().replace(':', '_')}.jpg"
        part = folder / f"{name}.part"
        draw_strip(result.images, strengths, [], "", cell).save(part, "JPEG", quality=QUALITY)
        part.replace(folder / name)
        return {"filename": name, "subfolder": "", "type": "temp", "step": step}


def _first_line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:300]


class SliderLivePreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderLivePreview",
            display_name="Slider Live Preview",
            category=CATEGORY,
            description="A strip that Slider Train Step shows while it trains, always from the same noise: connect it there.",
            search_aliases=["slider live strip", "training preview", "sample while training"],
            inputs=[
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent_image", tooltip="Size of the pictures, e.g. from Empty Latent Image."),
                io.String.Input("strengths", default="-1, 0, 1", tooltip="A list, or a range start:stop:step."),
                io.Int.Input(
                    "strip_seed",  # the browser puts a new number into whatever is called seed
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    tooltip="Noise of every strip. It stays, so that strips differ by what was learned alone.",
                ),
                *sampler_inputs(),
                io.Int.Input(
                    "every",
                    default=50,
                    min=0,
                    max=100000,
                    tooltip="Steps of training between two strips; each takes the time of a sampling. 0: only at the end.",
                ),
            ],
            outputs=[PreviewSocket.Output(display_name="preview", tooltip="For Slider Train Step.")],
        )

    @classmethod
    def execute(
        cls,
        positive: Any,
        negative: Any,
        latent_image: dict[str, Any],
        strengths: str,
        strip_seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        every: int,
    ) -> io.NodeOutput:
        spec = SweepSpec(parse_strengths(strengths), (strip_seed,), steps=steps, cfg=cfg)
        drawing = Drawing(spec, positive, negative, latent_image, sampler_name, scheduler)
        return io.NodeOutput(LivePreview(drawing, every))


NODES = [SliderLivePreview]
