"""A slider's parameters: their first values, their exact state, the weights they make; PEFT's own model is the oracle."""

import copy
from collections import OrderedDict

import peft
import pytest
import torch
from core.faults import refused
from core.nets import randn
from torch import nn

from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.lora.algorithm import Kind, LayerWeight
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength

RANK, ALPHA, WIDTH, STRENGTH = 3, 6.0, 8, -1.7
SPEC = AdapterSpec(rank=RANK, alpha=ALPHA)
STRENGTHS = (-2.0, 0.0, 0.5)
EXACT = {"rtol": 1e-4, "atol": 1e-5}  # the same formula, summed in another order
TARGETS = (Target("first"), Target("last"))
LAYERS = {
    "linear": (nn.Linear(WIDTH, 12), (2, 5, WIDTH)),
    "patchify": (nn.Conv2d(3, 10, 4, stride=4), (2, 3, 16, 16)),
}


def factors(weight: LayerWeight) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of a LoRA."""
    return weight.tensors["lora_down.weight"], weight.tensors["lora_up.weight"]


def make_net(height: int = 12) -> nn.Module:
    layers = OrderedDict(first=nn.Linear(WIDTH, WIDTH), tanh=nn.Tanh(), last=nn.Linear(WIDTH, height))
    return nn.Sequential(layers).requires_grad_(False)


def trained(adapter: Adapter) -> Adapter:
    """Random factors in place of a training."""
    with torch.no_grad():
        for number, part in enumerate(adapter.parameters()):
            part.copy_(randn(*part.shape, seed=number))
    return adapter


def run(net: nn.Module, adapter: Adapter, x: torch.Tensor, strengths: object) -> torch.Tensor:
    with at_strength(adapter, net, strengths):
        return net(x)


@pytest.fixture
def net() -> nn.Module:
    return make_net()


@pytest.fixture
def slider(net: nn.Module) -> Adapter:
    return trained(Adapter.create(net, TARGETS, SPEC))


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_output_is_that_of_pefts_own_merged_model(layer: nn.Module, shape: tuple) -> None:
    net, x = nn.Sequential(OrderedDict(layer=copy.deepcopy(layer))).requires_grad_(False), randn(*shape)
    adapter = trained(Adapter.create(net, [Target("layer")], SPEC))
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["layer"])
    oracle = peft.get_peft_model(copy.deepcopy(net), config)
    lora = oracle.base_model.model.layer
    with torch.no_grad():
        lora.lora_A["default"].weight.copy_(adapter.parameters()[0])
        lora.lora_B["default"].weight.copy_(adapter.parameters()[1])
    merged_delta = lora.get_delta_weight("default").detach().flatten(1)
    torch.testing.assert_close(adapter.weights()[Target("layer")].delta(), merged_delta, **EXACT)
    lora.scale_layer(STRENGTH)
    merged = oracle.merge_and_unload()(x)
    assert (merged - net(x)).abs().max() > 0.1
    torch.testing.assert_close(run(net, adapter, x, [STRENGTH] * len(x)), merged, **EXACT)


def test_the_first_values_are_pefts_and_belong_to_the_seed(net: nn.Module) -> None:
    one, same, other = (factors(Adapter.create(net, TARGETS, SPEC, seed=s).weights()[TARGETS[0]]) for s in (1, 1, 2))
    assert torch.equal(one[0], same[0])
    assert not torch.equal(one[0], other[0])
    assert 0.5 < one[0].abs().max() * WIDTH**0.5 <= 1  # PEFT's default: Kaiming uniform, U(-1, 1) / sqrt(fan in)
    assert not one[1].any()


def test_weights_go_out_and_in_unchanged(net: nn.Module, slider: Adapter) -> None:
    x, saved = randn(3, 5, WIDTH), slider.weights()
    revived, loaded = Adapter.from_weights(net, saved), Adapter.create(net, TARGETS, SPEC)
    loaded.load_state(slider.state())
    wanted = run(net, slider, x, STRENGTHS)
    assert torch.equal(run(net, revived, x, STRENGTHS), wanted)
    assert torch.equal(run(net, loaded, x, STRENGTHS), wanted)
    assert {t: (w.kind, w.rank, w.alpha, w.base) for t, w in revived.weights().items()} == {
        TARGETS[0]: (Kind.LORA, RANK, ALPHA, (WIDTH, WIDTH)),
        TARGETS[1]: (Kind.LORA, RANK, ALPHA, (12, WIDTH)),
    }
    state = slider.state()
    with torch.no_grad():
        slider.parameters()[0].zero_()
    assert factors(saved[TARGETS[0]])[0].any()  # a copy, not a window
    assert state["first"][0].any()


def test_a_slider_of_another_model_is_refused_by_its_layer(slider: Adapter) -> None:
    for path, layer, code in (
        ("last", None, "lora.other_model"),
        ("last", nn.LayerNorm(12), "lora.other_model"),
        ("last", nn.Linear(WIDTH, 13), "lora.shape"),
        ("first", nn.Linear(9, WIDTH), "lora.shape"),
    ):
        other = make_net()
        setattr(other, path, layer)
        with refused(code, path):
            Adapter.from_weights(other, slider.weights())


def test_a_state_that_does_not_fit_names_the_layer_and_changes_nothing(net: nn.Module, slider: Adapter) -> None:
    other, before = Adapter.create(net, TARGETS, AdapterSpec(rank=RANK + 1)).state(), slider.state()
    state = Adapter.create(net, TARGETS, SPEC, seed=4).state()
    for code, wrong in (("resume.layer_sizes", state | {"last": other["last"]}), ("resume.no_layer", {"first": state["first"]})):
        with refused(code, "last"):
            slider.load_state(wrong)
        for p, q in zip(slider.state()["first"], before["first"], strict=True):
            assert torch.equal(p, q)


def test_an_adapter_made_under_inference_mode_can_be_trained(net: nn.Module) -> None:
    with torch.inference_mode():
        adapter = Adapter.create(net, TARGETS, SPEC)
        adapter.load_state(trained(Adapter.create(net, TARGETS, SPEC)).state())
        revived = Adapter.from_weights(net, adapter.weights())
    for one in (adapter, revived):
        before = one.state()
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        run(net, one, randn(3, 5, WIDTH), STRENGTHS).square().sum().backward()
        optimizer.step()
        for target, values in one.state().items():
            assert all(not torch.equal(p, q) for p, q in zip(values, before[target], strict=True))


def test_what_a_training_asks_of_its_parameters(net: nn.Module, slider: Adapter) -> None:
    assert slider.bytes() == 4 * sum(p.numel() for p in slider.parameters())
    assert [name for name, _ in slider.named_parameters()] == ["first", "first", "last", "last"]
    assert slider.paths == ("first", "last")
    assert slider.factors("first") == slider.parameters()[:2]
    assert slider.factors("fir") == []
    assert slider.finite()
    slider.to(torch.device("cpu"))
    with torch.no_grad():
        slider.parameters()[1][0, 0] = float("nan")
    assert not slider.finite()
