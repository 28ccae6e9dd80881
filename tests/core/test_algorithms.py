"""Every algorithm is what PEFT and LyCORIS make of it: silent at first, and at strength s the model with W + s D, row by row."""

import copy
from pathlib import Path

import pytest
import torch
from core.nets import (
    CLOSE,
    OTHERS,
    PLACES,
    RANK,
    STRENGTHS,
    VARIANTS,
    WIDE,
    Net,
    Variant,
    change_by_others,
    images,
    live,
    lycoris_network,
    make_net,
    randn,
    rows_by_hand,
    saved,
    slider_on,
    trained,
)
from lycoris.wrapper import create_lycoris
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Algorithm, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength, attached

NOTHING = 1e-6  # an orthogonal start is a product of two factors that cancel; DoRA divides a norm by itself
STEPS, LR = 5, 0.05
OPTIONS = {
    "locon": {},
    "loha": {},
    "lokr": {},
    "full": {},
    "glora": {},
    "lokr, factor 2": {"factor": 2},
    "lokr, full_matrix": {"full_matrix": True},
    "lokr, decompose_both": {"decompose_both": True},
    "locon, tucker": {"use_tucker": True},
    "loha, tucker": {"use_tucker": True},
    "lokr, tucker": {"use_tucker": True},
}
WINDOWS = {
    "conv 1-D": (nn.Conv1d(4, 6, 3, padding=1), (3, 4, 9)),
    "conv 2-D, stride": (nn.Conv2d(4, 6, 3, stride=2, padding=1), (3, 4, 9, 9)),
    "conv 2-D, dilation": (nn.Conv2d(4, 6, 3, padding=2, dilation=2), (3, 4, 9, 9)),
    "conv 3-D": (nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)), (3, 4, 2, 5, 5)),
}
every_variant = pytest.mark.parametrize("chosen", VARIANTS.values(), ids=VARIANTS)
every_place = pytest.mark.parametrize("place", PLACES)


@pytest.fixture
def net() -> Net:
    return make_net()


def gradients(net: nn.Module, adapter: Adapter, x: torch.Tensor) -> list[torch.Tensor | None]:
    for p in adapter.parameters():
        p.grad = None
    with at_strength(adapter, net, STRENGTHS):
        out = net(x)
    (out * randn(*out.shape, seed=8)).sum().backward()
    return [p.grad for p in adapter.parameters()]


@every_place
@every_variant
def test_a_fresh_adapter_changes_nothing(net: Net, chosen: Variant, place: str) -> None:
    x, adapter = images(), Adapter.create(net, PLACES[place], chosen.spec)
    exact = chosen.spec.algorithm is not Algorithm.DORA and chosen.spec.init.value != "orthogonal"
    assert live(net, adapter, x).sub(net(x)).abs().max() <= (0 if exact else NOTHING)


@every_place
@every_variant
def test_each_row_is_the_model_with_its_strength_times_the_change(net: Net, chosen: Variant, place: str, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, chosen, place)
    change = change_by_others(net, adapter, chosen, tmp_path)
    shifted, base = rows_by_hand(net, change, x), net(x)
    assert (shifted - base).abs().amax(dim=(1, 2))[[0, 2]].min() > 0.03, "there is something to compare"
    found = live(net, adapter, x)
    torch.testing.assert_close(found, shifted, **CLOSE)
    assert torch.equal(found[1], base[1]), "strength 0 is the model itself"


@every_place
@pytest.mark.parametrize("name", [*OPTIONS, "dora", "rslora"])
def test_at_plus_one_it_is_lycoris_own_forward(net: Net, name: str, place: str, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS[name], place)
    wanted = live(net, adapter, x, [1.0] * len(x))
    other = copy.deepcopy(net)
    network = lycoris_network(other, saved(tmp_path, adapter, FileFormat.LYCORIS))
    with torch.no_grad():
        network.apply_to()
        torch.testing.assert_close(other(x), wanted, **CLOSE)


