"""The built-in model as a host of commands: it needs no ComfyUI. with_comfy/trainings_host.py is its counterpart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..backend import Backend
from ..config.checks import SliderError
from ..config.lora import AdapterSpec, FileDtype, FileFormat
from ..config.sweep import SweepSpec, parse_strengths
from ..data.dataset import Dataset, OnImage
from ..encode.encoder import Sample
from ..encode.text_latents import encode_all
from ..families.table import TINY, Preferences
from ..layers.select import Selection, survey
from ..lora.keys import with_ratio
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider, rounding, save_slider
from ..lora.useful_range import useful_range
from ..ranks import Ranks
from ..train.training_run import Run
from ..train.trainings import Session
from ..train.trainings_driver import TrainingRequest, begin
from ..use.plot_grids import Legend, draw_library, draw_strip
from ..use.plot_video import Strip
from ..use.prompt_library import PromptEntry
from ..use.sampling import SamplingRequest
from ..use.sweep import sweep_library
from ..with_tiny.model import TinyBackend
from ..with_tiny.model_sweep import sampler

CELL = 128  # pixels of a picture on a strip


class TinyHost:
    def __init__(self) -> None:
        self.ranks = Ranks()
        self.likes = Preferences(TINY.title, TINY.training, TINY.drawing, TINY.size)
        self.runs: Path | None = None  # beside the file that is written
        self.session = Session()

    def summary(self) -> str:
        return ""

    def backend(self) -> TinyBackend:
        return TinyBackend()

    def select(self, spec: AdapterSpec) -> Selection:
        return survey(TinyBackend().module, spec)

    def encoded(
        self, backend: Backend, dataset: Dataset, resolution: int, on_image: OnImage, on_latent: OnImage
    ) -> Sequence[Sample]:
        return encode_all(dataset, backend, resolution or None, None, on_image, on_latent)

    def begin(
        self, backend: Backend, request: TrainingRequest, saved: Path | None, encode: Callable[[], Sequence[Sample]]
    ) -> Run:
        return begin(self.session, backend, request, saved, encode, ranks=self.ranks)

    def slider(self, run: Run) -> Slider:
        return run.slider()

    def place(self, slider: Slider) -> Slider:
        """The slider with what the built-in model adds to it, where it is for that one; another must name its layers itself."""
        module = TinyBackend().module
        try:
            fitted = slider.on(module)
            return replace(fitted, weights=with_ratio(fitted.weights, module))
        except SliderError:
            if not slider.placed:
                raise
            return slider

    def save(self, path: Path, slider: Slider, form: FileFormat, dtype: FileDtype, overwrite: bool) -> list[str]:
        """Save a slider, without a trial in any loader. Lines about it."""
        save_slider(path, slider, dtype, overwrite, form)
        return rounding(slider, dtype)

    def strip(self, request: SamplingRequest, strengths: str, _size: int) -> Callable[[Slider], Strip]:
        """What draws a strip of a slider, or a prompt library, in the model's one size."""
        settings = request.settings.for_model(self.likes)
        spec = SweepSpec(parse_strengths(strengths), (request.seed,), request.prompt, settings.steps, settings.cfg)

        def draw(slider: Slider) -> Strip:
            backend = TinyBackend()
            adapter = Adapter.from_weights(backend.module, slider.cut().weights)

            def sample(prompt: str, at: Sequence[float]) -> torch.Tensor:
                return sampler(backend, adapter, replace(spec, prompt=prompt), slider.info)(at, request.seed)

            useful = useful_range(slider.info)
            if request.library is None:
                images = sample(spec.prompt, spec.strengths)[None]
                return Strip(draw_strip(images, Legend(spec.strengths, useful=useful), CELL))

            def of_entry(entry: PromptEntry, at: Sequence[float]) -> torch.Tensor:
                return sample(entry.prompt, at)

            images_of = sweep_library(request.library, spec.strengths, of_entry)
            entries = [(entry.name, entry.strength) for entry in request.library.entries]
            return Strip(draw_library(entries, spec.strengths, images_of, useful))

        return draw
