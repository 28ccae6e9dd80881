"""One slider in every way, on weights in every number format: training, sweep, live and merged answer alike."""

import pytest
import torch
from products import FULL
from zoo.animals import ONE_PER_FAMILY, tiny
from zoo.every_way import EXACT, FORMATS, LIMITS, measure_every_way

IN_TURN = (
    ("ZImage", "fp32"),
    ("WAN21_T2V", "fp16"),
    ("MiniMaxH3", "bf16"),
    ("ZImage", "fp8"),
    ("LTXV", "scaled fp8"),
    ("SD15", "int8"),
    ("WAN21_T2V", "GGUF"),
)
NOT_ON_A_CPU = ("nvfp4", "mxfp8")  # comfy-kitchen packs them for a GPU only
FUSED = ("WAN21_T2V", "LTXV", "MiniMaxH3")  # their int8 feed-forward is read past its layer while sampling


def products() -> list[tuple[str, str, str]]:
    """(model, number format, preset): a few in turn; every family in a full run."""
    if not FULL:
        return [(title, form, "all") for title, form in IN_TURN]
    forms = [form for form in FORMATS if form not in NOT_ON_A_CPU]
    return [(entry.title, form, preset) for entry in ONE_PER_FAMILY for form in forms for preset in ("auto", "all")]


@pytest.mark.parametrize(("title", "form", "preset"), products())
def test_every_way_answers_alike(title: str, form: str, preset: str, pack) -> None:
    outcome = measure_every_way(pack.core, tiny(title), form, preset)
    beside, merged = LIMITS[form]
    assert max(outcome.sweep, outcome.live) < beside + 2 * outcome.rounding
    if "prompt" not in outcome.past:  # whose layers only a merged slider moves
        assert outcome.merged < merged + 2 * outcome.rounding


@pytest.mark.parametrize("title", FUSED)
def test_layers_that_an_int8_kernel_reads_are_reached(title: str, pack) -> None:
    outcome = measure_every_way(pack.core, tiny(title), "int8", "all")
    assert "fused kernels" in outcome.past
    assert max(outcome.sweep, outcome.live) < 1e-3


@pytest.mark.parametrize("respects", [True, False], ids=["weight_function respected", "raw weights"])
def test_a_host_that_fuses_z_images_feed_forward_is_survived(respects: bool, pack, monkeypatch) -> None:
    """As ComfyUI 0.38 does, in sampling and in training alike."""
    import comfy.ops
    from comfy.ldm.lumina.model import FeedForward
    from torch.nn import functional

    def fused(self: object, x: torch.Tensor) -> torch.Tensor:
        w1, w2, w3 = (
            comfy.ops.cast_bias_weight(layer, x)[0] if respects else layer.weight for layer in (self.w1, self.w2, self.w3)
        )
        return functional.linear(functional.silu(functional.linear(x, w1)) * functional.linear(x, w3), w2)

    monkeypatch.setattr(FeedForward, "forward", fused)
    outcome = measure_every_way(pack.core, tiny("ZImage"), "fp32", "all")
    assert max(outcome.sweep, outcome.live, outcome.merged) < EXACT
    assert "feed_forward.w1" in outcome.past


@pytest.mark.parametrize("title", ["ZImage", "SD15"])
def test_a_host_whose_linears_never_call_hooks_is_survived(title: str, pack, monkeypatch) -> None:
    """As fp16 under --fast fp16_accumulation, where the weight goes to a function of its own."""
    import comfy.ops
    from torch.nn import functional

    monkeypatch.setattr(
        comfy.ops.disable_weight_init.Linear, "__call__", lambda self, x: functional.linear(x, self.weight, self.bias)
    )
    outcome = measure_every_way(pack.core, tiny(title), "fp32", "auto")
    assert max(outcome.sweep, outcome.live, outcome.merged) < EXACT
    assert "past the layers" in outcome.past
