"""Dropout is for training alone, and a function of seed and step: computed again it is the same, and a pair is not torn by it."""

import contextlib
from collections import OrderedDict

import pytest
import torch
from core.nets import PLACES, VARIANTS, Net, images, live, make_net, randn, slider_on, trained
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.training import TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.checkpointing import checkpointed
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength, remember
from slider_core.train.trainer import Trainer
from slider_core.with_tiny.model import TinyBackend

SHARE, WIDTH, DRAWS, STEPS = 0.4, 64, 400, 3
HERE, ELSEWHERE = (7, "dropout 3"), (7, "dropout 4")
EVERY = [a.value for a in Algorithm]


@pytest.fixture
def net() -> Net:
    return make_net()


def dropping(name: str, net: Net, place: str = "one slice") -> Adapter:
    adapter = slider_on(net, VARIANTS[name], place)
    adapter.dropout = SHARE
    return adapter


def run(net: nn.Module, adapter: Adapter, x: torch.Tensor, strengths: list[float], where: tuple[int, str] | None) -> torch.Tensor:
    with torch.no_grad(), at_strength(adapter, net, strengths, where):
        return net(x)


@pytest.mark.parametrize("name", EVERY)
def test_a_step_draws_the_same_whenever_it_is_computed_and_another_step_another(net: Net, name: str) -> None:
    x, adapter = images(), dropping(name, net)
    state = torch.get_rng_state()
    one, same, other = (run(net, adapter, x, [1.0] * 3, where) for where in (HERE, HERE, ELSEWHERE))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not torch.equal(one, run(net, adapter, x, [1.0] * 3, (8, HERE[1])))


@pytest.mark.parametrize("name", EVERY)
def test_without_a_step_nothing_is_dropped(net: Net, name: str) -> None:
    """As sweeps, probes and the trial of a file attach a slider."""
    x, adapter = images(), dropping(name, net)
    plain = slider_on(net, VARIANTS[name], "one slice")
    assert torch.equal(live(net, adapter, x), live(net, plain, x))
    assert not torch.equal(run(net, adapter, x, [1.0] * 3, HERE), run(net, adapter, x, [1.0] * 3, None))


@pytest.mark.parametrize("name", EVERY)
def test_all_samples_of_a_batch_lose_the_same(net: Net, name: str) -> None:
    """A positive and its negative must differ by their images alone."""
    adapter, x = dropping(name, net), images(1)
    twice = run(net, adapter, x.repeat(2, 1, 1, 1), [1.0, 1.0], HERE)
    torch.testing.assert_close(twice[0], twice[1])
    torch.testing.assert_close(run(net, adapter, x, [1.0], HERE)[0], twice[0])


def test_the_two_signs_of_a_pair_lose_the_same(net: Net) -> None:
    single = nn.Sequential(OrderedDict(layer=nn.Linear(WIDTH, 8).requires_grad_(False)))
    adapter = trained(Adapter.create(single, [Target("layer")], AdapterSpec(dropout=SHARE)), single)
    x = randn(1, 5, WIDTH)
    plus, minus = run(single, adapter, x.repeat(2, 1, 1), [1.0, -1.0], HERE) - single(x)
    torch.testing.assert_close(plus, -minus)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_the_input_is_silent_and_the_mean_stays(share: float) -> None:
    net = nn.Sequential(OrderedDict(layer=nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False)))
    adapter = Adapter.create(net, [Target("layer")], AdapterSpec(algorithm="full", dropout=share))
    with torch.no_grad():
        adapter.parameters()[0].copy_(torch.eye(WIDTH))  # the change is what the adapter sees of its input
    x = torch.ones(1, 3, WIDTH)
    seen = torch.stack([run(net, adapter, x, [1.0], (0, f"dropout {n}")) - net(x) for n in range(DRAWS)])
    silent = (seen.abs() < 1e-5).float().mean()
    assert silent == pytest.approx(share, abs=0.02)
    torch.testing.assert_close(
        seen[seen.abs() > 1e-5], torch.full_like(seen[seen.abs() > 1e-5], 1 / (1 - share)), rtol=1e-4, atol=1e-4
    )
    assert seen.mean() == pytest.approx(1.0, abs=0.05)
    spread = (share / (1 - share) / DRAWS) ** 0.5  # of the mean of DRAWS draws
    assert (seen.mean(dim=0) - 1).abs().max() < 5 * spread, "each number is silent about as often"


