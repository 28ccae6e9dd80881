"""Slices of a layer are written as one change of the whole layer, and cut out of it again."""

import pytest
import torch
from core.faults import refused
from core.nets import CLOSE, VARIANTS, WIDE, Net, make_net, slider_on

from slider_core.layers.layer import Target
from slider_core.lora.algorithm import Kind
from slider_core.lora.combine import by_layer, joined, rounding_error

SLICES = [(0, WIDE), (2 * WIDE, 3 * WIDE)]


@pytest.fixture
def net() -> Net:
    return make_net()


def test_the_whole_change_is_that_of_each_slice_in_its_rows_and_nothing_outside(net: Net) -> None:
    for name in ["lora", "dora", "loha", "lokr", "lokr, factor 2", "full", "glora"]:
        base = net.fused.weight
        weights = slider_on(net, VARIANTS[name], "two slices").weights()
        whole = by_layer(weights)["fused"]
        delta = whole.delta(base)
        for rows in SLICES:
            weight = weights[Target("fused", rows)]
            torch.testing.assert_close(delta[slice(*rows)], weight.delta(base[slice(*rows)]))
            if name != "dora":
                back = whole.sliced(rows, SLICES, "fused")
                torch.testing.assert_close(back.delta(), weight.delta())
                assert back.kind is not Kind.LORA or back.rank == weight.rank, "silent ranks are left out"
        torch.testing.assert_close(delta[WIDE : 2 * WIDE], torch.zeros(WIDE, base.shape[1]), atol=1e-5, rtol=0)


def test_a_slice_that_the_change_reaches_out_of_is_refused(net: Net) -> None:
    for name in ("lora", "dora", "loha", "full"):
        weight = slider_on(net, VARIANTS[name]).weights()[Target("fused")]
        with refused("lora.slice", "fused", "0 to 8"):
            weight.sliced((0, 8), (), "fused")
        with refused("lora.slice", 48, 99):
            weight.sliced((0, 99))
    lokr = slider_on(net, VARIANTS["lokr"]).weights()[Target("fused")]
    with refused("lora.slice", "blocks", 1):
        lokr.sliced((1, WIDE))
    with refused("lora.slice", "GLoRA"):
        slider_on(net, VARIANTS["glora"]).weights()[Target("fused")].sliced((0, WIDE))


def test_a_lokr_whose_blocks_end_elsewhere_becomes_a_plain_difference(net: Net) -> None:
    weight = slider_on(net, VARIANTS["lokr"], "one slice").weights()[Target("fused", (0, 2 * WIDE))]
    odd = weight.whole((3, 3 + 2 * WIDE))
    assert (weight.whole((0, 2 * WIDE)).kind, odd.kind) == (Kind.LOKR, Kind.FULL)
    torch.testing.assert_close(odd.delta()[3 : 3 + 2 * WIDE], weight.delta())
    assert not odd.delta()[:3].any()


def test_what_depends_on_the_base_weight_is_joined_with_its_kind_alone(net: Net) -> None:
    names = ("lora", "dora")
    lora, dora = (
        slider_on(net, VARIANTS[name], "two slices").weights()[Target("fused", SLICES[i])] for i, name in enumerate(names)
    )
    loha = slider_on(net, VARIANTS["loha"], "two slices").weights()[Target("fused", SLICES[1])]
    with refused("lora.needs_base"):
        joined([(SLICES[0], loha), (SLICES[1], dora)])
    both = joined([(SLICES[0], lora), (SLICES[1], dora)])
    assert both.kind is Kind.DORA, "a LoRA is a DoRA that keeps the norms"
    base = net.fused.weight
    torch.testing.assert_close(both.delta(base)[slice(*SLICES[0])], lora.delta(), **CLOSE)
    torch.testing.assert_close(both.delta(base)[slice(*SLICES[1])], dora.delta(base[slice(*SLICES[1])]), **CLOSE)
    mixed = joined([(SLICES[0], lora), (SLICES[1], loha)])
    assert mixed.kind is Kind.FULL
    torch.testing.assert_close(mixed.delta()[slice(*SLICES[0])], lora.delta())
    torch.testing.assert_close(mixed.delta()[slice(*SLICES[1])], loha.delta())


def test_rounding_is_measured_in_the_update_itself(net: Net) -> None:
    for name in ["lora", "locon, tucker", "loha", "lokr", "full", "dora"]:
        sliced = slider_on(net, VARIANTS[name], "one slice").weights()
        weights = {target: weight.without_bias() for target, weight in sliced.items()}
        lost = total = 0.0
        for weight in weights.values():
            rounded = type(weight)({k: t.to(torch.bfloat16) for k, t in weight.tensors.items()}, weight.alpha)
            lost += float((rounded.update().double() - weight.update().double()).square().sum())
            total += float(weight.update().double().square().sum())
        assert rounding_error(weights, torch.bfloat16) == pytest.approx((lost / total) ** 0.5, rel=1e-3), name
    assert rounding_error({}, torch.bfloat16) == 0
