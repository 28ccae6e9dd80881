"""The strip of a training, drawn now and then on the model that trains: one prompt at all strengths, or a prompt library.

In: a request for a sampling, the MODEL, the strengths. Out: a picture of the slider as it stands, which moves where the model
draws clips. With a library it is the validation of the training: an entry without a strength is a row at all of the strip's
strengths, one with a strength is a picture at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..config.checks import SliderError, need
from ..config.sweep import parse_strengths
from ..lora.useful_range import Span, useful_range
from ..use.plot_grids import ROW_CELLS, WIDEST, Legend, draw_library, draw_strip
from ..use.plot_video import Clips, Strip, as_bytes, length_of, over_time, strip_of
from ..use.prompt_library import MOST_ENTRIES, PromptEntry, PromptLibrary
from ..use.sampling import SamplingRequest
from ..use.sweep import sweep_library
from .sampling_request import ModelSampling, first_line, sampling_on_model
from .sweep import SliderSampler

MOST_IMAGES = MOST_ENTRIES  # in one live strip


@dataclass(frozen=True)
class LivePreview:
    """What is drawn, and how often; `every` 0 is at the end only."""

    drawing: ModelSampling
    strengths: tuple[float, ...]
    every: int
    library: PromptLibrary | None = None

    def strip(self, sampler: SliderSampler) -> Strip:
        """What is shown: one prompt at all strengths, or the library; of clips every frame of it, and a still sheet."""
        fps = self.drawing.sampling.fps
        useful = useful_range(sampler.slider.info, sampler.units)
        if self.library is not None:
            library = self.library
            images_of = self.entry_images(library, sampler)
            return over_time(lambda at: self._validation(library, list(map(at, images_of)), useful), length_of(images_of[0]), fps)
        images = self.images(sampler)
        if length_of(images) > 1:
            return strip_of(Clips(as_bytes(images)[None], fps), Legend(self.strengths, useful=useful))
        cell = max(ROW_CELLS[0], min(ROW_CELLS[1], WIDEST // len(self.strengths)))
        return Strip(draw_strip(images[None], Legend(self.strengths, useful=useful), cell))

    def images(self, sampler: SliderSampler) -> torch.Tensor:
        """Of the prompt (strengths, 3, H, W) or clips (strengths, T, 3, H, W), in one sampling call where model and sampler allow
        that."""
        images, _ = sampler.images(self.drawing.sampling, self.strengths)
        return images.detach().float().cpu().clamp(0, 1)

    def entry_images(self, library: PromptLibrary, sampler: SliderSampler) -> list[torch.Tensor]:
        """The images of each entry; one sampling for each distinct prompt. SliderError that names the entry."""

        def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
            try:
                return sampler.images(self.drawing.of_entry(entry), strengths)[0]
            except Exception as fault:  # ComfyUI's stop is no Exception
                raise SliderError(f'entry "{entry.name}": {first_line(fault)}', "preview.entry") from fault

        return sweep_library(library, self.strengths, sample)

    def _validation(self, library: PromptLibrary, images_of: list[torch.Tensor], useful: Span | None) -> Image.Image:
        return draw_library([(entry.name, entry.strength) for entry in library.entries], self.strengths, images_of, useful)


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
    return LivePreview(sampling_on_model(request, model, files, clip), columns, every, request.library)
