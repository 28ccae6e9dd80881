"""SliderLivePreview: how the strip is drawn that Slider Train Step shows while it trains, and the drawing of it.

With a prompt library it is the validation of the training: an entry without a strength is a row at all of the strip's
strengths, one with a strength is a picture at it.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io
from PIL import Image

from ..slider_core.config.checks import SliderError, need
from ..slider_core.config.sweep import parse_strengths
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.plot_grids import ROW_CELLS, WIDEST, draw_strip, draw_validation
from ..slider_core.use.prompt_library import MOST_ENTRIES, PromptEntry, PromptLibrary
from ..slider_core.use.sampling import Sampling
from ..slider_core.use.sweep import sweep_library
from ..slider_core.with_comfy.sampling_request import carrying, encoded
from ..slider_core.with_comfy.sweep import SliderSampler
from .inputs import SamplerInputs, sampler_inputs, seed_input
from .messages import executing_node
from .sockets import TRAINING_MENU, PreviewSocket, PromptsSocket

MOST_IMAGES = MOST_ENTRIES  # in one live strip
QUALITY = 90


def first_line(fault: Exception) -> str:
    """Any error in one line of bounded length."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:300]


@dataclass(frozen=True)
class LivePreview:
    """What flows on the socket: what is drawn, and how often; `every` 0 is at the end only."""

    sampling: Sampling
    strengths: tuple[float, ...]
    every: int
    library: PromptLibrary | None = None
    positives: Mapping[str, Any] = field(default_factory=dict)  # the library's prompts, encoded

    def strip(self, sampler: SliderSampler) -> Image.Image:
        """What is shown: one prompt at all strengths, or the library."""
        if self.library is not None:
            return self._validation(self.library, self.entry_images(self.library, sampler))
        cell = max(ROW_CELLS[0], min(ROW_CELLS[1], WIDEST // len(self.strengths)))
        return draw_strip(self.images(sampler)[None], self.strengths, [], "", cell)

    def images(self, sampler: SliderSampler) -> torch.Tensor:
        """(strengths, 3, H, W) of the prompt, in one sampling call where the model and the sampler allow that."""
        images, _ = sampler.images(self.sampling, self.strengths)
        return images.detach().float().cpu().clamp(0, 1)

    def entry_images(self, library: PromptLibrary, sampler: SliderSampler) -> list[torch.Tensor]:
        """The images of each entry; one sampling for each distinct prompt. SliderError that names the entry."""

        def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
            try:
                return sampler.images(replace(self.sampling, positive=self.positives[entry.prompt]), strengths)[0]
            except Exception as fault:  # ComfyUI's stop is no Exception
                raise SliderError(f'entry "{entry.name}": {first_line(fault)}', "preview.entry") from fault

        return sweep_library(library, self.strengths, sample)

    def _validation(self, library: PromptLibrary, images_of: list[torch.Tensor]) -> Image.Image:
        rows = {}
        single = []
        for entry, images in zip(library.entries, images_of, strict=True):
            if entry.strength is None:
                rows[entry.name] = images
            else:
                single.append((entry.name, entry.strength, images[0]))
        return draw_validation(rows, self.strengths, single)


class Strips:
    """The live strips of one training: drawn on `model`, kept as one file of ComfyUI's temporary folder."""

    def __init__(self, preview: LivePreview | None, model: Any, vae: Any) -> None:
        self.preview = preview
        self._model = model
        self._vae = vae
        self.shown: dict[str, Any] | None = None  # as ComfyUI's /view wants it, and the step
        self.trouble = ""
        self.drawn = 0
        self.seconds = 0.0

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
        """Draw and keep a strip. Whatever a sampler, a VAE or a disk objects to is put in `trouble`, and no other is tried."""
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
        strip = self.preview.strip(SliderSampler(self._model, self._vae, slider))
        folder = Path(folder_paths.get_temp_directory())
        folder.mkdir(parents=True, exist_ok=True)
        name = f"slider_live_{executing_node().replace(':', '_')}.jpg"
        part = folder / f"{name}.part"
        strip.save(part, "JPEG", quality=QUALITY)
        part.replace(folder / name)
        return {"filename": name, "subfolder": "", "type": "temp", "step": step}


def encoded_library(library: PromptLibrary, clip: Any, strengths: int) -> dict[str, Any]:
    """Each distinct prompt of a library, encoded. SliderError for what cannot be, or is too much to be drawn again and again."""
    need(clip is not None, "Slider Live Preview: prompts need clip to encode them; connect it.", "preview.no_clip")
    single = sum(entry.strength is not None for entry in library.entries)
    rows = len(library.entries) - single
    count = rows * strengths + single
    need(
        count <= MOST_IMAGES,
        f"Slider Live Preview: {rows} entries at {strengths} strengths and {single} at their own are {count} pictures; "
        f"{MOST_IMAGES} at most. Write fewer strengths, or give entries an adapter_strength.",
        "preview.size",
    )
    positives = {}
    for name, prompt in library.prompts().items():
        try:
            positives[prompt] = encoded(clip, prompt)
        except Exception as fault:
            message = f'Slider Live Preview: entry "{name}" cannot be encoded: {first_line(fault)}'
            raise SliderError(message, "preview.encode") from fault
    return positives


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
                # the browser puts a new number into whatever is called seed
                seed_input("strip_seed", "Noise of every strip: they differ by what was learned alone.", counts=False),
                *sampler_inputs(),
                io.Int.Input("every", default=50, min=0, max=100000, tooltip="Steps between two strips. 0: only at the end."),
                PromptsSocket.Input("prompts", optional=True, tooltip="In place of positive, from Slider Prompt Library."),
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
        every: int,
        prompts: PromptLibrary | None = None,
        clip: Any = None,
        **sampler: Any,
    ) -> io.NodeOutput:
        sampling = SamplerInputs(**sampler).sampling(positive, negative, latent_image, strip_seed)
        columns = parse_strengths(strengths)
        positives = {}
        if prompts is not None:
            positives = carrying(positive, encoded_library(prompts, clip, len(columns)))
        return io.NodeOutput(LivePreview(sampling, columns, every, prompts, positives))


NODES = [SliderLivePreview]
