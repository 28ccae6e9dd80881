"""The embedded world put to work: pairs for any attribute, measured sweeps, and the demo from pairs to proof.

Units of the figures: a continuous attribute runs from -1 to 1 in the world; leak is in standard deviations of an attribute.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config.lora import AdapterSpec
from ..config.sweep import SweepSpec
from ..config.training import TrainSpec
from ..data.dataset import Dataset, bucket_folders, origin, read_dataset
from ..encode.text_latents import encode_all
from ..layers.select import survey
from ..lora.formats import to_native
from ..lora.safe_files import atomic_write, check_writable
from ..lora.safetensors_file import tensor_hash
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider, save_slider
from ..lora.thumbnail import thumbnail
from ..train.trainer import StepReport, Trainer
from ..train.training_run import Run
from ..train.trainings import Session
from ..use.plot_curves import draw_curve
from ..use.plot_grids import draw_strip
from ..use.sweep import SweepResult
from ..use.sweep_export import as_json, png
from .faces_pairs import SHIPPED_PAIRS
from .model import TinyBackend
from .model_sweep import measured_sweep


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
            targets = survey(backend.module, adapter_spec).targets
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
    result, curve = measured_sweep(backend, adapter, sweep_spec, slider.info)
    report = {
        "attribute": "mouth",
        "pairs": len(dataset.pairs),
        "steps": trainer.step,
        "objective": trainer.spec.objective.value,
        "explained": dict(zip(("positive", "negative"), trainer.readings[-1].explained, strict=True)),
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
    info = dataclasses.replace(slider.info, minus="frown", plus="smile", thumbnail=thumbnail(pictures["strip.png"]))
    save_slider(out / "slider.safetensors", dataclasses.replace(slider, info=info), overwrite=True)
    for name, picture in pictures.items():
        atomic_write(out / name, png(picture), overwrite=True)
    atomic_write(out / "report.json", as_json(report, indent=1).encode(), overwrite=True)
    return report
