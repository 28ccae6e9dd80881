"""Every algorithm is what PEFT and LyCORIS make of it: silent at first, and at strength s the model with W + s D, row by row."""

import copy
from pathlib import Path

import pytest
import torch
from core.faults import refused
from core.nets import (
    CLOSE,
    OTHERS,
    PLACES,
    RANK,
    STRENGTHS,
    VARIANTS,
    WIDE,
    Net,
    change_by_others,
    gradients,
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
from products import in_turn
from torch import nn

from slider_core.config.lora import AdapterSpec, Algorithm, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.catalog import for_tensors
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import attached

NOTHING = 1e-6  # an orthogonal start is a product of two factors that cancel; DoRA divides a norm by itself
LR = 0.05
OPTIONS = {
    **{name: {} for name in ("locon", "loha", "lokr", "full", "glora")},
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
PLAIN = [algorithm.value for algorithm in Algorithm]
DILATED = [(name, "conv 2-D, dilation") for name in ("locon", "lokr", "glora")]  # which PEFT and LyCORIS leave out
in_some_places = pytest.mark.parametrize(("name", "place"), in_turn(VARIANTS, list(PLACES)))


@pytest.fixture
def net() -> Net:
    return make_net()


@in_some_places
def test_fresh_it_changes_nothing_and_after_one_step_the_gradient_reaches_every_parameter(
    net: Net, name: str, place: str
) -> None:
    spec = VARIANTS[name].spec
    x, adapter = images(), Adapter.create(net, PLACES[place], spec)
    exact = spec.algorithm is not Algorithm.DORA and spec.init.value != "orthogonal"
    assert live(net, adapter, x).sub(net(x)).abs().max() <= (0 if exact else NOTHING)
    optimizer = torch.optim.SGD(adapter.parameters(), lr=LR)
    assert all(g is not None for g in gradients(net, adapter, x))
    optimizer.step()
    assert all(bool(g.any()) for g in gradients(net, adapter, x))
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(("name", "place"), in_turn(PLAIN, list(PLACES), each=2) + in_turn(list(VARIANTS)[8:], list(PLACES)))
def test_each_row_is_the_model_with_its_strength_times_the_change(net: Net, name: str, place: str, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS[name], place)
    change = change_by_others(net, adapter, VARIANTS[name], tmp_path)
    shifted, base = rows_by_hand(net, change, x), net(x)
    assert (shifted - base).abs().amax(dim=(1, 2))[[0, 2]].min() > 0.03, "there is something to compare"
    rows = live(net, adapter, x)
    torch.testing.assert_close(rows, shifted, **CLOSE)
    assert torch.equal(rows[1], base[1]), "strength 0 is the model itself"


@in_some_places
def test_weights_come_to_life_again_the_same_and_can_be_trained_on(net: Net, name: str, place: str) -> None:
    x, adapter = images(), slider_on(net, VARIANTS[name], place)
    wanted = live(net, adapter, x)
    revived = Adapter.from_weights(net, adapter.weights())
    assert revived.targets == adapter.targets
    torch.testing.assert_close(live(net, revived, x), wanted, **CLOSE)
    again = Adapter.from_weights(net, revived.weights())
    torch.testing.assert_close(live(net, again, x), wanted, **CLOSE)
    found = gradients(net, again, x)
    assert all(g is not None and bool(g.isfinite().all()) and bool(g.any()) for g in found)
    torch.optim.SGD(again.parameters(), lr=LR).step()
    assert not torch.allclose(live(net, again, x), wanted, **CLOSE)


@pytest.mark.parametrize(("name", "place"), in_turn([*OPTIONS, "dora", "rslora"], list(PLACES)))
def test_at_plus_one_it_is_lycoris_own_forward(net: Net, name: str, place: str, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS[name], place)
    other = copy.deepcopy(net)
    network = lycoris_network(other, saved(tmp_path, adapter, FileFormat.LYCORIS))
    with torch.no_grad():
        network.apply_to()
        torch.testing.assert_close(other(x), live(net, adapter, x, [1.0] * len(x)), **CLOSE)


def test_the_tensors_have_the_names_and_sizes_that_lycoris_gives_them(net: Net) -> None:
    from lycoris.wrapper import create_lycoris

    for name, options in OPTIONS.items():
        spec = VARIANTS[name].spec
        weights = Adapter.create(net, PLACES["whole layers"], spec).weights()
        for part in create_lycoris(net, 1.0, spec.rank, spec.alpha, algo=spec.algorithm.value, **options).loras:
            weight, theirs = weights[Target(part.lora_name.removeprefix("lycoris_"))], part.custom_state_dict()
            assert weight.alpha == theirs.pop("alpha", None), name
            assert {k: v.shape for k, v in weight.tensors.items()} == {k: v.shape for k, v in theirs.items()}, name


@pytest.mark.parametrize("name", PLAIN)
def test_a_seed_gives_the_same_start_and_the_state_of_a_run_comes_back_bit_for_bit(net: Net, name: str) -> None:
    targets, spec, x = PLACES["two slices"], VARIANTS[name].spec, images()
    state = torch.get_rng_state()
    one, same, other = (Adapter.create(net, targets, spec, seed=s) for s in (1, 1, 2))
    Adapter.from_weights(net, one.weights())
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    equal = [[torch.equal(p, q) for p, q in zip(one.parameters(), twin.parameters(), strict=True)] for twin in (same, other)]
    assert all(equal[0])
    assert all(equal[1]) == (spec.algorithm is Algorithm.FULL), "only full begins without a draw"
    trained(one, net)
    other.load_state(one.state())
    assert torch.equal(live(net, other, x), live(net, one, x))


@pytest.mark.parametrize("name", ["dora", "glora"])
def test_a_file_form_that_needs_the_base_weight_is_never_stale(net: Net, name: str) -> None:
    """A DoRA, and a slice of a GLoRA, hold what they read of the base weight last."""
    adapter = slider_on(net, VARIANTS[name], "one slice")
    twin = Adapter.create(net, PLACES["one slice"], VARIANTS[name].spec, seed=9)
    twin.load_state(adapter.state())
    with pytest.raises(RuntimeError, match="before its base weight was read"):
        twin.weights()
    with attached(twin, net):
        inside = twin.weights()
    for weights in (inside, twin.weights()):
        tensors = weights[Target("fused", (0, 2 * WIDE))].tensors
        for key, tensor in adapter.weights()[Target("fused", (0, 2 * WIDE))].tensors.items():
            assert torch.equal(tensor, tensors[key])


@pytest.mark.parametrize(("name", "window"), [*in_turn(PLAIN, list(WINDOWS), each=2), *DILATED])
def test_convolutions_of_every_kind_are_moved_as_their_weights_are(name: str, window: str) -> None:
    """The change that is saved, laid on the weight by hand: W + s D."""
    layer, shape = WINDOWS[window]
    net, x = nn.Sequential(copy.deepcopy(layer).requires_grad_(False)), randn(*shape)
    adapter = trained(Adapter.create(net, [Target("0")], AdapterSpec(rank=1, alpha=2.0, algorithm=name)), net)
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


@pytest.mark.parametrize("name", ["lora", "dora", "loha", "lokr", "full", "glora"])
def test_a_model_in_bfloat16_keeps_its_number_format_and_the_slider_float32(name: str) -> None:
    net, x = make_net().to(torch.bfloat16), images()
    adapter = slider_on(net, VARIANTS[name], "one slice")
    assert {p.dtype for p in adapter.parameters()} == {torch.float32}
    shifted, base = live(net, adapter, x.to(torch.bfloat16)), net(x.to(torch.bfloat16))
    assert shifted.dtype == torch.bfloat16
    exact = copy.deepcopy(net).float()
    wanted = live(exact, Adapter.from_weights(exact, adapter.weights()), x) - exact(x)
    assert ((shifted.float() - base.float()) - wanted).norm() < 0.1 * wanted.norm()


@pytest.mark.parametrize("name", ["lora, conv_rank 1", "lora, conv_rank 0", "lora, patterns", "lokr, patterns"])
def test_ranks_and_alphas_are_those_that_were_chosen(net: Net, name: str) -> None:
    chosen = VARIANTS[name]
    weights = Adapter.create(net, PLACES["whole layers"], chosen.spec).weights()
    layers = {"conv1", "plain", "bare", "fused", "conv3"} - ({"conv3"} if chosen.spec.conv_rank == 0 else set())
    assert {target.path for target in weights} == layers
    for target, weight in weights.items():
        rank, alpha = chosen.size(target.path)
        if chosen.spec.algorithm is Algorithm.LORA:
            assert (weight.rank, weight.alpha) == (rank, alpha)
        elif weight.rank:  # a LoKr that is small enough has none
            assert weight.alpha == alpha
            assert target.path != "conv1" or weight.rank == 1


def test_rslora_divides_by_the_root_of_the_rank(net: Net) -> None:
    weight = Adapter.create(net, OTHERS, VARIANTS["rslora"].spec).weights()[Target("plain")]
    assert weight.scale == pytest.approx(VARIANTS["rslora"].spec.alpha / RANK**0.5)


def test_what_cannot_be_trained_is_refused(net: Net) -> None:
    with refused("adapter_spec.no_layer", "conv_rank of 0"):
        Adapter.create(net, [Target("conv3")], VARIANTS["lora, conv_rank 0"].spec)
    for name in ("lora", "dora", "lokr", "glora"):
        with refused("target.convolution", "conv3"):
            Adapter.create(net, [Target("conv3", (0, 8))], VARIANTS[name].spec)
        for rows in ((40, 56), (-1, 4), (4, 4)):
            with refused("target.rows", rows, "fused", 48):
                Adapter.create(net, [Target("fused", rows)], VARIANTS[name].spec)
    net.plain.weight[3].zero_()
    with refused("dora.zero_rows", "plain"):
        Adapter.create(net, [Target("plain")], VARIANTS["dora"].spec)
    net.plain.weight_function = [lambda weight: weight]  # as ComfyUI marks a layer outside the GPU
    for name in ("dora", "glora"):
        with refused("layer.weight_unreadable"):
            Adapter.create(net, [Target("plain", (0, 8))], VARIANTS[name].spec)


def test_a_number_that_is_written_into_the_weights_multiplies_the_change(net: Net) -> None:
    for name in ("lora", "locon, tucker", "loha", "lokr", "lokr, full_matrix", "full"):
        for target, weight in slider_on(net, VARIANTS[name]).weights().items():
            torch.testing.assert_close(weight.scaled(-0.3).delta(), -0.3 * weight.delta(), msg=f"{name} {target}")
    for target, weight in slider_on(net, VARIANTS["glora"]).weights().items():
        base = net.get_submodule(target.path).weight
        torch.testing.assert_close(weight.scaled(-0.3).delta(base), -0.3 * weight.delta(base))
        with refused("lora.needs_base"):
            weight.delta()
    for weight in slider_on(net, VARIANTS["dora"]).weights().values():
        with refused("dora.strength"):
            weight.scaled(2.0)
        with refused("lora.needs_base"):
            weight.delta()


def test_a_dora_with_a_core_tensor_is_for_comfyuis_loader_alone(net: Net) -> None:
    tucker = slider_on(net, VARIANTS["locon, tucker"]).weights()[Target("conv3")]
    tensors = tucker.tensors | {"dora_scale": torch.ones(WIDE, 1, 1, 1)}
    with refused("dora.core", "conv3"):
        Adapter.from_weights(net, {Target("conv3"): for_tensors(tensors)(tensors, 2.0)})
