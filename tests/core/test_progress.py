"""Progress reads what it says: 0 for nothing, 1 for all that is wanted, below 0 for harm; and twice the same."""

from dataclasses import replace

import pytest
import torch

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Timesteps, TrainSpec
from slider_core.encode.encoder import PromptPair, Sample
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.displacement import Wanted, wanted_of
from slider_core.train.progress import Probe, Reading, _moved, read_levels
from slider_core.with_tiny.model import TinyBackend

SEED = 3
CONCEPT = torch.tensor([1.0, -2.0, 0.5])  # what the images differ by, one number per channel
SCALES = {  # of the slider against the images -> learned share, best strength
    "perfect": (1.0, 1.0, 1.0),
    "half": (0.5, 0.75, 2.0),
    "reversed": (-1.0, -3.0, 0.0),
    "twice": (2.0, 0.0, 0.5),
}


def noisy(adapter: Adapter) -> Adapter:
    with torch.no_grad():
        for part in adapter.parameters():
            part.copy_(0.1 * torch.randn(part.shape, generator=torch.Generator().manual_seed(1)))
    return adapter


@pytest.fixture
def fresh(backend: TinyBackend) -> Adapter:
    return Adapter.create(backend.module, select(backend.module), AdapterSpec())


def constant_model(linear_backend, scale: float):
    """A model that answers nothing, on an input that says nothing; its slider answers `scale` times the concept."""
    model = linear_backend()
    model.module.mix.weight.data.zero_()
    model.add_noise = lambda latent, _noise, _sigma: torch.ones_like(latent)
    model.target = lambda latent, _noise, _sigma: latent  # the answer is the image
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0))
    with torch.no_grad():
        adapter.parameters()[0].copy_(torch.tensor([[1.0, 0.0, 0.0]]))
        adapter.parameters()[1].copy_(scale * CONCEPT[:, None])
    return model, adapter


def test_an_untrained_slider_has_learned_exactly_nothing(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    assert Probe(samples, SEED).read(backend, fresh) == Reading(0, 0.0, 0.0)


def test_a_distilled_model_is_read_where_it_is_trained(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    assert read_levels(TrainSpec(few_steps=1)) == (0.75, 0.9)  # not trained at the few steps' levels
    for steps, levels in ((1, (0.999,)), (4, (0.75, 0.999)), (8, (0.75, 0.875))):
        spec = TrainSpec(timesteps=Timesteps.FEW_STEP, few_steps=steps)
        assert read_levels(spec) == levels
        reading = Probe(samples, SEED, levels=levels).read(backend, noisy(fresh))
        assert 0.0 not in (*reading.explained, reading.symmetric, reading.shifted)


def test_two_readings_are_equal(backend: TinyBackend, samples: list[Sample], fresh: Adapter) -> None:
    probe, slider = Probe(samples, SEED), noisy(fresh)
    first = probe.read(backend, slider)
    torch.manual_seed(8)  # a probe has its own noise
    assert probe.read(backend, slider) == first == Probe(samples, SEED).read(backend, slider)
    assert Probe(samples, SEED + 1).read(backend, slider) != first
    assert 0.0 not in (*first.explained, first.symmetric, first.shifted)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize(("scale", "share", "strength"), SCALES.values(), ids=SCALES)
def test_the_learned_share_is_that_of_what_is_wanted(linear_backend, scale, share, strength, aligned: bool) -> None:
    model, adapter = constant_model(linear_backend, scale)
    flat = CONCEPT[:, None, None].expand(3, 4, 4)
    samples = [Sample(sign * flat, Conditioning("", None), sign, 0, aligned=aligned) for sign in (1.0, -1.0)]
    reading = Probe(samples, SEED).read(model, adapter)
    assert reading.explained == pytest.approx((share, share), abs=1e-6)
    assert reading.strength == pytest.approx(strength, abs=1e-6)
    assert reading.reach == pytest.approx(1.0 if strength else 0.0, abs=1e-6)


def test_each_side_is_read_at_its_own_strength(linear_backend) -> None:
    model, adapter = constant_model(linear_backend, 1.0)
    flat = CONCEPT[:, None, None].expand(3, 4, 4)
    samples = [Sample(flat, Conditioning("", None), sign, None) for sign in (1.0, -1.0)]  # both sides want +CONCEPT
    assert Probe(samples, SEED).read(model, adapter).explained == pytest.approx((1.0, -3.0), abs=1e-6)


def test_pairs_that_do_not_differ_want_nothing(linear_backend, make_samples) -> None:
    samples = [replace(sample, latent=make_samples(1)[0].latent) for sample in make_samples(2)]
    model = linear_backend()
    adapter = noisy(Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=1, alpha=1.0)))
    assert Probe(samples, SEED).read(model, adapter).explained == (0.0, 0.0)


@pytest.mark.parametrize(("squared", "symmetric"), [(False, 0.0), (True, 0.25)])
def test_the_symmetric_part_is_what_both_ends_share(linear_backend, make_samples, squared: bool, symmetric: float) -> None:
    """y = W x has an odd displacement. y = (W x)^2 with W = 2 D has (D x)^2 at both ends and 4 (D x)^2 with the sign."""
    model = linear_backend(symmetric=squared)
    adapter = noisy(Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0)))
    model.module.mix.weight.data = 2 * adapter.weights()[Target("mix")].delta()
    assert Probe(make_samples(3), SEED).read(model, adapter).symmetric == pytest.approx(symmetric, abs=1e-3)


def test_masks_are_shifted_with_their_images(make_samples) -> None:
    sample = replace(make_samples(1)[0], mask=make_samples(1)[0].latent[:1])
    assert not torch.equal(_moved(sample, 0.0).latent, sample.latent), "by one place at least"
    assert torch.equal(_moved(sample, 0.0).mask, _moved(sample, 0.0).latent[:1])


def test_what_is_wanted_is_known_by_the_samples(make_samples) -> None:
    pairs = make_samples(2)
    nothing = Conditioning("", None)
    assert wanted_of(pairs) is Wanted.PAIRS
    assert wanted_of([replace(sample, aligned=False) for sample in pairs]) is Wanted.IMAGES
    assert wanted_of([replace(sample, pair=None) for sample in pairs]) is Wanted.IMAGES
    assert wanted_of([replace(s, prompt_pair=PromptPair(nothing, nothing, 1.0, 1.0)) for s in pairs]) is Wanted.PROMPTS
