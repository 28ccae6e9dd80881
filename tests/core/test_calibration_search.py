"""Calibration finds strengths that are known beforehand, on a model whose best strength can be calculated."""

from dataclasses import replace

import pytest
import torch
from core.faults import refused

from slider_core.backend import Conditioning
from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.calibration import Units
from slider_core.lora.info import SliderInfo
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.calibration import Calibration, Side, calibrated
from slider_core.train.calibration_search import calibrate
from slider_core.with_tiny.model import TinyBackend

CONCEPT = torch.tensor([1.0, -2.0, 0.5])
SIDES = {"strong": (0.04, 0.04), "uneven": (1.5, 0.6), "very_weak": (40.0, 20.0)}


def slider(backend, plus: float, minus: float) -> tuple[Adapter, list[Sample]]:
    """A model that answers with the slider's strength times CONCEPT, and images for which +plus and -minus are right."""
    backend.module.mix.weight.data.zero_()
    backend.add_noise = lambda latent, _noise, _sigma: torch.ones_like(latent)
    backend.target = lambda latent, _noise, _sigma: latent
    flat = CONCEPT[:, None, None].expand(3, 4, 4)
    samples = [
        Sample(side * flat, Conditioning("", None), sign, 0, aligned=False) for side, sign in ((plus, 1.0), (-minus, -1.0))
    ]
    adapter = Adapter.create(backend.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    with torch.no_grad():
        adapter.parameters()[0].copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        adapter.parameters()[1].copy_(CONCEPT[:, None])
    return adapter, samples


@pytest.mark.parametrize(("plus", "minus"), SIDES.values(), ids=SIDES)
def test_it_finds_the_strength_of_each_side(linear_backend, plus: float, minus: float) -> None:
    model = linear_backend()
    adapter, samples = slider(model, plus, minus)
    passes: list[tuple[int, int]] = []
    found = calibrate(model, adapter, samples, on_pass=lambda *pass_of: passes.append(pass_of))
    assert [done for done, _ in passes] == list(range(1, found.passes + 1))
    assert passes[-1] == (found.passes, found.passes), "done, and of how many: more are expected where more strengths are tried"
    assert all(done <= expected <= found.passes for done, expected in passes)
    assert (found.plus.best, found.minus.best) == pytest.approx((plus, minus), rel=1e-3)
    assert (found.plus.end, found.minus.end) == pytest.approx(
        (2 * plus, 2 * minus), rel=0.15
    )  # a parabola meets 0 again at twice
    assert found.plus.explained == pytest.approx(1, abs=0.07)
    assert found.unit == pytest.approx((plus * minus) ** 0.5, rel=1e-3)
    assert found.asymmetry == pytest.approx(max(plus, minus) / min(plus, minus), rel=1e-3)
    one_way = calibrate(model, adapter, samples, one_way=True)
    assert (one_way.plus, one_way.minus, one_way.unit) == (found.plus, None, found.plus.best)


def test_a_side_that_nothing_explains_is_left_out(linear_backend) -> None:
    model = linear_backend()
    adapter, samples = slider(model, 1.0, -1.0)  # both sides want +CONCEPT
    found = calibrate(model, adapter, samples)
    assert found.minus is None
    assert found.asymmetry is None
    assert found.unit == pytest.approx(1)
    assert "Only the plus side" in found.summary()
    _, info = calibrated(adapter.weights(), SliderInfo(), found)
    assert info.calibration.unit == pytest.approx(1.0)


def test_a_slider_without_effect_is_not_calibrated(linear_backend) -> None:
    model = linear_backend()
    adapter, samples = slider(model, 1.0, 1.0)
    with torch.no_grad():
        adapter.parameters()[1].zero_()
    found = calibrate(model, adapter, samples)
    assert (found.plus, found.minus, found.unit) == (None, None, 1.0)
    assert found.summary().startswith("Not calibrated")
    weights, info = calibrated(adapter.weights(), SliderInfo(range=(-1.0, 1.0)), found)
    assert info.calibration.calibrated is False
    assert info.range == (-1.0, 1.0)
    assert weights.keys() == adapter.weights().keys()


def test_the_file_says_the_same_in_its_own_strengths(linear_backend) -> None:
    """After rescaling, 1 of the calibrated slider is the unit that was found, for any loader, on both sides."""
    model = linear_backend()
    adapter, samples = slider(model, 1.5, 0.6)
    found = calibrate(model, adapter, samples)
    weights, info = calibrated(adapter.weights(), SliderInfo(name="x"), found)
    assert info.name == "x"
    assert info.calibration.asymmetry == pytest.approx(1.5 / 0.6, rel=1e-3)
    for strength in (1.0, -1.0, 2.0, 0.0):
        before = strength * (1.5 * 0.6) ** 0.5 * adapter.weights()[Target("mix")].delta()
        after = info.lora_weight(strength) * weights[Target("mix")].delta()
        assert torch.allclose(after, before, rtol=1e-3, atol=1e-6)
        assert info.lora_weight(strength, Units.RAW) == strength
    again = calibrate(model, Adapter.from_weights(model.module, weights), samples)
    assert again.unit == pytest.approx(1, rel=1e-3)
    assert info.range == pytest.approx((-found.minus.end / found.unit, found.plus.end / found.unit), abs=1e-3)


def test_a_dora_is_told_in_the_header_alone(backend: TinyBackend, samples: list[Sample]) -> None:
    adapter = Adapter.create(backend.module, select(backend.module), AdapterSpec(algorithm=Algorithm.DORA))
    adapter.read_base(backend.module)
    weights = adapter.weights()
    with pytest.raises(SliderError):
        next(iter(weights.values())).scaled(2.0)
    side = Side(best=1.7, end=3.0, curve=((1.7, 0.1),))
    found = Calibration(side, replace(side, best=0.8), passes=1)
    kept, info = calibrated(weights, SliderInfo(), found)
    assert info.lora_weight(-2.0) == pytest.approx(-2 * (1.7 * 0.8) ** 0.5)
    assert info.lora_weight(-2.0, Units.RAW) == -2.0
    assert info.range == pytest.approx((-3.0 / (1.7 * 0.8) ** 0.5, 3.0 / (1.7 * 0.8) ** 0.5), abs=1e-3), "in those strengths too"
    assert all(torch.equal(kept[t].tensors["lora_up.weight"], w.tensors["lora_up.weight"]) for t, w in weights.items())


def test_every_other_change_can_be_rescaled(backend: TinyBackend) -> None:
    for algorithm in (a for a in Algorithm if a not in (Algorithm.DORA, Algorithm.GLORA)):
        spec = AdapterSpec(algorithm=algorithm, full_matrix=algorithm is Algorithm.LOKR)
        adapter = Adapter.create(backend.module, select(backend.module)[:6], spec)
        with torch.no_grad():
            for number, p in enumerate(adapter.parameters()):
                p.copy_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
        for weight in adapter.weights().values():
            assert torch.allclose(weight.scaled(0.3).delta(), 0.3 * weight.delta(), rtol=1e-4, atol=1e-6)


def test_one_side_alone_cannot_be_calibrated(linear_backend) -> None:
    model = linear_backend()
    adapter, samples = slider(model, 1.0, 1.0)
    with refused("calibration.one_side", "negative"):
        calibrate(model, adapter, [s for s in samples if s.strength > 0] + [replace(samples[0], pair=None)])
    with torch.no_grad():
        adapter.parameters()[0].fill_(torch.nan)
    with refused("calibration.not_finite"):
        calibrate(model, adapter, samples)
