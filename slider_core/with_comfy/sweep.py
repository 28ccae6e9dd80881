"""Images of a slider on the model that ComfyUI has loaded: a sweep of strengths, and a library of prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch

from ..config.checks import SliderError
from ..config.sweep import SweepSpec
from ..data.dataset import Dataset
from ..encode.disk_cache import DiskCache
from ..encode.latent_direction import pair_direction
from ..layers import reach
from ..lora.calibration import Units
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..use.prompt_library import PromptEntry, PromptLibrary
from ..use.sampling import Sampling
from ..use.sweep import Row, SweepResult, how_it_ran, sweep_library, sweep_rows
from .control_hints import chain, control_in, models_of
from .model_backend import ComfyBackend
from .model_with_control import ControlBackend
from .sampling import sample_latents
from .sampling_request import ModelSampling
from .slider_apply import apply

MOST_ROWS = 256


def sweep_adapter(model: Any, slider: Slider, positive: Any) -> tuple[ComfyBackend, Adapter]:
    """The slider as an adapter, and the backend where it lies: the model, or the prompt's first ControlNet that it fits."""
    if not slider.info.in_controlnet:
        backend = ComfyBackend(model)
        return backend, backend.adapter(slider)
    control = control_in(positive)
    if control is None:
        message = "This slider is for a ControlNet, and positive carries none: use Apply ControlNet before the sweep."
        raise SliderError(message, "sweep.no_controlnet")
    faults = []
    for link in chain(control):
        try:
            backend = ControlBackend(model, link)
            comfy.model_management.load_models_gpu(models_of([control]))
            return backend, backend.adapter(slider)
        except SliderError as fault:
            faults.append(fault)
    raise faults[0]


class SliderSampler:
    """Samples images of one slider on a MODEL. It keeps the slider's adapter from one sampling to the next, and how the
    sampling calls went."""

    def __init__(self, model: Any, vae: Any, slider: Slider, units: Units | str = Units.CALIBRATED) -> None:
        self.model = model
        self.vae = vae
        self.slider = slider
        self.units = units
        self.calls: list[list[int]] = []  # of each sampling, the strengths in its calls
        self.reason = ""  # why they are not one call
        self._placed: tuple[ComfyBackend, Adapter] | None = None

    def images(self, sampling: Sampling, strengths: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (S, 3, H, W) or clips (S, T, 3, H, W), and latents (S, ...) as the model has them."""
        if self._placed is None:
            self._placed = sweep_adapter(self.model, self.slider, sampling.positive)
        weights = [self.slider.info.lora_weight(strength, self.units) for strength in strengths]
        sampled = sample_latents(*self._placed, sampling, weights)
        self.calls.append(sampled.calls)
        if len(sampled.calls) > 1:
            self.reason = sampled.reason
        images = self.vae.decode(sampled.latents)
        if images.ndim == 5 and images.shape[1] == 1:
            images = images[:, 0]
        if len(images) != len(strengths):
            message = f"The VAE made {len(images)} pictures of {len(strengths)} latents: connect the model's own VAE."
            raise SliderError(message, "vae.count")
        return images.movedim(-1, -3), self.model.model.process_latent_in(sampled.latents)

    def beside(self, other: Slider, strength: float) -> SliderSampler:
        """The same on the model with another slider on it, set as Slider LoRA Apply sets it."""
        model, _ = apply(other, strength, self.model, units=self.units)
        return SliderSampler(model, self.vae, self.slider, self.units)

    def count(self, other: SliderSampler) -> None:
        """Count the calls of another sampler among this one's."""
        self.calls += other.calls
        self.reason = other.reason or self.reason

    def summary(self) -> str:
        lines = [how_it_ran(self.calls, self.reason), self.slider.info.units_note(self.units)]
        if self._placed:
            backend = self._placed[0]
            lines += [reach.note(backend.module), *backend.left_out]
        return "\n".join(filter(None, lines))


def sweep_model(
    spec: SweepSpec,
    rows: Sequence[Row],
    sampler: SliderSampler,
    sampling: Sampling,
    positives: Mapping[str, Any],
    other: Slider | None = None,
    on_row: Callable[[], None] = lambda: None,
) -> SweepResult:
    """Every row at all strengths. `positives`: ComfyUI's CONDITIONING by the rows' prompt names."""
    if len(rows) > MOST_ROWS:
        message = f"{len(rows)} rows (prompts x seeds x strengths of the second slider); {MOST_ROWS} at most."
        raise SliderError(message, "sweep.rows")

    def sample(strengths: Sequence[float], row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        of_row = replace(sampling, seed=row.seed, positive=positives[row.prompt])
        if other is None or row.other is None:
            images = sampler.images(of_row, strengths)
        else:
            beside = sampler.beside(other, row.other)
            images = beside.images(of_row, strengths)
            sampler.count(beside)
        on_row()
        return images

    return sweep_rows(spec, rows, sample, sampling.fps)


def along(dataset: Dataset, sampler: SliderSampler, result: SweepResult, disk: DiskCache | None = None) -> torch.Tensor:
    """The direction of a dataset's pairs, of the shape of the sweep's latents."""
    assert result.latents is not None  # a SliderSampler gives them
    height, width = result.images.shape[-2:]
    backend = ComfyBackend(sampler.model, sampler.vae)
    return pair_direction(dataset, backend, result.latents.shape[2:], (height, width), disk)


def sample_library(
    library: PromptLibrary,
    strength: float,
    sampler: SliderSampler,
    drawing: ModelSampling,
    on_group: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """(entries, 3, H, W), or clips (entries, T, 3, H, W): each entry at its strength, from the same noise. Entries of one prompt
    are one sampling."""

    def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
        images, _ = sampler.images(drawing.of_entry(entry), strengths)
        on_group()
        return images

    return torch.cat(sweep_library(library, (strength,), sample))
