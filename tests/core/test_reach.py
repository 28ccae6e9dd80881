"""Hosts that read weights past the hooks, keep keys and values, or call a layer in a way of their own: noticed, and right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec
from slider_core.layers import caches, reach
from slider_core.layers.layer import Target
from slider_core.layers.past_reads import Reads
from slider_core.layers.sample_rows import samples_apart
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength

PATHS = ("first", "read", "last", "idle")
SAME = 1e-4

# how the model computes its middle layer
HOSTS: dict[str, Callable[[nn.Linear, torch.Tensor], torch.Tensor]] = {
    "calls": lambda layer, x: layer(x),
    "functional": lambda layer, x: functional.linear(x, layer.weight, layer.bias),
    "named": lambda layer, x: functional.linear(input=x, weight=layer.weight.to(x), bias=layer.bias),
    "forward": lambda layer, x: layer.forward(x),
    "product": lambda layer, x: x @ layer.weight.t() + layer.bias,
    "addmm": lambda layer, x: torch.addmm(layer.bias, x.flatten(0, 1), layer.weight.mT).reshape(*x.shape[:-1], -1),
    "kernel": lambda layer, x: torch.from_numpy(x.detach().numpy() @ layer.weight.detach().numpy().T) + layer.bias,
    "half": lambda layer, x: torch.cat([layer(x[:1]), functional.linear(x[1:], layer.weight, layer.bias)]),
}
TOGETHER = ("calls", "functional", "named", "forward")  # with a strength for each row


class Host(nn.Module):
    def __init__(self, compute: Callable[[nn.Linear, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.first, self.read, self.last, self.idle = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(3, 3)
        self.compute, self.calls = compute, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        assert self.idle.weight.dtype is x.dtype  # looked at, and not computed with
        return self.last(self.compute(self.read, functional.gelu(self.first(x))))


def host(compute: Callable[[nn.Linear, torch.Tensor], torch.Tensor]) -> Host:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Host(compute).requires_grad_(False)


@pytest.fixture
def slider() -> Adapter:
    adapter = Adapter.create(host(HOSTS["calls"]), [Target(path) for path in PATHS], AdapterSpec(rank=2, alpha=2.0))
    generator = torch.Generator().manual_seed(1)
    for parameter in adapter.parameters():
        parameter.data.normal_(generator=generator)
    return adapter


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("way", HOSTS)
@pytest.mark.parametrize("strengths", [(1.0, -1.0), (0.7, 0.7)])
def test_a_weight_that_is_read_past_the_layer_is_reached(way: str, strengths: tuple, slider: Adapter, x: torch.Tensor) -> None:
    honest, other = host(HOSTS["calls"]), host(HOSTS[way])
    with at_strength(slider, honest, strengths):
        wanted = honest(x)
    if way not in TOGETHER and len(set(strengths)) > 1:
        with at_strength(slider, other, strengths), pytest.raises(SliderError) as refused:
            other(x)
        assert refused.value.code == "rows.layer"
        return
    with at_strength(slider, other, strengths):
        other(x)
        before = other.calls
        answer = other(x)
    assert torch.allclose(answer, wanted, rtol=SAME, atol=SAME)
    assert other.calls == before + 1, "once known, nothing is tried again"
    assert ('"read"' in reach.note(other)) is (way != "calls")
    assert "idle" not in reach.note(other) or way == "kernel"
    if way == "kernel":
        return  # has no gradient of its own either
    ours, theirs = (torch.autograd.grad(out.square().sum(), slider.parameters(), allow_unused=True) for out in (answer, wanted))
    for one, another in zip(ours, theirs, strict=True):
        assert (one is None) == (another is None)
        assert one is None or torch.allclose(one, another, rtol=SAME)
    assert torch.allclose(other(x), honest(x), rtol=SAME), "nothing stays"
    assert type(other.read.weight) is nn.Parameter


def test_a_host_that_takes_one_strength_only_is_found_out_by_the_trial(x: torch.Tensor) -> None:
    for way in HOSTS:
        model = host(HOSTS[way])
        assert samples_apart(model, PATHS[:3], lambda rows, model=model: model(x[rows])) is (way in TOGETHER), way


def test_the_hosts_own_plain_way_is_taken_first(slider: Adapter, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = []

    @contextmanager
    def switch() -> Iterator[None]:
        plain.append(True)
        yield
        plain.pop()

    def compute(layer: nn.Linear, h: torch.Tensor) -> torch.Tensor:
        return layer(h) if plain else functional.linear(h, layer.weight, layer.bias)

    monkeypatch.setattr(reach, "PLAIN", [switch])
    model, honest = host(compute), host(HOSTS["calls"])
    with at_strength(slider, honest, [1.0, -1.0]), at_strength(slider, model, [1.0, -1.0]):
        assert torch.equal(model(x), honest(x))
    ways = reach.ways_of(model)
    assert ways.plain
    assert not ways.by_weight


def test_two_sliders_are_reached_past_the_layer(slider: Adapter, x: torch.Tensor) -> None:
    other = Adapter.create(host(HOSTS["calls"]), [Target("read")], AdapterSpec(rank=1, alpha=1.0), seed=3)
    for parameter in other.parameters():
        parameter.data.fill_(0.2)
    answers = []
    for way in ("calls", "functional"):
        model = host(HOSTS[way])
        with at_strength(slider, model, [1.0, -1.0]), at_strength(other, model, [0.5, 2.0]):
            answers.append(model(x))
        assert not any(isinstance(layer._parameters, Reads) for layer in model.modules())
        assert type(model.read.weight) is nn.Parameter
    assert torch.allclose(*answers, rtol=SAME)


class Remembers(nn.Module):
    """Keeps what it made of the prompt until it is given another one."""

    def __init__(self, empty: object) -> None:
        super().__init__()
        self.key = nn.Linear(6, 6)
        self.kept = empty
        self.constant = torch.ones(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.kept:
            key = self.key(x)
            self.kept = [key] if isinstance(self.kept, list) else {"key": key} if isinstance(self.kept, dict) else (key,)
        kept = self.kept["key"] if isinstance(self.kept, dict) else self.kept[0]
        return kept * self.constant


@pytest.mark.parametrize("filled_before", [False, True])
@pytest.mark.parametrize("empty", [[], {}, None])
def test_keys_and_values_of_another_strength_are_dropped(empty: object, filled_before: bool) -> None:
    """Whatever they are called; also those that a sampling without a slider has left there."""
    model = Remembers(empty).requires_grad_(False)
    x = torch.ones(1, 2, 6)
    adapter = Adapter.create(model, [Target("key")], AdapterSpec(rank=1, alpha=1.0))
    for parameter in adapter.parameters():
        parameter.data.fill_(0.3)
    if filled_before:
        model(x)
    base = functional.linear(x, model.key.weight, model.key.bias)
    step = adapter.part(Target("key")).change(model.key, x, base).detach()
    for strength in (1.0, -1.0, 2.0):
        caches.forget(model)
        with at_strength(adapter, model, [strength]):
            assert torch.allclose(model(x), base + strength * step)
    assert torch.equal(model.constant, torch.ones(6))


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_a_trial_that_is_stopped_gives_the_model_back_what_it_took_away(fault: type[BaseException]) -> None:
    model = nn.Linear(2, 2)
    model.table = table = [torch.ones(3)]

    def stopped() -> None:
        assert model.table == []
        raise fault

    expected = pytest.raises(fault) if fault is KeyboardInterrupt else nullcontext()
    with expected:
        assert not caches.try_out(model, [(model, "table")], stopped)
    assert model.table is table
