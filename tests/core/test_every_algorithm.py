"""Every algorithm trains on the embedded world to a slider that moves its attribute both ways.

The oracle is the world's own measure on held-out seeds. Steps and learning rates are what each algorithm wants here: a full
difference moves fast, a LoKr's small factors slowly. docs/adapters.md has the figures.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.sweep import SweepSpec
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import Dataset, bucket_folders, read_dataset
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import load_slider, save_slider
from slider_core.train.trainings_driver import TrainingRequest, trained
from slider_core.with_tiny.faces_pairs import make_pairs, write_pairs
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.model_sweep import measured_sweep

PAIRS, SEEDS, STRENGTHS, SAMPLER_STEPS = 6, tuple(range(8)), (-1.0, 0.0, 1.0), 12
SIDE = 0.1  # world units that each side moves the eyes at least; the least that was measured is 0.26


@dataclass(frozen=True)
class Way:
    spec: AdapterSpec
    lr: float
    steps: int = 150


WAYS = {
    "lora": Way(AdapterSpec(), 3e-3),
    "rslora": Way(AdapterSpec(algorithm="rslora"), 3e-3),
    "dora": Way(AdapterSpec(algorithm="dora"), 3e-3),
    "locon": Way(AdapterSpec(algorithm="locon"), 3e-3),
    "locon, tucker": Way(AdapterSpec(algorithm="locon", tucker=True), 3e-3),
    "loha": Way(AdapterSpec(algorithm="loha"), 8e-3),
    "lokr": Way(AdapterSpec(algorithm="lokr"), 2e-2),
    "lokr of the guide": Way(AdapterSpec(algorithm="lokr", alpha=1.0), 2e-2),
    "full": Way(AdapterSpec(algorithm="full"), 2e-4),
    "glora": Way(AdapterSpec(algorithm="glora"), 5e-4),
    "lora, dropout": Way(AdapterSpec(dropout=0.2), 3e-3),
}


@pytest.fixture(scope="module")
def eyes(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("data") / "eyes"
    write_pairs(folder, make_pairs("eyes", PAIRS, seed=3))
    return read_dataset(bucket_folders(folder))


def test_every_algorithm_has_a_way() -> None:
    assert {way.spec.algorithm for way in WAYS.values()} == set(Algorithm)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_it_trains_to_a_slider_that_moves_the_eyes_both_ways(
    backend: TinyBackend, eyes: Dataset, way: Way, tmp_path: Path
) -> None:
    run = trained(backend, TrainingRequest("eyes", eyes, way.spec, TrainSpec(steps=way.steps, lr=way.lr)))
    adapter = run.trainer.adapter
    assert adapter.finite()
    assert all(bool(t.isfinite().all()) for w in adapter.weights().values() for t in w.tensors.values())
    assert run.verdict() == "Works on both sides."
    slider = run.slider()
    assert slider.info.calibration.calibrated
    sweep = SweepSpec(strengths=STRENGTHS, seeds=SEEDS, steps=SAMPLER_STEPS)
    calibrated = Adapter.from_weights(backend.module, slider.weights)
    result, curve = measured_sweep(backend, calibrated, sweep, slider.info)
    low, zero, high = curve.mean["eyes"]
    assert curve.monotone("eyes"), curve.mean["eyes"]
    assert min(zero - low, high - zero) > SIDE, curve.mean["eyes"]
    save_slider(tmp_path / "eyes.safetensors", slider)
    loaded = load_slider(tmp_path / "eyes.safetensors")
    again = Adapter.from_weights(backend.module, loaded.weights)
    first = SweepSpec(strengths=STRENGTHS, seeds=SEEDS[:1], steps=SAMPLER_STEPS)
    pictures = measured_sweep(backend, again, first, loaded.info)[0].images
    torch.testing.assert_close(pictures, result.images[:1], rtol=0, atol=2e-3)
