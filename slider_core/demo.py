"""The embedded world put to work: pairs for any attribute, measured sweeps, and the demo from pairs to proof.

Units of the figures: a continuous attribute runs from -1 to 1 in the world; leak is in standard deviations of an attribute.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import math
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .adapter import Adapter
from .calibrate import file_strength
from .config import AdapterSpec, SliderError, SweepSpec, TrainSpec, nearest
from .dataset import Dataset, bucket_folders, read_dataset
from .drawing import draw_entries
from .formats import to_native
from .metadata import tensor_hash, thumbnail
from .prompt_library import PromptEntry, PromptLibrary
from .session import Run, Session
from .store import Slider, atomic_write, save_slider
from .sweep import SweepResult, draw_curve, draw_strip, label, sweep, sweep_library, to_pil
from .targets import survey_for
from .tiny import TinyBackend
from .trainer import StepReport, Trainer
from .words import encode_all, origin
from .world import ATTRIBUTES, CLASSES, CONTINUOUS, UNIFORM_STD, Face, Measured, measure, render, sample_faces

SHIPPED_PAIRS = Path(__file__).resolve().parent.parent / "demo_pairs" / "smile"
EXTREME = 0.95  # how far a pair's two images lie from the middle of a continuous attribute


def at_extreme(face: Face, attribute: str, sign: int) -> Face:
    """`face` with one attribute at its positive or negative extreme (first and last class for a class attribute)."""
    value = CLASSES[attribute][0 if sign > 0 else -1] if attribute in CLASSES else sign * EXTREME
    return dataclasses.replace(face, **{attribute: value})


def make_pairs(attribute: str, count: int, seed: int, unpaired: bool = False) -> list[tuple[Face, Face]]:
    """(positive, negative) faces. Aligned pairs differ in `attribute` alone; unpaired ones share nothing.

    Raises SliderError for an unknown attribute or a count below 1.
    """
    if attribute not in ATTRIBUTES:
        raise SliderError(f'Attribute "{attribute}" is not of this world; {nearest(attribute, ATTRIBUTES)}')
    if count < 1:
        raise SliderError(f"At least one pair is needed, got {count}.")
    faces = sample_faces(2 * count, torch.Generator().manual_seed(seed))
    others = faces[count:] if unpaired else faces[:count]
    return [(at_extreme(p, attribute, 1), at_extreme(n, attribute, -1)) for p, n in zip(faces[:count], others, strict=True)]


def write_pairs(out: Path, pairs: Sequence[tuple[Face, Face]]) -> None:
    """`out`/positive and `out`/negative with numbered PNGs and captions, written whole or not at all.

    Raises SliderError when `out` exists and is not empty, or cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        raise SliderError(f"Folder is not empty: {out}. Choose a new one.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".demo-data-") as scratch:
            for side, name in enumerate(("positive", "negative")):
                folder = Path(scratch) / "data" / name
                folder.mkdir(parents=True)
                faces = [pair[side] for pair in pairs]
                for number, (face, image) in enumerate(zip(faces, render(faces), strict=True), 1):
                    to_pil(image).save(folder / f"{number:02}.png", optimize=True)
                    (folder / f"{number:02}.txt").write_text(face.caption + "\n", encoding="utf-8")
            if out.is_dir():
                out.rmdir()
            shutil.move(str(Path(scratch) / "data"), out)
    except OSError as fault:
        raise SliderError(f"Cannot write to {out} ({fault.strerror or fault}). Choose a folder that can be written.") from None


def check_writable(folder: Path, *names: str) -> None:
    """Fail before the work, not after it: SliderError when files of these names could not be put into `folder`. Leaves none."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        for name in names:
            name.encode()
            if (folder / name).is_dir():
                raise IsADirectoryError(f"{name} is a folder there")
    except (OSError, UnicodeEncodeError) as fault:
        raise SliderError(f"Cannot write to {folder} ({fault}). Choose another place or name.") from None


def as_json(found: Any, indent: int | None = None) -> str:
    """JSON as the standard has it: what could not be measured (NaN) is null."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    return json.dumps(plain(found), indent=indent, allow_nan=False)


def png(image: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def held_out_caption(seed: int) -> str:
    """The caption that goes with a held-out seed: every seed shows another skin and background."""
    return sample_faces(1, torch.Generator().manual_seed(90_000 + seed))[0].caption


def sampler(
    backend: TinyBackend, adapter: Adapter | None, spec: SweepSpec, told: Mapping[str, str]
) -> Callable[[Sequence[float], int], torch.Tensor]:
    """A sweep's sampler on the embedded model; without a prompt every seed has its own caption. Strengths are calibrated ones
    where the header `told` knows them."""

    def sample(strengths: Sequence[float], seed: int) -> torch.Tensor:
        cond = backend.encode_prompt(spec.prompt or held_out_caption(seed))
        own = [file_strength(strength, told) for strength in strengths]
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
    backend: TinyBackend, adapter: Adapter, spec: SweepSpec, told: Mapping[str, str] | None = None
) -> tuple[SweepResult, Curve]:
    """Sweep on the embedded model and measure it against the model without a slider. `told`: the slider's header."""
    result = sweep(spec, sampler(backend, adapter, spec, told or {}))
    bare = sampler(backend, None, spec, {})
    base = torch.cat([bare((0.0,), seed) for seed in spec.seeds])
    return result, measured_curve(result, base)


def draw_prompts(
    library: PromptLibrary,
    strength: float,
    backend: TinyBackend,
    slider: Slider,
    spec: SweepSpec,
    told: Mapping[str, str],
    out: Path,
) -> dict[str, Any]:
    """Each entry at its own strength, or at `strength`, for every seed: a PNG of each in `out`, with prompts.png and .json."""
    adapter, found = Adapter.from_weights(backend.module, slider.weights), {}
    check_writable(out, "prompts.png", "prompts.json")
    for seed in spec.seeds:

        def sample(entry: PromptEntry, strengths: Sequence[float], seed: int = seed) -> torch.Tensor:
            return sampler(backend, adapter, dataclasses.replace(spec, prompt=entry.prompt), told)(strengths, seed)

        drawn = sweep_library(library, (strength,), sample)
        found |= {(place, seed): images[0] for place, images in enumerate(drawn)}
    shown, files = sorted(found), []
    for place, seed in shown:
        plain = re.sub(r"[^\w-]+", "_", library.entries[place].name)[:60]
        files.append(f"{place + 1:03}_{plain}_seed{seed}.png")
        atomic_write(out / files[-1], png(to_pil(found[place, seed])), overwrite=True)
    names = [(f"{library.entries[place].name} {seed}", library.entries[place].at(strength)) for place, seed in shown]
    grid = draw_entries(torch.stack([found[key] for key in shown]), names, slider.metadata.get("slider_name", ""), 128)
    atomic_write(out / "prompts.png", png(grid), overwrite=True)
    report = {"entries": {e.name: {"prompt": e.prompt, "strength": e.at(strength)} for e in library.entries}, "images": files}
    atomic_write(out / "prompts.json", as_json(report, indent=1).encode(), overwrite=True)
    return report


def begin_tiny(
    backend: TinyBackend,
    name: str,
    dataset: Dataset,
    adapter_spec: AdapterSpec,
    spec: TrainSpec,
    start: Slider | None = None,
    saved: Path | None = None,
) -> Run:
    """A run on the embedded model, from nothing, from `start`, or as the file `saved` has it.

    SliderError when that was begun with something else.
    """
    fingerprint = {"model": backend.name, **origin(dataset), "adapter": adapter_spec.to_json()}
    if start is not None:
        fingerprint["start"] = tensor_hash(to_native(start.weights))[:16]

    def make() -> Trainer:
        if start is None:
            targets = survey_for(backend.module, adapter_spec).targets
            adapter = Adapter.create(backend.module, targets, adapter_spec, seed=spec.seed)
        else:
            adapter = Adapter.from_weights(backend.module, start.weights)
        return Trainer(adapter, encode_all(dataset, backend), spec)

    return Session().begin(name, fingerprint, make, adapter_spec, saved)


def train_tiny(
    backend: TinyBackend,
    name: str,
    dataset: Dataset,
    adapter_spec: AdapterSpec,
    spec: TrainSpec,
    on_step: Callable[[StepReport], None] | None = None,
    start: Slider | None = None,
    calibrating: bool = True,
) -> Run:
    """A trained slider for the embedded model, from nothing or from `start`, calibrated unless that is switched off."""
    run = begin_tiny(backend, name, dataset, adapter_spec, spec, start)
    run.trainer.run(backend, spec.steps, on_step)
    if calibrating:
        run.calibrate(backend)
    return run


def run_demo(out: Path, spec: TrainSpec, seeds: int, on_step: Callable[[StepReport], None] | None = None) -> dict[str, Any]:
    """Train a smile slider on the shipped pairs and prove it: slider.safetensors, strip.png, curve.png, report.json in `out`.

    Files of an earlier demo there are replaced. Returns the report.
    """
    check_writable(out, "slider.safetensors", "strip.png", "curve.png", "report.json")
    begun = time.monotonic()
    backend = TinyBackend()
    dataset = read_dataset(bucket_folders(SHIPPED_PAIRS))
    run = train_tiny(backend, "smile", dataset, AdapterSpec(), spec, on_step)
    trainer = run.trainer
    trained = time.monotonic()
    sweep_spec = SweepSpec(strengths=(-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0), seeds=tuple(range(seeds)))
    slider = run.slider()
    adapter = Adapter.from_weights(backend.module, slider.weights)
    result, curve = measured_sweep(backend, adapter, sweep_spec, slider.metadata)
    report = {
        "attribute": "mouth",
        "pairs": len(dataset.pairs),
        "steps": trainer.step,
        "objective": trainer.spec.objective.value,
        "gain": dict(zip(("positive", "negative"), trainer.readings[-1].gain, strict=True)),
        "verdict": run.verdict(),
        "calibration": run.calibrated,
        "effect": curve.effect("mouth"),
        "monotone": curve.monotone("mouth"),
        "seeds": seeds,
        "strengths": list(curve.strengths),
        "mean": curve.mean,
        "leak": curve.leak["mouth"],
        "kept": curve.kept,
        "train_seconds": round(trained - begun, 1),
        "seconds": round(time.monotonic() - begun, 1),
    }
    shown = [i for i, s in enumerate(curve.strengths) if s in (-2, -1, 0, 1, 2)]
    few = SweepResult(
        SweepSpec(tuple(curve.strengths[i] for i in shown), sweep_spec.seeds[:5]),
        result.images[:5][:, shown],
    )
    lines = {"mouth": curve.mean["mouth"], "leak (others)": curve.leak["mouth"]}
    pictures = {
        "strip.png": draw_strip(few.images, few.spec.strengths, few.names(), "smile slider, held-out seeds", cell=128),
        "curve.png": draw_curve(curve.strengths, lines, "smile slider: measured mouth and leak", "world units / std"),
    }
    told = {"slider_minus": "frown", "slider_plus": "smile", "modelspec.thumbnail": thumbnail(pictures["strip.png"])}
    save_slider(out / "slider.safetensors", dataclasses.replace(slider, metadata=slider.metadata | told), overwrite=True)
    for name, picture in pictures.items():
        atomic_write(out / name, png(picture), overwrite=True)
    atomic_write(out / "report.json", as_json(report, indent=1).encode(), overwrite=True)
    return report


def table(strengths: Sequence[float], mean: dict[str, list[float]], kept: dict[str, list[float]]) -> str:
    """A short text table: one row per strength."""
    names = list(mean)
    rows = ["strength " + "".join(f"{n:>9}" for n in names) + "".join(f"{n + ' kept':>16}" for n in kept)]
    for i, strength in enumerate(strengths):
        means, shares = "".join(f"{mean[n][i]:>9.2f}" for n in names), "".join(f"{kept[n][i]:>16.0%}" for n in kept)
        rows.append(f"{label(strength):>8} {means}{shares}")
    return "\n".join(rows)
