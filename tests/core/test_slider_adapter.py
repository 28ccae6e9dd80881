"""A slider's parameters: their first values, their exact state, the weights they make."""

import pytest
import torch
from core.faults import refused
from core.nets import ALPHA, PLACES, RANK, VARIANTS, Net, gradients, images, live, make_net, slider_on
from torch import nn

from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.lora.algorithm import Kind
from slider_core.lora.slider_adapter import Adapter

PLAIN = Target("plain")  # (24, 16)
SPEC = VARIANTS["lora"].spec


@pytest.fixture
def net() -> Net:
    return make_net()


@pytest.fixture
def slider(net: Net) -> Adapter:
    return slider_on(net, VARIANTS["lora"])


def test_the_first_values_are_pefts_and_belong_to_the_seed(net: Net) -> None:
    one, same, other = (Adapter.create(net, [PLAIN], SPEC, seed=seed).parameters() for seed in (1, 1, 2))
    assert torch.equal(one[0], same[0])
    assert not torch.equal(one[0], other[0])
    assert 0.5 < one[0].abs().max() * one[0].shape[1] ** 0.5 <= 1  # PEFT's default: Kaiming uniform, U(-1, 1) / sqrt(fan in)
    assert not one[1].any()


def test_weights_and_state_are_copies_and_come_back_bit_for_bit(net: Net, slider: Adapter) -> None:
    x, weights, state = images(), slider.weights(), slider.state()
    wanted = live(net, slider, x)
    loaded = Adapter.create(net, PLACES["whole layers"], SPEC)
    loaded.load_state(state)
    with torch.no_grad():
        for p in slider.parameters():
            p.zero_()
    for adapter in (Adapter.from_weights(net, weights), loaded):
        assert torch.equal(live(net, adapter, x), wanted)
        weight = adapter.weights()[PLAIN]
        assert (weight.kind, weight.rank, weight.alpha, weight.base) == (Kind.LORA, RANK, ALPHA, (24, 16))


def test_a_slider_of_another_model_is_refused_by_its_layer(net: Net, slider: Adapter) -> None:
    weights = slider.weights()
    for path, layer, code in (
        ("plain", None, "lora.other_model"),
        ("plain", nn.LayerNorm(24), "lora.shape"),
        ("plain", nn.Linear(16, 25), "lora.shape"),
        ("plain", nn.Linear(15, 24), "lora.shape"),
        ("conv3", nn.Linear(16, 4), "lora.shape"),
    ):
        setattr(net, path, layer)
        with refused(code, path):
            Adapter.from_weights(net, {Target(path): weights[Target(path)]})


def test_a_state_that_does_not_fit_names_the_layer_and_changes_nothing(net: Net, slider: Adapter) -> None:
    before, other = slider.state(), Adapter.create(net, PLACES["whole layers"], SPEC, seed=4).state()
    larger = Adapter.create(net, [Target("fused")], AdapterSpec(rank=RANK + 1)).state()
    without = {name: values for name, values in other.items() if name != "fused"}
    for code, wrong in (("resume.layer_sizes", other | larger), ("resume.no_layer", without)):
        with refused(code, "fused"):
            slider.load_state(wrong)
    assert all(torch.equal(p, q) for name, values in slider.state().items() for p, q in zip(values, before[name], strict=True))


def test_an_adapter_made_under_inference_mode_can_be_trained(net: Net, slider: Adapter) -> None:
    with torch.inference_mode():
        adapter = Adapter.create(net, PLACES["whole layers"], SPEC)
        adapter.load_state(slider.state())
        revived = Adapter.from_weights(net, adapter.weights())
    for one in (adapter, revived):
        assert all(bool(g.any()) for g in gradients(net, one, images()))
        torch.optim.SGD(one.parameters(), lr=0.1).step()


def test_what_a_training_reads_of_its_parameters(net: Net) -> None:
    slider = Adapter.create(net, [PLAIN, Target("fused", (0, 16)), Target("fused", (32, 48))], SPEC)
    assert slider.bytes() == 4 * sum(p.numel() for p in slider.parameters())
    assert [name for name, _ in slider.named_parameters()][::2] == ["plain", "fused[0:16]", "fused[32:48]"]
    assert slider.paths == ("plain", "fused")
    assert slider.factors("fused") == slider.parameters()[2:]
    assert slider.factors("fuse") == []
    slider.to(torch.device("meta"))
    assert {p.device.type for p in slider.parameters()} == {"meta"}
    slider = slider_on(net, VARIANTS["lora"])
    assert slider.finite()
    with torch.no_grad():
        slider.parameters()[1].view(-1)[0] = float("nan")
    assert not slider.finite()
