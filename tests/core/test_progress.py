"""Progress reads what it says: 0 for nothing, 1 for a perfect slider, below 0 for harm; and twice the same."""

from dataclasses import replace

import pytest
import torch

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import attachments
from slider_core.train.progress import MIDDLE, Probe, Reading
from slider_core.with_tiny.model import TinyBackend

SEED = 3
CONCEPT = torch.tensor([1.0, -2.0, 0.5])  # what the images differ by, one number per channel
SCALES = {"perfect": (1.0, 1.0), "half": (0.5, 0.75), "reversed": (-1.0, -3.0), "twice": (2.0, 0.0)}


def noisy(adapter: Adapter) -> Adapter:
    with torch.no_grad():
        for part in adapter.parameters():
            part.copy_(0.1 * torch.randn(part.shape, generator=torch.Generator().manual_seed(1)))
    return adapter


@pytest.fixture
def fresh(backend: TinyBackend) -> Adapter:
    spec = AdapterSpec()
    return Adapter.create(backend.module, select(backend.module), spec)


def test_an_untrained_slider_explains_exactly_nothing(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    assert Probe(samples, SEED).read(backend, fresh) == Reading(0, 0.0, 0.0, 0.0, 0.0)


def test_two_readings_are_equal(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    probe, slider = Probe(samples, SEED), noisy(fresh)
    first = probe.read(backend, slider)
    torch.manual_seed(8)  # a probe has its own noise
    assert probe.read(backend, slider) == first == Probe(samples, SEED).read(backend, slider)
    assert Probe(samples, SEED + 1).read(backend, slider) != first
    assert 0.0 not in (*first.explained, first.symmetric, first.shifted)


@pytest.mark.parametrize(("scale", "explained"), SCALES.values(), ids=SCALES)
def test_the_explained_share_is_that_of_the_loss(linear_backend, scale: float, explained: float) -> None:
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
    assert Probe(samples, SEED).read(model, adapter).explained == pytest.approx((explained, explained), abs=1e-6)


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
    assert Probe(samples, SEED).read(model, adapter).explained == pytest.approx((1.0, -3.0), abs=1e-6)


@pytest.mark.parametrize(("squared", "symmetric"), [(False, 0.0), (True, 0.25)])
def test_the_symmetric_part_is_what_both_ends_share(linear_backend, make_samples, squared: bool, symmetric: float) -> None:
    """y = W x has an odd displacement. y = (W x)^2 with W = 2 D has (D x)^2 at both ends and 4 (D x)^2 with the sign."""
    model = linear_backend(symmetric=squared)
    adapter = noisy(Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0)))
    model.module.mix.weight.data = 2 * adapter.weights()[Target("mix")].delta()
    assert Probe(make_samples(3), SEED).read(model, adapter).symmetric == pytest.approx(symmetric, abs=1e-3)


def test_masks_are_shifted_with_their_images(linear_backend, make_samples) -> None:
    samples = [replace(sample, mask=sample.latent[:1]) for sample in make_samples(2)]
    batch = Probe(samples, SEED)._batch(linear_backend(), 0, MIDDLE, shift=True)
    assert not torch.equal(batch.latent[0], samples[0].latent)
    for latent, mask in zip(batch.latent, batch.masks, strict=True):
        assert torch.equal(mask, latent[:1])


def test_an_overfitted_slider_explains_nothing_of_shifted_images(linear_backend, make_samples) -> None:
    """The answer is looked up: right for the very noised images, nothing for any other."""
    model = linear_backend()
    samples, known = make_samples(2), {}
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    add_noise, probe = model.add_noise, Probe(samples, SEED)

    def remember(latent, noise, sigma):
        x = add_noise(latent, noise, sigma)
        for clean, row, one in zip(latent, x, noise, strict=True):
            if any(torch.equal(clean, s.latent) for s in samples):
                known[row.numpy().tobytes()] = one - clean
        return x

    def predict(x, _sigma, _cond):
        active = any(a.rows is not None for a in attachments(model.module))
        return torch.stack([known.get(r.numpy().tobytes(), 0 * r) if active else 0 * r for r in x])

    model.add_noise, model.predict = remember, predict
    found = probe.read(model, adapter)
    assert found.explained == pytest.approx((1.0, 1.0))
    assert found.shifted == pytest.approx(0.0)
