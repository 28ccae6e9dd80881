"""A slider is a LoRA, PEFT's own, with a strength per sample; and the model it visits is left as it was, bit for bit."""

import copy
from collections import OrderedDict

import peft
import pytest
import torch
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.layers.sample_rows import SAMPLES
from slider_core.lora.algorithm import Kind, LayerWeight
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength

RANK, ALPHA, WIDTH, STRENGTH = 3, 6.0, 8, -1.7
SPEC = AdapterSpec(rank=RANK, alpha=ALPHA)
STRENGTHS = (-2.0, 0.0, 0.5)
EXACT = {"rtol": 1e-4, "atol": 1e-5}  # the same formula, summed in another order
LAYERS = {
    "linear": (nn.Linear(WIDTH, 12), (2, 5, WIDTH)),
    "conv 3x3": (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 7, 7)),
    "patchify": (nn.Conv2d(3, 10, 4, stride=4), (2, 3, 16, 16)),
}


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tensors(weight: LayerWeight) -> tuple[torch.Tensor, torch.Tensor]:
    """(A, B) of a LoRA."""
    return weight.tensors["lora_down.weight"], weight.tensors["lora_up.weight"]


def trained(adapter: Adapter) -> Adapter:
    """Random factors in place of a training."""
    with torch.no_grad():
        for number, part in enumerate(adapter.parameters()):
            part.copy_(randn(*part.shape, seed=number))
    return adapter


def single(layer: nn.Module) -> nn.Module:
    return nn.Sequential(OrderedDict(layer=copy.deepcopy(layer))).requires_grad_(False)


class Net(nn.Module):
    """Two layers and a nonlinearity; `frames` > 1 folds that many frames of a sample into the rows, as video models do."""

    def __init__(self, frames: int = 1) -> None:
        super().__init__()
        self.first, self.last, self.norm, self.frames = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 12), nn.LayerNorm(WIDTH), frames

    def forward(self, x: torch.Tensor, **_options: dict) -> torch.Tensor:
        folded = x.reshape(len(x) * self.frames, -1, WIDTH)
        return self.last(torch.tanh(self.first(folded))).reshape(len(x), -1, 12)


TARGETS = (Target("first"), Target("last"))


@pytest.fixture
def net() -> Net:
    return Net().requires_grad_(False)


@pytest.fixture
def slider(net: Net) -> Adapter:
    return trained(Adapter.create(net, TARGETS, SPEC))


def run(net: nn.Module, adapter: Adapter, x: torch.Tensor, strengths: object) -> torch.Tensor:
    with at_strength(adapter, net, strengths):
        return net(x)


