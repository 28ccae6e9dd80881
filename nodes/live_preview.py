"""The strip that Slider Train Step shows while it trains, as Slider Sampling says.

With a prompt library it is the validation of the training: an entry without a strength is a row at all of the strip's
strengths, one with a strength is a picture at it.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image

from ..slider_core.config.checks import SliderError, need
from ..slider_core.config.sweep import parse_strengths
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.plot_grids import ROW_CELLS, WIDEST, draw_strip, draw_validation
from ..slider_core.use.prompt_library import MOST_ENTRIES, PromptEntry, PromptLibrary
from ..slider_core.use.sampling import SamplingRequest
from ..slider_core.use.sweep import sweep_library
from ..slider_core.with_comfy.sampling_request import ModelSampling, on_model
from ..slider_core.with_comfy.sweep import SliderSampler
from .frames import as_file
from .messages import executing_node

MOST_IMAGES = MOST_ENTRIES  # in one live strip


def first_line(fault: Exception) -> str:
    """Any error in one line of bounded length."""
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:300]


@dataclass(frozen=True)
class LivePreview:
    """What is drawn, and how often; `every` 0 is at the end only."""

    drawing: ModelSampling
    strengths: tuple[float, ...]
    every: int
    library: PromptLibrary | None = None

    def strip(self, sampler: SliderSampler) -> Image.Image:
        """What is shown: one prompt at all strengths, or the library."""
        if self.library is not None:
            return self._validation(self.library, self.entry_images(self.library, sampler))
        cell = max(ROW_CELLS[0], min(ROW_CELLS[1], WIDEST // len(self.strengths)))
        return draw_strip(self.images(sampler)[None], self.strengths, [], "", cell)

    def images(self, sampler: SliderSampler) -> torch.Tensor:
        """(strengths, 3, H, W) of the prompt, in one sampling call where the model and the sampler allow that."""
        images, _ = sampler.images(self.drawing.sampling, self.strengths)
        return images.detach().float().cpu().clamp(0, 1)

    def entry_images(self, library: PromptLibrary, sampler: SliderSampler) -> list[torch.Tensor]:
        """The images of each entry; one sampling for each distinct prompt. SliderError that names the entry."""

        names = {prompt: name for name, prompt in library.prompts().items()}

        def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
            positive = self.drawing.positives[names[entry.prompt]]
            try:
                return sampler.images(replace(self.drawing.sampling, positive=positive), strengths)[0]
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
    """The live strips of one training, kept as one file of ComfyUI's temporary folder."""

    def __init__(self, preview: LivePreview | None, vae: Any) -> None:
        self.preview = preview
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
            logging.getLogger(__name__).warning("live strip at step %d", step, exc_info=True)
            self.trouble = f"No live strip: {first_line(fault)}"
        self.seconds += time.monotonic() - start

    def _file(self, slider: Slider, step: int) -> dict[str, Any]:
        strip = self.preview.strip(SliderSampler(self.preview.drawing.model, self._vae, slider))
        return as_file(strip, f"slider_live_{executing_node().replace(':', '_')}.jpg") | {"step": step}


def checked_size(library: PromptLibrary, strengths: int) -> None:
    """SliderError for a library that is too much to be drawn again and again."""
    single = sum(entry.strength is not None for entry in library.entries)
    rows = len(library.entries) - single
    count = rows * strengths + single
    need(
        count <= MOST_IMAGES,
        f"Slider Train Step: {rows} entries at {strengths} strengths and {single} at their own are {count} pictures; "
        f"{MOST_IMAGES} at most. Write fewer strip_strengths, or give entries an adapter_strength.",
        "preview.size",
    )


def live_preview(
    request: SamplingRequest, model: Any, files: Sequence[str], clip: Any, strengths: str, every: int
) -> LivePreview:
    """The strip of a training on `model`, its prompts encoded. SliderError where it cannot be drawn."""
    columns = parse_strengths(strengths)
    if request.library is not None:
        checked_size(request.library, len(columns))
    return LivePreview(on_model(request, model, files, clip), columns, every, request.library)