@pytest.mark.parametrize("name", OPTIONS)
def test_the_tensors_have_the_names_and_sizes_that_lycoris_gives_them(net: Net, name: str) -> None:
    spec = VARIANTS[name].spec
    ours = {t.path: weight for t, weight in slider_on(net, VARIANTS[name]).weights().items()}
    theirs = create_lycoris(net, 1.0, spec.rank, spec.alpha, algo=spec.algorithm.value, **OPTIONS[name])
    wanted = {part.lora_name.removeprefix("lycoris_"): part.custom_state_dict() for part in theirs.loras}
    alphas = {path: tensors.pop("alpha", None) for path, tensors in wanted.items()}
    assert {path: {k: tuple(v.shape) for k, v in w.tensors.items()} for path, w in ours.items()} == {
        path: {k: tuple(v.shape) for k, v in tensors.items()} for path, tensors in wanted.items()
    }
    assert {path: w.alpha for path, w in ours.items()} == alphas


@every_place
@every_variant
def test_after_one_step_the_gradient_reaches_every_parameter(net: Net, chosen: Variant, place: str) -> None:
    x, adapter = images(), Adapter.create(net, PLACES[place], chosen.spec)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=LR)
    assert all(g is not None for g in gradients(net, adapter, x))
    optimizer.step()
    assert all(bool(g.any()) for g in gradients(net, adapter, x))
    assert all(p.grad is None for p in net.parameters())


@every_place
@every_variant
def test_weights_at_rest_come_to_life_again_the_same(net: Net, chosen: Variant, place: str) -> None:
    x, adapter = images(), slider_on(net, chosen, place)
    twin = Adapter.from_weights(net, adapter.weights())
    assert twin.targets == adapter.targets
    torch.testing.assert_close(live(net, twin, x), live(net, adapter, x), **CLOSE)
    again = Adapter.from_weights(net, twin.weights())
    torch.testing.assert_close(live(net, again, x), live(net, adapter, x), **CLOSE)


@every_place
@every_variant
def test_a_slider_out_of_weights_can_be_trained_on(net: Net, chosen: Variant, place: str) -> None:
    x, twin = images(), Adapter.from_weights(net, slider_on(net, chosen, place).weights())
    before = live(net, twin, x)
    found = gradients(net, twin, x)
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in found)
    torch.optim.SGD(twin.parameters(), lr=LR).step()
    assert not torch.allclose(live(net, twin, x), before, **CLOSE)


@every_variant
def test_a_few_steps_of_training_leave_finite_weights_that_go_out_and_in(net: Net, chosen: Variant) -> None:
    x, adapter = images(), Adapter.create(net, PLACES["two slices"], chosen.spec)
    optimizer, base = torch.optim.SGD(adapter.parameters(), lr=LR), net(x)
    with attached(adapter, net):
        for _ in range(STEPS):
            gradients(net, adapter, x)
            torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
            optimizer.step()
    assert adapter.finite()
    assert all(bool(t.isfinite().all()) for w in adapter.weights().values() for t in w.tensors.values())
    found = live(net, adapter, x)
    assert (found - base).abs().max() > 1e-3
    torch.testing.assert_close(live(net, Adapter.from_weights(net, adapter.weights()), x), found, **CLOSE)


@every_variant
def test_a_seed_gives_the_same_start_and_the_global_generator_is_left_alone(net: Net, chosen: Variant) -> None:
    state = torch.get_rng_state()
    one, same, other = (Adapter.create(net, PLACES["one slice"], chosen.spec, seed=s) for s in (1, 1, 2))
    Adapter.from_weights(net, one.weights())
    assert torch.equal(torch.get_rng_state(), state)
    pairs = [[torch.equal(p, q) for p, q in zip(one.parameters(), twin.parameters(), strict=True)] for twin in (same, other)]
    assert all(pairs[0])
    assert all(pairs[1]) == (chosen.spec.algorithm is Algorithm.FULL), "only full begins without a draw"


@every_variant
def test_the_state_of_a_run_goes_out_and_in_bit_for_bit(net: Net, chosen: Variant) -> None:
    x, adapter = images(), slider_on(net, chosen, "two slices")
    twin = Adapter.create(net, PLACES["two slices"], chosen.spec, seed=9)
    twin.load_state(adapter.state())
    assert torch.equal(live(net, twin, x), live(net, adapter, x))