def hooks(net: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_a_fresh_adapter_changes_no_bit(layer: nn.Module, shape: tuple) -> None:
    net, x = single(layer), randn(*shape)
    assert torch.equal(run(net, Adapter.create(net, [Target("layer")], SPEC), x, [1.0] * len(x)), net(x))


@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_the_output_is_that_of_pefts_own_merged_model(layer: nn.Module, shape: tuple) -> None:
    net, x = single(layer), randn(*shape)
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


def test_the_output_is_a_hand_lora(net: Net, slider: Adapter) -> None:
    x = randn(2, 5, WIDTH)
    A1, B1, A2, B2 = slider.parameters()
    scale = STRENGTH * ALPHA / RANK
    h = torch.tanh(x @ (net.first.weight + scale * B1 @ A1).T + net.first.bias)
    hand = h @ (net.last.weight + scale * B2 @ A2).T + net.last.bias
    torch.testing.assert_close(run(net, slider, x, [STRENGTH] * 2), hand, **EXACT)


@pytest.mark.parametrize("copies", [1, 2], ids=["one copy", "conditional and unconditional"])
@pytest.mark.parametrize("frames", [1, 4])
def test_each_row_gets_the_strength_of_its_sample(copies: int, frames: int) -> None:
    net = Net(frames).requires_grad_(False)
    slider = trained(Adapter.create(net, TARGETS, SPEC))
    x = randn(copies * len(STRENGTHS), 2 * frames, WIDTH)
    together = run(net, slider, x, STRENGTHS)
    for row, image in enumerate(x):
        alone = run(net, slider, image[None], [STRENGTHS[row % len(STRENGTHS)]])
        torch.testing.assert_close(together[row], alone[0], **EXACT)
    assert not torch.allclose(together[0], run(net, slider, x[:1], STRENGTHS[2:])[0], **EXACT)


def test_a_row_at_strength_zero_is_the_models_own(net: Net, slider: Adapter) -> None:
    x = randn(3, 5, WIDTH)
    base, shifted = net(x), run(net, slider, x, STRENGTHS)
    assert [torch.equal(a, b) for a, b in zip(base, shifted, strict=True)] == [False, True, False]


def test_a_call_with_a_part_of_the_samples_says_which(net: Net, slider: Adapter) -> None:
    x = randn(1, 5, WIDTH)
    with at_strength(slider, net, STRENGTHS):
        part = net(x, transformer_options={SAMPLES: [2]})
    torch.testing.assert_close(part, run(net, slider, x, [STRENGTHS[2]]), **EXACT)


def test_rows_that_fit_no_sample_are_refused(net: Net, slider: Adapter) -> None:
    with pytest.raises(SliderError, match="4 rows, which is no multiple of the 3 strengths"):
        run(net, slider, randn(4, 5, WIDTH), STRENGTHS)


def test_a_layer_that_loses_the_samples_is_named() -> None:
    net = nn.Sequential(OrderedDict(flat=nn.Flatten(0, 1), pool=nn.Unflatten(0, (2, 6)), first=nn.Linear(WIDTH, WIDTH)))
    adapter = trained(Adapter.create(net, [Target("first")], SPEC))
    with pytest.raises(SliderError, match='Layer "first" sees 2 rows for 3 samples'):
        run(net, adapter, randn(3, 4, WIDTH), STRENGTHS)
    run(net, adapter, randn(3, 4, WIDTH), [1.0] * 3)  # one strength for all needs no rows


def test_a_fused_slice_moves_its_own_rows_alone(net: Net) -> None:
    start, stop = 4, 8
    target = Target("last", rows=(start, stop))
    adapter = trained(Adapter.create(net, [target], SPEC))
    x = randn(2, 5, WIDTH)
    base, shifted = net(x), run(net, adapter, x, [1.0, -1.0])
    assert torch.equal(shifted[..., :start], base[..., :start])
    assert torch.equal(shifted[..., stop:], base[..., stop:])
    delta = torch.tanh(net.first(x)) @ adapter.weights()[target].delta().T
    torch.testing.assert_close((shifted - base)[..., start:stop], delta * torch.tensor([1.0, -1.0])[:, None, None], **EXACT)
    assert tensors(adapter.weights()[target])[1].shape == (stop - start, RANK)


@pytest.mark.parametrize("rows", [(-1, 4), (4, 4), (0, 13)])
def test_rows_outside_the_layer_are_refused(net: Net, rows: tuple[int, int]) -> None:
    with pytest.raises(SliderError, match="of last lie outside its 12 outputs"):
        Adapter.create(net, [Target("last", rows)], SPEC)


@pytest.mark.parametrize("fault", [None, RuntimeError, KeyboardInterrupt])
def test_no_hook_stays(net: Net, slider: Adapter, fault: type[BaseException] | None) -> None:
    x = randn(3, 5, WIDTH)
    base = net(x)
    try:
        with at_strength(slider, net, STRENGTHS):
            assert hooks(net) == 2 + len(TARGETS)  # the model's entry and exit, and each layer
            net(x)
            if fault:
                raise fault
    except (RuntimeError, KeyboardInterrupt):
        assert fault
    assert hooks(net) == 0
    assert torch.equal(net(x), base)


def test_no_hook_stays_when_a_later_layer_is_missing(net: Net, slider: Adapter) -> None:
    other = Net().requires_grad_(False)
    del other.last
    with pytest.raises(SliderError, match='"last"'), at_strength(slider, other, STRENGTHS):
        pass
    assert hooks(other) == 0


def test_the_base_model_keeps_its_bits_flags_and_memory(net: Net, slider: Adapter) -> None:
    net.norm.requires_grad_(True)  # flags of every kind

    def look() -> dict[str, tuple]:
        return {n: (p.data_ptr(), p.requires_grad, p._version, p.grad, p.tolist()) for n, p in net.named_parameters()}

    before = look()
    run(net, slider, randn(3, 5, WIDTH), STRENGTHS).square().sum().backward()
    assert all(p.grad is not None for p in slider.parameters())
    assert look() == before
    assert {type(m) for m in net.modules()} == {Net, nn.Linear, nn.LayerNorm}


def test_the_same_seed_gives_the_same_weights_and_the_global_generator_is_left_alone(net: Net) -> None:
    state = torch.get_rng_state()
    one, same, other = (tensors(Adapter.create(net, TARGETS, SPEC, seed=s).weights()[TARGETS[0]]) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one[0], same[0])
    assert not torch.equal(one[0], other[0])
    assert 0.5 < one[0].abs().max() * WIDTH**0.5 <= 1  # PEFT's default: Kaiming uniform, U(-1, 1) / sqrt(fan in)
    assert not one[1].any()


def test_weights_go_out_and_in_unchanged(net: Net, slider: Adapter) -> None:
    x, saved = randn(3, 5, WIDTH), slider.weights()
    twin, loaded = Adapter.from_weights(net, saved), Adapter.create(net, TARGETS, SPEC)
    loaded.load_state(slider.state())
    wanted = run(net, slider, x, STRENGTHS)
    assert torch.equal(run(net, twin, x, STRENGTHS), wanted)
    assert torch.equal(run(net, loaded, x, STRENGTHS), wanted)
    assert {t: (w.kind, w.rank, w.alpha, w.base) for t, w in twin.weights().items()} == {
        TARGETS[0]: (Kind.LORA, RANK, ALPHA, (WIDTH, WIDTH)),
        TARGETS[1]: (Kind.LORA, RANK, ALPHA, (12, WIDTH)),
    }
    state = slider.state()
    with torch.no_grad():
        slider.parameters()[0].zero_()
    assert tensors(saved[TARGETS[0]])[0].any()  # a copy, not a window
    assert state["first"][0].any()


@pytest.mark.parametrize(
    ("path", "layer"),
    [("last", None), ("last", nn.Linear(WIDTH, 13)), ("first", nn.Linear(9, WIDTH)), ("last", nn.LayerNorm(12))],
    ids=["missing", "taller", "wider", "no such kind"],
)
def test_a_slider_of_another_model_is_refused_by_its_layer(slider: Adapter, path: str, layer: nn.Module | None) -> None:
    other = Net()
    setattr(other, path, layer)
    with pytest.raises(SliderError, match=rf"[\"(]{path}[\")].*(another model|for another model)"):
        Adapter.from_weights(other, slider.weights())


def test_a_state_that_lacks_a_layer_names_it_and_changes_nothing(net: Net, slider: Adapter) -> None:
    state, before = Adapter.create(net, TARGETS, SPEC, seed=4).state(), slider.state()
    del state["last"]
    with pytest.raises(SliderError, match='lacks the layer "last"'):
        slider.load_state(state)
    assert all(torch.equal(p, q) for p, q in zip(slider.state()["first"], before["first"], strict=True))


def test_a_state_of_other_sizes_names_the_layer_and_changes_nothing(net: Net, slider: Adapter) -> None:
    other, before = Adapter.create(net, TARGETS, AdapterSpec(rank=RANK + 1)), slider.state()
    mixed = Adapter.create(net, TARGETS, SPEC, seed=4).state() | {"last": other.state()["last"]}
    with pytest.raises(SliderError, match='"last" of the saved slider has other sizes'):
        slider.load_state(mixed)
    assert all(torch.equal(p, q) for p, q in zip(slider.state()["first"], before["first"], strict=True))


def test_an_adapter_made_under_inference_mode_can_be_trained(net: Net) -> None:
    with torch.inference_mode():
        adapter = Adapter.create(net, TARGETS, SPEC)
        adapter.load_state(trained(Adapter.create(net, TARGETS, SPEC)).state())
        revived = Adapter.from_weights(net, adapter.weights())
    for one in (adapter, revived):
        before = {t: tensors(w) for t, w in one.weights().items()}
        optimizer = torch.optim.SGD(one.parameters(), lr=0.1)
        run(net, one, randn(3, 5, WIDTH), STRENGTHS).square().sum().backward()
        optimizer.step()
        after = {t: tensors(w) for t, w in one.weights().items()}
        assert all(not torch.equal(p, q) for t in after for p, q in zip(before[t], after[t], strict=True))