def test_layers_lose_different_numbers() -> None:
    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False).requires_grad_(False) for _ in range(2)))
    for layer in net:
        layer.weight.zero_()
    adapter = Adapter.create(net, [Target("0"), Target("1")], AdapterSpec(algorithm="full", dropout=SHARE))
    with torch.no_grad():
        for p in adapter.parameters():
            p.copy_(torch.eye(WIDTH))
    out = run(net, adapter, torch.ones(1, WIDTH), [1.0], HERE)
    both = float((out == 0).float().mean())
    assert both == pytest.approx(1 - (1 - SHARE) ** 2, abs=0.2)
    assert both > SHARE


@pytest.mark.parametrize("name", EVERY)
def test_a_block_computed_twice_loses_the_same_and_has_the_same_gradient(backend: TinyBackend, name: str) -> None:
    spec = AdapterSpec(algorithm=name, dropout=SHARE)
    adapter = trained(Adapter.create(backend.module, select(backend.module), spec), backend.module)
    x, sigma = randn(2, 3, 64, 64), torch.full((2,), 500.0)
    context = backend.encode_prompt("a face").value.repeat(2, 1, 1)

    def gradient(twice: bool) -> list[torch.Tensor]:
        context_of_blocks = checkpointed(backend.module, adapter.factors, remember) if twice else contextlib.nullcontext()
        with context_of_blocks:
            with at_strength(adapter, backend.module, [1.0, -1.0], HERE):
                out = backend.module(x, sigma, context)
            return list(torch.autograd.grad(out.square().mean(), adapter.parameters()))

    for once, again in zip(gradient(False), gradient(True), strict=True):
        torch.testing.assert_close(again, once, rtol=1e-4, atol=1e-7)


def trained_for(backend: TinyBackend, samples: list[Sample], share: float, **options: object) -> Trainer:
    spec = AdapterSpec(dropout=share)
    trainer = Trainer(Adapter.create(backend.module, select(backend.module), spec), samples, TrainSpec(seed=2, **options))
    trainer.run(backend, STEPS)
    return trainer


def test_a_run_with_dropout_is_the_same_run_with_checkpointing(backend: TinyBackend, samples: list[Sample]) -> None:
    plain, twice = (trained_for(backend, samples, SHARE, checkpointing=on) for on in (False, True))
    assert plain.losses == pytest.approx(twice.losses, rel=1e-5)
    for p, q in zip(plain.adapter.parameters(), twice.adapter.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-3, atol=1e-6)


def test_dropout_acts_in_training_and_its_gain_is_read_without(backend: TinyBackend, samples: list[Sample]) -> None:
    dropped, whole = trained_for(backend, samples, SHARE), trained_for(backend, samples, 0.0)
    assert dropped.losses[0] == whole.losses[0], "silent at first"
    assert dropped.losses[1:] != whole.losses[1:]
    whole.adapter.load_state(dropped.adapter.state())
    assert dropped._probe.read(backend, dropped.adapter) == whole._probe.read(backend, whole.adapter)


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5, float("nan"), "0.5", True])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(SliderError, match="dropout must be from 0 to below 1"):
        AdapterSpec(dropout=share)


def test_every_place_can_be_dropped(net: Net) -> None:
    for place in PLACES:
        out = run(net, dropping("lora", net, place), images(), [1.0] * 3, HERE)
        assert bool(out.isfinite().all())
