"""A training on a MODEL of ComfyUI, for the node and the command line alike: its samples, its run, its slider and its file.

In: MODEL, CLIP, VAE and a TrainingRequest. Out: a Run, a Slider that brings along what its file is tried with.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ..config.lora import AdapterSpec, FileDtype, FileFormat
from ..config.sweep import SweepSpec
from ..data.dataset import Dataset, OnImage
from ..encode.disk_cache import DiskCache
from ..encode.encoder import Sample
from ..encode.text_latents import encode_all
from ..families.distilled import Distilled
from ..layers.select import Selection, survey
from ..lora.calibration import Units
from ..lora.slider_file import Slider
from ..ranks import Ranks
from ..train.training_run import Run
from ..train.trainings import Session
from ..train.trainings_driver import TrainingRequest, begin
from ..use.plot_video import Strip
from ..use.prompt_library import PromptLibrary
from ..use.sampling import SamplingRequest
from ..use.sweep import SweepResult, rows_of
from .family import empty_latent, preferences_of, shifted
from .layer_names import architecture, named_layers
from .model_backend import ComfyBackend
from .model_files import Loaded
from .model_with_control import backend_for
from .proof import Proof
from .sampling_request import ModelSampling, sampling_on_model
from .slider_saving import save_proven
from .sweep import SliderSampler, sample_library, sweep_model
from .training_strip import live_preview


def encoded_samples(
    backend: ComfyBackend, dataset: Dataset, resolution: int, disk: DiskCache, on_image: OnImage, on_latent: OnImage
) -> Sequence[Sample]:
    """The samples of the dataset; with control hints each has its own."""
    hints = backend.hints
    backend.hints = None  # latents of a text slider are drawn without them
    try:
        samples = encode_all(dataset, backend, resolution or None, disk, on_image, on_latent)
    finally:
        backend.hints = hints
    return samples if hints is None else hints.given_out(samples)


def begin_on_model(
    session: Session,
    backend: ComfyBackend,
    request: TrainingRequest,
    saved: Path | None,
    encode: Callable[[], Sequence[Sample]],
    ranks: Ranks | None = None,
) -> Run:
    """The run of that name, continued or begun, with the control hints of its samples encoded."""
    run = begin(session, backend, request, saved, encode, backend.place, ranks)
    if backend.hints is not None:
        backend.hints.encode(run.trainer.samples, backend.patcher.model.model_sampling, backend.device)
    return run


def snapshot(run: Run, model: Any) -> Slider:
    """The slider as it stands, with what it takes to try its file on a real forward."""
    sample = run.trainer.samples[0]
    slider = run.slider()
    info = replace(slider.info, architecture=architecture(model))
    proof = None if info.in_controlnet else Proof(weakref.ref(model), sample.latent, sample.cond)
    return replace(slider, info=info, proof=proof)


class ComfyHost:
    """A loaded model for the command line: everything that a command asks of it."""

    def __init__(self, loaded: Loaded, distilled: Distilled | str = Distilled.AUTO) -> None:
        self.loaded = loaded
        self.ranks = Ranks()  # the processes that train together
        self.likes = preferences_of(loaded.model, loaded.files, distilled)
        self.disk = DiskCache(Path(folder_paths.get_user_directory()) / "slider_lora" / "encoded")  # the node's too
        self.runs = Path(folder_paths.get_output_directory()) / "sliders"  # as the node keeps them
        self.session = Session()

    def summary(self) -> str:
        return self.loaded.summary()

    def backend(self) -> ComfyBackend:
        loaded = self.loaded
        backend = backend_for(shifted(loaded.model, self.likes), loaded.vae, loaded.clip, None, loaded.control, False)
        backend.few_steps = self.likes.few_steps
        return backend

    def select(self, spec: AdapterSpec) -> Selection:
        """The layers that are trained."""
        return survey(self.loaded.model.model.diffusion_model, spec, named_layers(self.loaded.model))

    def encoded(
        self, backend: ComfyBackend, dataset: Dataset, resolution: int, on_image: OnImage, on_latent: OnImage
    ) -> Sequence[Sample]:
        return encoded_samples(backend, dataset, resolution, self.disk, on_image, on_latent)

    def begin(
        self, backend: ComfyBackend, request: TrainingRequest, saved: Path | None, encode: Callable[[], Sequence[Sample]]
    ) -> Run:
        return begin_on_model(self.session, backend, request, saved, encode, self.ranks)

    def slider(self, run: Run) -> Slider:
        return snapshot(run, self.loaded.model)

    def save(self, path: Path, slider: Slider, form: FileFormat, dtype: FileDtype, overwrite: bool) -> list[str]:
        """Save a slider, tried in ComfyUI's own loader. Lines about it."""
        return save_proven(path, slider, form, dtype, overwrite, self.loaded.model)

    def place(self, slider: Slider) -> Slider:
        """The slider with its layers found in the model. SliderError when it is for another one."""
        return self.backend().place(slider)

    def sized(self, request: SamplingRequest, size: int) -> SamplingRequest:
        """The request for square pictures of so many pixels; 0: the family's size."""
        if not size:
            return request
        return replace(request, latent=empty_latent(self.loaded.model, replace(self.likes, size=size)))

    def strip(self, request: SamplingRequest, strengths: str, size: int) -> Callable[[Slider], Strip]:
        """What draws a strip of a slider, of pictures of that size."""
        loaded = self.loaded
        request = self.sized(request, size)
        preview = live_preview(request, loaded.model, loaded.files, loaded.clip, strengths, 0)
        return lambda slider: preview.strip(SliderSampler(preview.drawing.model, loaded.vae, slider))

    def drawing(self, request: SamplingRequest, size: int) -> ModelSampling:
        """The request on this model, with the family's values in the place of 0 and auto."""
        return sampling_on_model(self.sized(request, size), self.loaded.model, self.loaded.files, self.loaded.clip)

    def sweep(self, slider: Slider, drawing: ModelSampling, spec: SweepSpec, units: Units) -> tuple[SweepResult, str]:
        """Pictures at every strength and seed, and how it ran."""
        sampler = SliderSampler(drawing.model, self.loaded.vae, slider, units)
        result = sweep_model(spec, rows_of(spec.seeds), sampler, drawing.sampling, {"": drawing.sampling.positive})
        return result, f"{sampler.summary()} {drawing.summary}".strip()

    def library(
        self, slider: Slider, library: PromptLibrary, drawing: ModelSampling, strength: float, units: Units
    ) -> torch.Tensor:
        """(entries, 3, H, W) or clips (entries, T, 3, H, W): each entry at its strength."""
        return sample_library(library, strength, SliderSampler(drawing.model, self.loaded.vae, slider, units), drawing)
