"""Pictures of a slider on the model that ComfyUI has loaded: a sweep of strengths, and a library of prompts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..config.checks import SliderError
from ..config.sweep import SweepSpec
from ..data.dataset import Dataset
from ..encode.disk_cache import DiskCache
from ..encode.pair_direction import pair_direction
from ..lora.calibration import Units
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..use.prompt_library import PromptEntry, PromptLibrary
from ..use.sweep import Row, SweepResult, how_it_ran, sweep_library, sweep_rows
from .model_backend import ComfyBackend
from .sampling import sample_strengths
from .slider_on_model import with_slider
from .slider_with_controlnet import for_sweep

MOST_ROWS = 256


@dataclass
class Drawer:
    """How pictures of one slider are drawn, but for the prompt, the seed and the strengths. It remembers how its sampling
    calls went."""

    model: Any
    vae: Any
    latent: Mapping[str, Any]
    negative: Any
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    most_at_once: int = 0
    units: Units | str = Units.CALIBRATED
    calls: list[list[int]] = dataclasses.field(default_factory=list)
    why: str = ""
    adapter: Adapter | None = None
    backend: ComfyBackend | None = None  # of a slider in a ControlNet

    def summary(self) -> str:
        return how_it_ran(self.calls, self.why)

    def _told(self, sizes: list[int], why: str) -> None:
        self.calls.append(sizes)
        self.why = why if len(sizes) > 1 else self.why

    def draw(self, slider: Slider, strengths: Sequence[float], seed: int, positive: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Images (S, 3, H, W), of a clip its middle frame, and latents (S, ...) as the model has them."""
        if self.adapter is None:
            self.adapter, self.backend = for_sweep(self.model, slider, positive)
        latents = sample_strengths(
            self.model,
            self.adapter,
            [slider.info.lora_weight(strength, self.units) for strength in strengths],
            seed,
            dict(self.latent),
            positive,
            self.negative,
            self.steps,
            self.cfg,
            self.sampler,
            self.scheduler,
            most_at_once=self.most_at_once,
            on_calls=self._told,
            backend=self.backend,
        )
        images = self.vae.decode(latents)
        if images.ndim == 5:
            images = images[:, images.shape[1] // 2]
        if len(images) != len(strengths):
            raise SliderError(f"The VAE made {len(images)} pictures of {len(strengths)} latents: connect the model's own VAE.")
        return images.movedim(-1, 1), self.model.model.process_latent_in(latents)

    def with_other(self, other: Slider, strength: float) -> Drawer:
        """The same on the model with another slider on it, set as Slider LoRA Apply sets it."""
        model = with_slider(self.model, other, other.info.lora_weight(strength, self.units))
        return dataclasses.replace(self, model=model, adapter=None, backend=None)


def sweep_model(
    spec: SweepSpec,
    rows: Sequence[Row],
    drawer: Drawer,
    slider: Slider,
    positives: Mapping[str, Any],
    other: Slider | None = None,
    on_row: Callable[[], None] = lambda: None,
) -> SweepResult:
    """Every row at all strengths. `positives`: ComfyUI's CONDITIONING by the rows' prompt names."""
    if len(rows) > MOST_ROWS:
        raise SliderError(f"{len(rows)} rows (prompts x seeds x strengths of the second slider); {MOST_ROWS} at most.")

    def sample(strengths: Sequence[float], row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        own = drawer if other is None or row.other is None else drawer.with_other(other, row.other)
        drawn = own.draw(slider, strengths, row.seed, positives[row.prompt])
        drawer.why = own.why or drawer.why
        on_row()
        return drawn

    return sweep_rows(spec, rows, sample)


def along(dataset: Dataset, drawer: Drawer, result: SweepResult, disk: DiskCache | None = None) -> torch.Tensor:
    """The direction of a dataset's pairs, of the shape of the sweep's latents."""
    if result.latents is None:
        raise SliderError("This sweep has no latents to measure.")
    shape, pixels = result.latents.shape[2:], tuple(result.images.shape[-2:])
    return pair_direction(dataset, ComfyBackend(drawer.model, drawer.vae, None), shape, pixels, disk)


def encoded(clip: Any, texts: Mapping[str, str]) -> dict[str, Any]:
    """CONDITIONING of each text, by its name."""
    return {name: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for name, text in texts.items()}


def carrying(positive: Any, prompts: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts with the ControlNet that `positive` carries, if it does."""
    control = {key: value for key, value in positive[0][1].items() if key.startswith("control")}
    return {name: [[text, extra | control] for text, extra in cond] for name, cond in prompts.items()}


def draw_library(
    library: PromptLibrary,
    strength: float,
    seed: int,
    drawer: Drawer,
    slider: Slider,
    clip: Any,
    on_group: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """(entries, 3, H, W): each entry at its strength, from the same noise. Entries of one prompt are one sampling call."""

    def sample(entry: PromptEntry, strengths: Sequence[float]) -> torch.Tensor:
        images, _ = drawer.draw(slider, strengths, seed, encoded(clip, {"": entry.prompt})[""])
        on_group()
        return images

    return torch.cat(sweep_library(library, (strength,), sample))
