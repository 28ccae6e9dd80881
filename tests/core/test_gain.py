"""The early sign reads what it says: 0 for nothing, 1 for a perfect slider, below 0 for harm; and twice the same."""

import pytest
import torch

from slider_core.adapter import Adapter
from slider_core.backend import Conditioning
from slider_core.cache import Sample
from slider_core.config import AdapterSpec
from slider_core.gain import Probe
from slider_core.targets import Target, select
from slider_core.tiny import TinyBackend

SEED = 3
CONCEPT = torch.tensor([1.0, -2.0, 0.5])  # what the images differ by, one number per channel
SCALES = {"perfect": (1.0, 1.0), "half": (0.5, 0.75), "nothing": (0.0, 0.0), "reversed": (-1.0, -3.0), "twice": (2.0, 0.0)}


def noisy(adapter: Adapter) -> Adapter:
    with torch.no_grad():
        for part in adapter.parameters():
            part.copy_(0.1 * torch.randn(part.shape, generator=torch.Generator().manual_seed(1)))
    return adapter


@pytest.fixture
def fresh(backend: TinyBackend) -> Adapter:
    spec = AdapterSpec()
    return Adapter.create(backend.module, select(backend.module), spec)


def test_an_untrained_slider_has_exactly_no_gain(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    assert Probe(samples, SEED).read(backend, fresh) == (0.0, 0.0)


def test_two_readings_are_equal(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    probe, slider = Probe(samples, SEED), noisy(fresh)
    first = probe.read(backend, slider)
    torch.manual_seed(8)  # a probe has its own noise
    assert probe.read(backend, slider) == first == Probe(samples, SEED).read(backend, slider)
    assert Probe(samples, SEED + 1).read(backend, slider) != first
    assert 0.0 not in first


@pytest.mark.parametrize(("scale", "gain"), SCALES.values(), ids=SCALES)
def test_the_gain_is_the_explained_part_of_the_loss(linear_backend, scale: float, gain: float) -> None:
    model = linear_backend()
    model.module.mix.weight.data.zero_()
    model.add_noise = lambda latent, _noise, _sigma: torch.ones_like(latent)  # every input says the same,
    model.target = lambda latent, _noise, _sigma: latent  # and the answer is the image: +-CONCEPT
    flat = CONCEPT[:, None, None].expand(3, 4, 4)
    samples = [Sample(sign * flat, Conditioning("", None), sign, 0) for sign in (1.0, -1.0)]
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    with torch.no_grad():
        adapter.parameters()[0].copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        adapter.parameters()[1].copy_(scale * CONCEPT[:, None])
    assert Probe(samples, SEED).read(model, adapter) == pytest.approx((gain, gain), abs=1e-6)


def test_each_side_is_read_at_its_own_strength(linear_backend) -> None:
    model = linear_backend()
    model.module.mix.weight.data.zero_()
    model.add_noise = lambda latent, _noise, _sigma: torch.ones_like(latent)
    model.target = lambda latent, _noise, _sigma: latent
    flat = CONCEPT[:, None, None].expand(3, 4, 4)
    samples = [Sample(flat, Conditioning("", None), sign, 0) for sign in (1.0, -1.0)]  # both sides want +CONCEPT
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    with torch.no_grad():
        adapter.parameters()[0].copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        adapter.parameters()[1].copy_(CONCEPT[:, None])
    assert Probe(samples, SEED).read(model, adapter) == pytest.approx((1.0, -3.0), abs=1e-6)
