"""The whole way on the embedded model: pairs in, a slider out that moves its attribute both ways and holds the rest.

The oracle is the world's own measure on held-out seeds; thresholds are well inside what docs/benchmarks.md records.
"""

import json
from pathlib import Path

from PIL import Image

from slider_core.config.sweep import SweepSpec
from slider_core.config.training import TrainSpec
from slider_core.lora.slider_file import load_slider
from slider_core.train.calibration_search import calibrate
from slider_core.train.training_run import Run
from slider_core.with_tiny import smile_demo
from slider_core.with_tiny.faces_pairs import make_pairs, write_pairs
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.model_sweep import measured_sweep

SHOWN, SEEDS = (-1.0, 0.0, 1.0), tuple(range(6))


def test_the_smile_slider_moves_the_mouth_both_ways_and_keeps_the_classes(backend: TinyBackend, smile_run: Run) -> None:
    curve = measured_sweep(backend, smile_run.trainer.adapter, SweepSpec(strengths=SHOWN, seeds=SEEDS))[1]
    line = dict(zip(SHOWN, curve.mean["mouth"], strict=True))
    assert curve.monotone("mouth"), line
    assert line[1.0] > line[0.0] + 0.04, line
    assert line[-1.0] < line[0.0] - 0.04, line
    assert abs(curve.effect("mouth")) > abs(curve.effect("eyes")), "the named attribute moves most"
    assert min(curve.kept["skin"]) == min(curve.kept["background"]) == 1.0


def test_two_noises_agree_within_a_fifth(backend: TinyBackend, smile_run: Run) -> None:
    """A slider that was trained explains its images at one strength: that of its run, and what other noise says of some."""
    trainer = smile_run.trainer
    some = [sample for sample in trainer.samples if sample.pair < 4]
    units = smile_run.measured[1].unit, calibrate(backend, trainer.adapter, some, seed=1).unit
    assert max(units) / min(units) < 1.2


def test_the_demo_writes_what_it_reports(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(smile_demo, "SHIPPED_PAIRS", tmp_path / "pairs")
    write_pairs(tmp_path / "pairs", make_pairs("mouth", 1, seed=0))
    report = smile_demo.run_demo(tmp_path, TrainSpec(steps=2), seeds=1)
    assert json.loads((tmp_path / "report.json").read_text()) == report
    assert (report["steps"], report["strengths"], len(report["mean"]["mouth"])) == (
        2,
        list(smile_demo.STRENGTHS),
        len(smile_demo.STRENGTHS),
    )
    info = load_slider(tmp_path / "slider.safetensors").info
    assert (info.name, info.minus, info.plus, info.step) == ("smile", "frown", "smile", 2)
    for name in ("strip.png", "curve.png"):
        assert Image.open(tmp_path / name).size[0] > 300
