"""Sweeps on the built-in model, measured in the units of its world.

A continuous attribute runs from -1 to 1 in the world; leak is in standard deviations of an attribute."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..config.sweep import SweepSpec
from ..lora.info import SliderInfo
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..use.plot_curves import label
from ..use.prompt_library import PromptEntry, PromptLibrary
from ..use.sweep import SweepResult, sweep, sweep_library
from .faces import CLASSES, CONTINUOUS, UNIFORM_STD, Face, measure, sample_faces
from .model import TinyBackend


def held_out_caption(seed: int) -> str:
    """The caption that goes with a held-out seed: every seed shows another skin and background."""
    return sample_faces(1, torch.Generator().manual_seed(90_000 + seed))[0].caption


def sampler(
    backend: TinyBackend, adapter: Adapter | None, spec: SweepSpec, info: SliderInfo
) -> Callable[[Sequence[float], int], torch.Tensor]:
    """A sweep's sampler on the embedded model; without a prompt every seed has its own caption. Strengths are calibrated ones
    where `info` knows them."""

    def sample(strengths: Sequence[float], seed: int) -> torch.Tensor:
        cond = backend.encode_prompt(spec.prompt or held_out_caption(seed))
        weights = [info.lora_weight(strength) for strength in strengths]
        return backend.sample(cond, 50_000 + seed, weights, adapter, spec.steps, spec.cfg)

    return sample


@dataclass(frozen=True)
class Curve:
    """Per strength, over all seeds: mean of each continuous attribute, and the share of images that kept each class."""

    strengths: tuple[float, ...]
    mean: dict[str, list[float]]
    kept: dict[str, list[float]]
    leak: dict[str, list[float]]  # attribute -> mean absolute change of the *others* from the base, in standard deviations

    def effect(self, attribute: str, low: float = -1.0, high: float = 1.0) -> float:
        """Change of the mean of `attribute` from strength `low` to `high`, both of which must be in the sweep."""
        line = self.mean[attribute]
        return line[self.strengths.index(high)] - line[self.strengths.index(low)]

    def monotone(self, attribute: str, low: float = -1.0, high: float = 1.0) -> bool:
        """Whether the mean of `attribute` rises at every step of strength from `low` to `high`."""
        line = [v for s, v in sorted(zip(self.strengths, self.mean[attribute], strict=True)) if low <= s <= high]
        return all(b > a for a, b in itertools.pairwise(line))


def measured_curve(result: SweepResult, base: torch.Tensor) -> Curve:
    """Measure every image of a sweep; `base` (seeds, 3, H, W) are the same seeds without a slider."""
    bare = measure(base)
    mean: dict[str, list[float]] = defaultdict(list)
    kept: dict[str, list[float]] = defaultdict(list)
    leak: dict[str, list[float]] = defaultdict(list)
    for column in range(len(result.spec.strengths)):
        faces = measure(result.images[:, column])
        drift = {name: _drift(faces, bare, name) for name in CONTINUOUS}
        for name in CONTINUOUS:
            mean[name].append(_nanmean([getattr(face, name) for face in faces]))
            leak[name].append(_nanmean([value for other, value in drift.items() if other != name]))
        for name in CLASSES:
            kept[name].append(_kept_share(faces, bare, name))
    return Curve(result.spec.strengths, dict(mean), dict(kept), dict(leak))


def _nanmean(values: Sequence[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def _drift(faces: Sequence[Face], bare: Sequence[Face], name: str) -> float:
    """Mean absolute change of an attribute from the images without a slider, in standard deviations."""
    changes = []
    for face, base in zip(faces, bare, strict=True):
        changes.append(abs(getattr(face, name) - getattr(base, name)) / UNIFORM_STD)
    return _nanmean(changes)


def _kept_share(faces: Sequence[Face], bare: Sequence[Face], kind: str) -> float:
    """The share of images that still show a face, and of the same class."""
    kept = 0
    for face, base in zip(faces, bare, strict=True):
        kept += not math.isnan(face.size + base.size) and getattr(face, kind) == getattr(base, kind)
    return kept / len(faces)


def measured_sweep(
    backend: TinyBackend, adapter: Adapter, spec: SweepSpec, info: SliderInfo | None = None
) -> tuple[SweepResult, Curve]:
    """Sweep on the embedded model and measure it against the model without a slider. `info`: the slider's."""
    result = sweep(spec, sampler(backend, adapter, spec, info or SliderInfo()))
    if 0.0 in spec.strengths:  # where a slider leaves the model as it is
        return result, measured_curve(result, result.images[:, spec.strengths.index(0.0)])
    bare = sampler(backend, None, spec, SliderInfo())
    base = torch.cat([bare((0.0,), seed) for seed in spec.seeds])
    return result, measured_curve(result, base)


def draw_prompts(
    library: PromptLibrary, strength: float, backend: TinyBackend, slider: Slider, spec: SweepSpec, info: SliderInfo | None
) -> list[tuple[int, int, torch.Tensor]]:
    """(place in the library, seed, picture (3, H, W)) of each entry at its own strength, or at `strength`, for every seed."""
    adapter = Adapter.from_weights(backend.module, slider.cut().weights)
    pictures = []
    for seed in spec.seeds:

        def sample(entry: PromptEntry, strengths: Sequence[float], seed: int = seed) -> torch.Tensor:
            one = dataclasses.replace(spec, prompt=entry.prompt)
            return sampler(backend, adapter, one, info or SliderInfo())(strengths, seed)

        for place, drawn in enumerate(sweep_library(library, (strength,), sample)):
            pictures.append((place, seed, drawn[0]))
    return sorted(pictures, key=lambda picture: picture[:2])


def table(strengths: Sequence[float], mean: dict[str, list[float]], kept: dict[str, list[float]]) -> str:
    """A short text table: one row per strength."""
    rows = ["strength ", *(f"{label(strength):>8} " for strength in strengths)]
    for name, means in mean.items():
        rows[0] += f"{name:>9}"
        for i, value in enumerate(means, 1):
            rows[i] += f"{value:>9.2f}"
    for name, shares in kept.items():
        rows[0] += f"{name + ' kept':>16}"
        for i, share in enumerate(shares, 1):
            rows[i] += f"{share:>16.0%}"
    return "\n".join(rows)
