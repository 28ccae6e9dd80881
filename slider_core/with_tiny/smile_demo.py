"""The demo, from pairs to proof: a smile slider trained on the shipped pairs, its sweep measured and drawn.

Units of the figures: a continuous attribute runs from -1 to 1 in the world; leak is in standard deviations of an attribute.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.lora import AdapterSpec
from ..config.sweep import SweepSpec
from ..config.training import TrainSpec
from ..data.dataset import bucket_folders, read_dataset
from ..lora.safe_files import atomic_write, check_writable
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import save_slider
from ..lora.thumbnail import thumbnail
from ..lora.useful_range import Span, useful_range
from ..train.training_run import Run
from ..train.trainings_driver import Observer, TrainingRequest, trained
from ..use.plot_curves import draw_curve
from ..use.plot_grids import Legend, draw_strip
from ..use.sweep import SweepResult
from ..use.sweep_export import as_json, png
from .faces_pairs import SHIPPED_PAIRS
from .model import TinyBackend
from .model_sweep import Curve, measured_sweep

STRENGTHS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)
IN_STRIP, STRIP_SEEDS = (-2.0, -1.0, 0.0, 1.0, 2.0), 5


def run_demo(out: Path, spec: TrainSpec, seeds: int, observer: Observer | None = None) -> dict[str, Any]:
    """Train a smile slider on the shipped pairs and prove it: slider.safetensors, strip.png, curve.png, report.json in `out`.

    Files of an earlier demo there are replaced. Returns the report.
    """
    check_writable(out, "slider.safetensors", "strip.png", "curve.png", "report.json")
    start = time.monotonic()
    backend = TinyBackend()
    dataset = read_dataset(bucket_folders(SHIPPED_PAIRS))
    run = trained(backend, TrainingRequest("smile", dataset, AdapterSpec(), spec), observer)
    train_seconds = time.monotonic() - start
    slider = run.slider()
    adapter = Adapter.from_weights(backend.module, slider.weights)
    result, curve = measured_sweep(backend, adapter, SweepSpec(STRENGTHS, tuple(range(seeds))), slider.info)
    report = {"attribute": "mouth", "pairs": len(dataset.pairs)} | _report(run, curve, seeds)
    report |= {"train_seconds": round(train_seconds, 1), "seconds": round(time.monotonic() - start, 1)}
    lines: dict[str, Sequence[float]] = {"mouth": curve.mean["mouth"], "leak (others)": curve.leak["mouth"]}
    useful = useful_range(slider.info)
    strip = _strip(result, useful)
    chart = draw_curve(curve.strengths, lines, "smile slider: measured mouth and leak", "world units / std", useful)
    info = dataclasses.replace(slider.info, minus="frown", plus="smile", thumbnail=thumbnail(strip))
    save_slider(out / "slider.safetensors", dataclasses.replace(slider, info=info), overwrite=True)
    atomic_write(out / "strip.png", png(strip), overwrite=True)
    atomic_write(out / "curve.png", png(chart), overwrite=True)
    atomic_write(out / "report.json", as_json(report, indent=1).encode(), overwrite=True)
    return report


def _report(run: Run, curve: Curve, seeds: int) -> dict[str, Any]:
    last = run.trainer.readings[-1]
    return {
        "steps": run.step,
        "objective": run.trainer.spec.objective.value,
        "explained": {"positive": last.positive, "negative": last.negative},
        "verdict": run.verdict(),
        "calibration": run.strength_note(),
        "effect": curve.effect("mouth"),
        "monotone": curve.monotone("mouth"),
        "seeds": seeds,
        "strengths": list(curve.strengths),
        "mean": curve.mean,
        "leak": curve.leak["mouth"],
        "kept": curve.kept,
    }


def _strip(result: SweepResult, useful: Span | None) -> Any:
    """A picture of some seeds at some of the strengths, those beyond the `useful` range marked."""
    columns = [result.spec.strengths.index(strength) for strength in IN_STRIP]
    part = SweepResult(SweepSpec(IN_STRIP, result.spec.seeds[:STRIP_SEEDS]), result.images[:STRIP_SEEDS][:, columns])
    return draw_strip(part.images, Legend(IN_STRIP, part.names(), "smile slider, held-out seeds", useful), cell=128)
