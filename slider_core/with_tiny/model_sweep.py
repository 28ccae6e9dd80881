"""Sweeps on the built-in model, measured in the units of its world.

A continuous attribute runs from -1 to 1 in the world; leak is in standard deviations of an attribute."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..config.sweep import SweepSpec
from ..lora.info import SliderInfo
from ..lora.safe_files import atomic_write, check_writable
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from ..use.plot_curves import label
from ..use.plot_grids import draw_entries, to_pil
from ..use.prompt_library import PromptEntry, PromptLibrary
from ..use.sweep import SweepResult, sweep, sweep_library
from ..use.sweep_export import as_json, png
from .faces import CLASSES, CONTINUOUS, UNIFORM_STD, Measured, measure, sample_faces
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
        own = [info.lora_weight(strength) for strength in strengths]
        return backend.sample(cond, 50_000 + seed, own, adapter, spec.steps, spec.cfg)

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


def _value(measured: Measured, attribute: str) -> float:
    return float(getattr(measured, attribute))


def _nanmean(values: Sequence[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else float("nan")


def _same(measured: Measured, base: Measured, kind: str) -> bool:
    """Whether both images show a face, and of the same class."""
    return not math.isnan(measured.size + base.size) and getattr(measured, kind) == getattr(base, kind)


def _share(answers: Sequence[bool]) -> float:
    return sum(answers) / len(answers)


def measured_curve(result: SweepResult, base: torch.Tensor) -> Curve:
    """Measure every image of a sweep; `base` (seeds, 3, H, W) are the same seeds without a slider."""
    zero = measure(base)
    columns = [measure(result.images[:, i]) for i in range(len(result.spec.strengths))]
    drift = [
        {a: _nanmean([abs(_value(m, a) - _value(z, a)) / UNIFORM_STD for m, z in zip(c, zero, strict=True)]) for a in CONTINUOUS}
        for c in columns
    ]
    return Curve(
        result.spec.strengths,
        mean={a: [_nanmean([_value(m, a) for m in c]) for c in columns] for a in CONTINUOUS},
        kept={k: [_share([_same(m, z, k) for m, z in zip(c, zero, strict=True)]) for c in columns] for k in CLASSES},
        leak={a: [_nanmean([d[o] for o in CONTINUOUS if o != a]) for d in drift] for a in CONTINUOUS},
    )


def measured_sweep(
    backend: TinyBackend, adapter: Adapter, spec: SweepSpec, info: SliderInfo | None = None
) -> tuple[SweepResult, Curve]:
    """Sweep on the embedded model and measure it against the model without a slider. `info`: the slider's."""
    result = sweep(spec, sampler(backend, adapter, spec, info or SliderInfo()))
    bare = sampler(backend, None, spec, SliderInfo())
    base = torch.cat([bare((0.0,), seed) for seed in spec.seeds])
    return result, measured_curve(result, base)


def draw_prompts(
    library: PromptLibrary,
    strength: float,
    backend: TinyBackend,
    slider: Slider,
    spec: SweepSpec,
    info: SliderInfo | None,
    out: Path,
) -> dict[str, Any]:
    """Each entry at its own strength, or at `strength`, for every seed: a PNG of each in `out`, with prompts.png and .json."""
    adapter, found = Adapter.from_weights(backend.module, slider.cut().weights), {}
    check_writable(out, "prompts.png", "prompts.json")
    for seed in spec.seeds:

        def sample(entry: PromptEntry, strengths: Sequence[float], seed: int = seed) -> torch.Tensor:
            return sampler(backend, adapter, dataclasses.replace(spec, prompt=entry.prompt), info or SliderInfo())(
                strengths, seed
            )

        drawn = sweep_library(library, (strength,), sample)
        found |= {(place, seed): images[0] for place, images in enumerate(drawn)}
    shown, files = sorted(found), []
    for place, seed in shown:
        plain = re.sub(r"[^\w-]+", "_", library.entries[place].name)[:60]
        files.append(f"{place + 1:03}_{plain}_seed{seed}.png")
        atomic_write(out / files[-1], png(to_pil(found[place, seed])), overwrite=True)
    names = [(f"{library.entries[place].name} {seed}", library.entries[place].at(strength)) for place, seed in shown]
    grid = draw_entries(torch.stack([found[key] for key in shown]), names, slider.info.name, 128)
    atomic_write(out / "prompts.png", png(grid), overwrite=True)
    report = {"entries": {e.name: {"prompt": e.prompt, "strength": e.at(strength)} for e in library.entries}, "images": files}
    atomic_write(out / "prompts.json", as_json(report, indent=1).encode(), overwrite=True)
    return report


def table(strengths: Sequence[float], mean: dict[str, list[float]], kept: dict[str, list[float]]) -> str:
    """A short text table: one row per strength."""
    names = list(mean)
    rows = ["strength " + "".join(f"{n:>9}" for n in names) + "".join(f"{n + ' kept':>16}" for n in kept)]
    for i, strength in enumerate(strengths):
        means, shares = "".join(f"{mean[n][i]:>9.2f}" for n in names), "".join(f"{kept[n][i]:>16.0%}" for n in kept)
        rows.append(f"{label(strength):>8} {means}{shares}")
    return "\n".join(rows)
