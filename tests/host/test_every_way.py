"""One slider in every way, on weights in every number format: training, sweep, live and merged answer alike."""

import pytest
import torch
from products import FULL
from zoo.animals import ONE_PER_FAMILY, tiny
from zoo.every_way import EXACT, FORMATS, HELD, LIMITS, measure_every_way
from zoo.model import build_tiny
from zoo.quantised import put

IN_TURN = (
    ("ZImage", "fp32"),
    ("WAN21_T2V", "fp16"),
    ("MiniMaxH3", "bf16"),
    ("CogVideoX_T2V", "fp8"),  # a layer of the prompt goes on in fp8 itself
    ("LTXV", "scaled fp8"),
    ("SD15", "int8"),
    ("Flux", "nvfp4"),
    ("LTXV", "nvfp4 product"),
    ("ACEStep", "mxfp8 product"),
    ("WAN21_T2V", "GGUF"),
)
FUSED = ("WAN21_T2V", "LTXV", "MiniMaxH3")  # their int8 feed-forward is read past its layer while sampling


def products() -> list[tuple[str, str, str]]:
    """(model, number format, preset): a few in turn; every family in a full run."""
    if not FULL:
        return [(title, form, "all") for title, form in IN_TURN]
    return [(entry.title, form, preset) for entry in ONE_PER_FAMILY for form in FORMATS for preset in ("auto", "all")]


@pytest.mark.parametrize(("title", "form", "preset"), products())
def test_every_way_answers_alike(title: str, form: str, preset: str, pack) -> None:
    outcome = measure_every_way(pack.core, tiny(title), form, preset)
    beside, merged = LIMITS[form]
    assert max(outcome.sweep, outcome.live) < beside + 2 * outcome.rounding
    if "prompt" not in outcome.past:  # whose layers only a merged slider moves
        assert outcome.merged < merged + 2 * outcome.rounding
        assert outcome.held > HELD


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


@pytest.mark.parametrize("algorithm", ["lora", "lokr", "dora"])
def test_layers_that_comfyui_has_not_loaded_yet_are_chosen_and_trained_by_their_sizes(algorithm: str, pack, monkeypatch) -> None:
    """As with dynamic VRAM, where a Linear has no weight before its file is read."""
    import comfy.memory_management
    import comfy.ops

    core, patcher = pack.core, build_tiny(tiny("Flux"))
    module = patcher.model.diffusion_model
    select, names = core("layers.select").select, core("with_comfy.layer_names")
    spec = core("config.lora").AdapterSpec(rank=2, algorithm=algorithm)
    wanted, aliases = core("layers.select").survey(module, spec), names.named_layers(patcher)
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    loaded = {}
    for path in {target.path for target in wanted.targets}:
        layer = module.get_submodule(path)
        loaded[path] = layer.weight
        empty = comfy.ops.disable_weight_init.Linear(layer.in_features, layer.out_features, layer.bias is not None)
        assert empty.weight is None
        put(module, path, empty)
    assert core("layers.select").survey(module, spec) == wanted
    assert select(module, "all")
    for name, target in names.named_layers(patcher).items():
        assert aliases[name] == target
    create = core("lora.slider_adapter").Adapter.create
    if algorithm == "dora":
        with pytest.raises(core("config.checks").SliderError) as refused:
            create(module, wanted.targets, spec)
        assert refused.value.code == "layer.weight_unreadable"
        return
    adapter = create(module, wanted.targets, spec)
    for target, weight in adapter.weights().items():
        height, width = loaded[target.path].shape
        start, stop = target.rows or (0, height)
        assert tuple(weight.layer_shape()) == (stop - start, width)
    slider = core("lora.slider_file").Slider(adapter.weights())
    assert list(slider.on(module).weights) == list(wanted.targets)
    assert core("backend").few_numbers(torch.empty(2, device="meta")) == b"", "the mark of a weight that is not loaded"
