"""SliderLivePreview: how the strip is drawn that Slider Train Step shows while it trains, and the drawing of it.

With a prompt library it is the validation of the training: an entry without a strength is a row at all of the strip's
strengths, one with a strength is a picture at it.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.config.sweep import SweepSpec, parse_strengths
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.prompt_library import MOST_ENTRIES, PromptLibrary
from ..slider_core.with_comfy.sweep import carrying, encoded
from .drawing import Drawing, first_line, sampler_inputs
from .sockets import TRAINING_MENU, PreviewSocket, PromptsSocket
from .words import executing_node

MOST_PICTURES = MOST_ENTRIES  # in one live picture
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

    def summary(self) -> str:
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
            self.trouble = f"No live strip: {first_line(fault)}"
        self.seconds += time.monotonic() - start

    def _file(self, slider: Slider, step: int) -> dict[str, Any]:
        picture = self.preview.drawing.picture(self._model, self._vae, slider)
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        name = f"slider_live_{executing_node().replace(':', '_')}.jpg"
        part = folder / f"{name}.part"
        picture.save(part, "JPEG", quality=QUALITY)
        part.replace(folder / name)
        return {"filename": name, "subfolder": "", "type": "temp", "step": step}


def texts_of(library: PromptLibrary, clip: Any, strengths: int) -> dict[str, Any]:
    """Each distinct prompt of a library, encoded. SliderError for what cannot be, or is too much to be drawn again and again."""
    if clip is None:
        raise SliderError("Slider Live Preview: prompts need clip to encode them; connect it.")
    own = sum(entry.strength is not None for entry in library.entries)
    rows = len(library.entries) - own
    if rows * strengths + own > MOST_PICTURES:
        raise SliderError(
            f"Slider Live Preview: {rows} entries at {strengths} strengths and {own} at their own are {rows * strengths + own} "
            f"pictures; {MOST_PICTURES} at most. Write fewer strengths, or give entries an adapter_strength."
        )
    found = {}
    for name, prompt in library.prompts().items():
        try:
            found[prompt] = encoded(clip, {"": prompt})[""]
        except Exception as fault:
            raise SliderError(f'Slider Live Preview: entry "{name}" cannot be encoded: {first_line(fault)}') from fault
    return found


class SliderLivePreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderLivePreview",
            display_name="Slider Live Preview",
            category=TRAINING_MENU,
            description="A strip that Slider Train Step shows while it trains, always from the same noise: connect it there.",
            search_aliases=["slider live strip", "training preview", "sample while training"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt of the strip, as for KSampler."),
                io.Conditioning.Input("negative", tooltip="The negative prompt, as for KSampler."),
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
                PromptsSocket.Input(
                    "prompts",
                    optional=True,
                    tooltip="Several prompts in place of positive, from Slider Prompt Library: each at its adapter_strength, "
                    "or without one at all strengths.",
                ),
                io.Clip.Input("clip", optional=True, tooltip="Encodes the prompts; needed only with prompts."),
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
        prompts: PromptLibrary | None = None,
        clip: Any = None,
    ) -> io.NodeOutput:
        spec = SweepSpec(parse_strengths(strengths), (strip_seed,), steps=steps, cfg=cfg)
        texts = {} if prompts is None else carrying(positive, texts_of(prompts, clip, len(spec.strengths)))
        drawing = Drawing(spec, positive, negative, latent_image, sampler_name, scheduler, prompts, texts)
        return io.NodeOutput(LivePreview(drawing, every))


NODES = [SliderLivePreview]