@pytest.mark.parametrize("name", ["dora", "glora"])
def test_a_file_form_that_needs_the_base_weight_is_never_stale(net: Net, name: str) -> None:
    """A DoRA, and a slice of a GLoRA, hold what they took of the base weight at the last look."""
    adapter = slider_on(net, VARIANTS[name], "one slice")
    twin = Adapter.create(net, PLACES["one slice"], VARIANTS[name].spec, seed=9)
    twin.load_state(adapter.state())
    with pytest.raises(RuntimeError, match="without a look at its base weight"):
        twin.weights()
    with attached(twin, net):
        pass
    one, two = (a.weights()[Target("fused", (0, 2 * WIDE))].tensors for a in (adapter, twin))
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(("layer", "shape"), WINDOWS.values(), ids=WINDOWS)
def test_convolutions_of_every_kind_are_moved_as_their_weights_are(algorithm: Algorithm, layer: nn.Module, shape: tuple) -> None:
    """The change that is saved, laid on the weight by hand: W + s D."""
    net, x = nn.Sequential(copy.deepcopy(layer).requires_grad_(False)), randn(*shape)
    adapter = trained(Adapter.create(net, [Target("0")], AdapterSpec(rank=1, alpha=2.0, algorithm=algorithm)), net)
    weight = adapter.weights()[Target("0")]
    shifted = copy.deepcopy(net)
    rows = []
    for strength, image in zip(STRENGTHS, x, strict=True):
        shifted[0].weight.copy_(net[0].weight + strength * weight.delta(net[0].weight).reshape(net[0].weight.shape))
        if "diff_b" in weight.tensors:
            shifted[0].bias.copy_(net[0].bias + strength * weight.tensors["diff_b"])
        rows.append(shifted(image[None]))
    torch.testing.assert_close(live(net, adapter, x), torch.cat(rows), **CLOSE)
    torch.testing.assert_close(live(net, Adapter.from_weights(net, adapter.weights()), x), torch.cat(rows), **CLOSE)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_model_in_bfloat16_keeps_its_number_format_and_the_slider_float32(algorithm: Algorithm) -> None:
    net = make_net().to(torch.bfloat16)
    adapter = slider_on(net, VARIANTS[algorithm.value], "one slice")
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}
    x = images()
    found, base = live(net, adapter, x.to(torch.bfloat16)), net(x.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    exact = copy.deepcopy(net).float()
    wanted = live(exact, Adapter.from_weights(exact, adapter.weights()), x) - exact(x)
    gap = ((found.float() - base.float()) - wanted).norm() / wanted.norm()
    assert gap < 0.1, gap


@pytest.mark.parametrize("name", ["lora, conv_rank 1", "lora, conv_rank 0", "lora, patterns", "lokr, patterns"])
def test_ranks_and_alphas_are_those_that_were_asked_for(net: Net, name: str) -> None:
    chosen = VARIANTS[name]
    weights = Adapter.create(net, PLACES["whole layers"], chosen.spec).weights()
    asked = {t.path: chosen.size(t.path) for t in weights}
    assert asked.keys() == {"conv1", "plain", "bare", "fused", *(["conv3"] if chosen.spec.conv_rank != 0 else [])}
    if chosen.spec.algorithm is Algorithm.LORA:
        assert {t.path: (w.rank, w.alpha) for t, w in weights.items()} == asked
    else:  # a LoKr that is small enough has no rank
        assert {t.path: w.alpha for t, w in weights.items() if w.rank} == {
            t.path: asked[t.path][1] for t, w in weights.items() if w.rank
        }
        assert {w.rank for t, w in weights.items() if t.path == "conv1"} == {1}


def test_a_conv_rank_of_zero_with_nothing_else_is_an_error(net: Net) -> None:
    with pytest.raises(SliderError, match="conv_rank of 0 leaves no layer"):
        Adapter.create(net, [Target("conv3")], VARIANTS["lora, conv_rank 0"].spec)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_rows_are_for_linear_layers(net: Net, algorithm: Algorithm) -> None:
    with pytest.raises(SliderError, match='"conv3" is a convolution'):
        Adapter.create(net, [Target("conv3", (0, 8))], VARIANTS[algorithm.value].spec)
    with pytest.raises(SliderError, match="of fused lie outside its 48 outputs"):
        Adapter.create(net, [Target("fused", (40, 56))], VARIANTS[algorithm.value].spec)


def test_rslora_divides_by_the_root_of_the_rank(net: Net) -> None:
    weight = Adapter.create(net, OTHERS, VARIANTS["rslora"].spec).weights()[Target("plain")]
    assert weight.scale == pytest.approx(VARIANTS["rslora"].spec.alpha / RANK**0.5)
