"""Sliders trained on the embedded world move their attribute both ways and hold the rest.

The oracle is the world's own measure on held-out seeds. Steps and learning rates are what each algorithm wants here: a full
difference moves fast, a LoKr's small factors slowly. docs/adapters.md has the figures. `make test` lets
each algorithm learn from a teacher, and trains one there (test_smile_demo.py); `make test-all` trains each of them on the world.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from core.nets import PLACES, VARIANTS, images, live, make_net, slider_on
from products import FULL

from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.sweep import SweepSpec
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import bucket_folders, read_dataset
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import load_slider, save_slider
from slider_core.lora.strength import at_strength
from slider_core.train.progress_verdict import Verdict, judge
from slider_core.train.trainings_driver import TrainingRequest, trained
from slider_core.with_tiny.faces_pairs import make_pairs, write_pairs
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.model_sweep import measured_sweep

STRENGTHS, SEEDS, SAMPLER_STEPS = (-1.0, 0.0, 1.0), tuple(range(8)), 12
SIDE = 0.1  # world units that each side moves the eyes at least; the least that was measured is 0.26


@dataclass(frozen=True)
class Training:
    spec: AdapterSpec
    lr: float
    steps: int = 150


TRAININGS = {
    "lora": Training(AdapterSpec(), 3e-3),
    "rslora": Training(AdapterSpec(algorithm="rslora"), 3e-3),
    "dora": Training(AdapterSpec(algorithm="dora"), 3e-3),
    "locon": Training(AdapterSpec(algorithm="locon"), 3e-3),
    "locon, tucker": Training(AdapterSpec(algorithm="locon", tucker=True), 3e-3),
    "loha": Training(AdapterSpec(algorithm="loha"), 8e-3),
    "lokr": Training(AdapterSpec(algorithm="lokr"), 2e-2),
    "lokr of the guide": Training(AdapterSpec(algorithm="lokr", alpha=1.0), 2e-2),
    "full": Training(AdapterSpec(algorithm="full"), 2e-4),
    "glora": Training(AdapterSpec(algorithm="glora"), 5e-4),
    "lora, dropout": Training(AdapterSpec(dropout=0.2), 3e-3),
}


@pytest.mark.skipif(not FULL, reason="make test-all")
@pytest.mark.parametrize("training", TRAININGS.values(), ids=TRAININGS)
def test_every_algorithm_moves_the_eyes_both_ways(backend: TinyBackend, training: Training, tmp_path: Path) -> None:
    write_pairs(tmp_path / "eyes", make_pairs("eyes", 6, seed=3))
    dataset, spec = read_dataset(bucket_folders(tmp_path / "eyes")), TrainSpec(steps=training.steps, lr=training.lr)
    run = trained(backend, TrainingRequest("eyes", dataset, training.spec, spec))
    assert judge(run.evidence()) is Verdict.WORKS
    slider = run.slider()
    assert slider.info.calibration.calibrated
    sweep = SweepSpec(strengths=STRENGTHS, seeds=SEEDS, steps=SAMPLER_STEPS)
    calibrated = Adapter.from_weights(backend.module, slider.weights)
    result, curve = measured_sweep(backend, calibrated, sweep, slider.info)
    low, zero, high = curve.mean["eyes"]
    assert min(zero - low, high - zero) > SIDE, curve.mean["eyes"]
    save_slider(tmp_path / "eyes.safetensors", slider)
    loaded = load_slider(tmp_path / "eyes.safetensors")
    again = Adapter.from_weights(backend.module, loaded.weights)
    first = SweepSpec(strengths=STRENGTHS, seeds=SEEDS[:1], steps=SAMPLER_STEPS)
    pictures = measured_sweep(backend, again, first, loaded.info)[0].images
    torch.testing.assert_close(pictures, result.images[:1], rtol=0, atol=2e-3)


def test_every_algorithm_learns_a_change_of_the_weights_at_both_signs() -> None:
    """The teacher is a LoRA at +1 and -1; which student comes how near is in no file, but all come nearer."""
    assert {training.spec.algorithm for training in TRAININGS.values()} == set(Algorithm)
    net, x, signs = make_net(), images(2), [1.0, -1.0]
    wanted = live(net, slider_on(net, VARIANTS["lora"]), x, signs)
    for name, training in TRAININGS.items():
        adapter = Adapter.create(net, PLACES["whole layers"], training.spec)
        optimizer, losses = torch.optim.Adam(adapter.parameters(), lr=5 * training.lr), []
        for _ in range(40):
            with at_strength(adapter, net, signs):
                loss = (net(x) - wanted).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert adapter.finite(), name
        assert losses[-1] < 0.6 * losses[0], (name, losses[0], losses[-1])
