"""The whole way on the embedded model: pairs in, a slider out that moves its attribute both ways and holds the rest.

The oracle is the world's own measure on held-out seeds; thresholds are well inside what docs/benchmarks.md records.
"""

from pathlib import Path

import pytest

from slider_core.config.lora import AdapterSpec
from slider_core.config.sweep import SweepSpec
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.train.trainings_driver import TrainingRequest, trained
from slider_core.with_tiny.faces_pairs import SHIPPED_PAIRS, make_pairs, write_pairs
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.model_sweep import Curve, measured_sweep

STRENGTHS, SEEDS = (-1.0, -0.5, 0.0, 0.5, 1.0), tuple(range(12))


def trained_curve(backend: TinyBackend, folder: Path, seed: int) -> Curve:
    run = trained(backend, TrainingRequest("test", read_dataset(bucket_folders(folder)), AdapterSpec(), TrainSpec(seed=seed)))
    return measured_sweep(backend, run.trainer.adapter, SweepSpec(strengths=STRENGTHS, seeds=SEEDS))[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_smile_slider_moves_the_mouth_both_ways_and_keeps_the_classes(seed: int, backend: TinyBackend) -> None:
    curve = trained_curve(backend, SHIPPED_PAIRS, seed)
    line = dict(zip(STRENGTHS, curve.mean["mouth"], strict=True))
    assert curve.monotone("mouth"), line
    assert line[1.0] > line[0.0] + 0.08, line
    assert line[-1.0] < line[0.0] - 0.08, line
    assert min(curve.kept["skin"]) == min(curve.kept["background"]) == 1.0


def test_another_attribute_of_the_world_slides_too(backend: TinyBackend, tmp_path: Path) -> None:
    write_pairs(tmp_path / "eyes", make_pairs("eyes", 6, seed=3))
    curve = trained_curve(backend, tmp_path / "eyes", seed=0)
    assert curve.monotone("eyes"), curve.mean["eyes"]
    assert curve.effect("eyes") > abs(curve.effect("mouth")), "the named attribute moves most"
