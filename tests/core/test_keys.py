"""LoRAs of other trainers are read by whatever name they give a layer, and one that is for another model is refused whole.

Every file here is written out by hand: one down and one up matrix, whose product is the oracle.
"""

from pathlib import Path

import pytest
import torch
from core.faults import refused
from core.nets import CLOSE, make_net, randn
from safetensors.torch import save_file
from torch import nn

from slider_core.config.lora import AdapterSpec
from slider_core.layers.layer import Target
from slider_core.lora.algorithm import LayerWeight
from slider_core.lora.algorithms.full import FullWeight
from slider_core.lora.algorithms.lokr import LokrWeight
from slider_core.lora.algorithms.lora import LoraWeight
from slider_core.lora.algorithms.lora_dora import DoraWeight
from slider_core.lora.combine import by_layer
from slider_core.lora.file_left_out import Reason
from slider_core.lora.from_state import from_state
from slider_core.lora.keys import LayerNames, found, placed
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import load_slider

RANK, IN, OUT, THIRD = 2, 8, 12, 4
PATH, FUSED, OUTPUT = "input_blocks.1.1.attn1.to_q", "double_blocks.0.qkv", "input_blocks.1.1.attn1.to_out.0"
DIFFUSERS = "down_blocks.0.attentions.0.attn1.to_q"  # the name of PATH there
OUT_DIFFUSERS = "down_blocks.0.attentions.0.attn1.to_out.0"
A, B = randn(RANK, IN, seed=1), randn(OUT, RANK, seed=2)
ALIASES = {
    f"unet.{DIFFUSERS}": Target(PATH),
    f"lora_unet_{DIFFUSERS.replace('.', '_')}": Target(PATH),
    f"unet.{OUT_DIFFUSERS}": Target(OUTPUT),
    "unet.down_blocks.0.attentions.0.attn1.processor.to_q": Target(PATH),  # ComfyUI's table has the old names too
    "unet.down_blocks.0.attentions.0.attn1.processor.to_out": Target(OUTPUT),
    "transformer.blocks.0.to_q": Target(FUSED, (0, THIRD)),
    "transformer.blocks.0.to_k": Target(FUSED, (THIRD, 2 * THIRD)),
}
AB, DOWN_UP = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
NAMES = [
    *[
        (f"{prefix}{PATH}", AB)
        for prefix in ("", "diffusion_model.", "base_model.model.", "unet.base_model.model.", "transformer.")
    ],
    *[(f"{prefix}{PATH}", DOWN_UP) for prefix in ("", "model.diffusion_model.")],
    (f"diffusion_model.{DIFFUSERS}", AB),  # ai-toolkit
    (f"base_model.model.{DIFFUSERS}", AB),  # PEFT on the diffusers model
    (f"unet.{DIFFUSERS}", AB),
    (f"unet.{DIFFUSERS}", (".lora_A.default.weight", ".lora_B.default.weight")),
    (f"unet.{DIFFUSERS}", (".lora.down.weight", ".lora.up.weight")),
    (f"unet.{DIFFUSERS}", (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")),
    (f"unet.{DIFFUSERS.replace('.to_q', '.processor.to_q')}", ("_lora.down.weight", "_lora.up.weight")),
    (DIFFUSERS, AB),
    (f"lora_unet_{PATH.replace('.', '_')}", DOWN_UP),  # kohya
    (f"lora_unet_{DIFFUSERS.replace('.', '_')}", DOWN_UP),
    (f"lora_transformer_{DIFFUSERS.replace('.', '_')}", DOWN_UP),  # OneTrainer
    (f"lycoris_{PATH.replace('.', '_')}", DOWN_UP),
    (f"lycoris_{DIFFUSERS.replace('.', '_')}", DOWN_UP),  # SimpleTuner
]
OUTPUT_NAMES = [
    (f"unet.{OUT_DIFFUSERS}", AB),
    ("unet.down_blocks.0.attentions.0.attn1.processor.to_out", ("_lora.down.weight", "_lora.up.weight")),
    (f"lora_unet_{OUT_DIFFUSERS.replace('.', '_')}", DOWN_UP),
]
ALPHAS = {"no alpha": None, "alpha 1": torch.tensor(1.0), "a whole number": torch.tensor(3)}
TEXT = [
    "lora_te_text_model_x",
    "lora_te1_text_model_x",
    "lora_te2_x",
    "text_encoder.x",
    "text_encoders.t5.x",
    "te1.x",
    "text_encoder_2.x",
]


def model() -> nn.Module:
    root = nn.Module()
    for path in (PATH, FUSED, OUTPUT, "time_embed.0"):
        at = root
        *parents, last = path.split(".")
        for part in parents:
            if not hasattr(at, part):
                at.add_module(part, nn.Module())
            at = getattr(at, part)
        at.add_module(last, nn.Linear(IN, OUT).requires_grad_(False))
    return root


def lora(stem: str, pair: tuple[str, str] = AB, down: torch.Tensor = A, up: torch.Tensor = B) -> dict[str, torch.Tensor]:
    return {stem + pair[0]: down.clone(), stem + pair[1]: up.clone()}


def read(state: dict[str, torch.Tensor], tmp_path: Path) -> dict[Target, LayerWeight]:
    save_file(state, tmp_path / "theirs.safetensors")
    return placed(load_slider(tmp_path / "theirs.safetensors").weights, model(), ALIASES, "theirs")


@pytest.mark.parametrize("alpha", ALPHAS.values(), ids=ALPHAS)
def test_a_layer_is_found_by_any_of_its_names(alpha: torch.Tensor | None, tmp_path: Path) -> None:
    for stem, pair in NAMES:
        state = lora(stem, pair) | ({} if alpha is None else {f"{stem}.alpha": alpha})
        weights = read(state, tmp_path)
        assert list(weights) == [Target(PATH)], stem
        scale = 1.0 if alpha is None else float(alpha) / RANK
        torch.testing.assert_close(weights[Target(PATH)].delta(), scale * B @ A, msg=stem)


def test_an_output_projection_is_found_with_and_without_its_zero(tmp_path: Path) -> None:
    for stem, pair in OUTPUT_NAMES:
        assert list(read(lora(stem, pair), tmp_path)) == [Target(OUTPUT)], stem


def test_a_name_of_a_fused_layers_part_means_its_rows(tmp_path: Path) -> None:
    up = B[:THIRD]
    weights = read(lora("transformer.blocks.0.to_q", up=up) | lora("transformer.blocks.0.to_k", up=2 * up), tmp_path)
    assert set(weights) == {Target(FUSED, (0, THIRD)), Target(FUSED, (THIRD, 2 * THIRD))}
    delta = by_layer(weights)[FUSED].delta()
    torch.testing.assert_close(delta, torch.cat([up @ A, 2 * up @ A, torch.zeros(THIRD, IN)]))


def test_a_text_encoders_layers_are_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "both.safetensors"
    for stem in TEXT:
        save_file(lora(f"diffusion_model.{PATH}") | lora(stem, DOWN_UP), path)
        slider = load_slider(path)
        assert list(slider.weights) == [Target(PATH)]
        (part,) = slider.left_out
        assert (part.name, part.reason) == (stem, Reason.TEXT_ENCODER)
        assert part.size == pytest.approx(float((B @ A).norm()), rel=1e-5)
        assert "50%" in slider.summary()


def test_layers_that_the_model_lacks_are_left_out_and_named_and_an_error_where_none_fits(tmp_path: Path) -> None:
    gone = {}
    for n in range(4):
        gone |= lora(f"lora_unet_mid_{n}", DOWN_UP)
    save_file(gone | lora(f"lora_unet_{PATH.replace('.', '_')}", DOWN_UP), tmp_path / "theirs.safetensors")
    slider = load_slider(tmp_path / "theirs.safetensors").on(model())
    assert list(slider.weights) == [Target(PATH)]
    assert [(part.name, part.reason) for part in slider.left_out] == [(f"lora_unet_mid_{n}", Reason.NO_PLACE) for n in range(4)]
    assert "80% of the file's layers and 89% of the norm" in slider.summary()  # 2 of sqrt(5)
    with refused("lora.strict", "theirs", "4 parts", "lora_unet_mid_0"):
        load_slider(tmp_path / "theirs.safetensors", strict=True).on(model())
    with refused("lora.other_model", "theirs", "4 layers", "lora_unet_mid_0"):
        read(gone, tmp_path)


def test_without_the_aliases_a_foreign_name_is_another_models(tmp_path: Path) -> None:
    save_file(lora(f"unet.{DIFFUSERS}"), tmp_path / "theirs.safetensors")
    with refused("lora.other_model", DIFFUSERS):
        Adapter.from_weights(model(), load_slider(tmp_path / "theirs.safetensors").weights)
    adapter = Adapter.from_weights(model(), load_slider(tmp_path / "theirs.safetensors").weights, aliases=ALIASES)
    assert adapter.targets == (Target(PATH),)


def test_a_layer_that_a_file_gives_twice_is_refused(tmp_path: Path) -> None:
    for second in (f"unet.{DIFFUSERS}", f"lora_unet_{PATH.replace('.', '_')}"):
        with refused("lora.layer_twice", "theirs", PATH):
            read(lora(f"diffusion_model.{PATH}") | lora(second), tmp_path)


def test_factors_of_another_models_layer_are_refused_by_name(tmp_path: Path) -> None:
    for down, up in ((A[:, :5], B), (A, B[:7])):
        with refused("lora.shape", "theirs", PATH, (OUT, IN), tuple((down if up is B else up).shape)):
            read(lora(PATH, down=down.contiguous(), up=up.contiguous()), tmp_path)


def test_what_the_layer_does_not_have_is_refused(tmp_path: Path) -> None:
    net = model()
    with refused("lora.shape", PATH):
        tensors = {"lora_down.weight": A, "lora_up.weight": B, "lora_mid.weight": torch.ones(RANK, RANK, 3)}
        placed({Target(PATH): LoraWeight(tensors)}, net)
    for rows in ((4, 4), (0, OUT + 1)):
        with refused("lora.rows", PATH):
            placed({Target(PATH, rows): LoraWeight({"lora_down.weight": A, "lora_up.weight": B})}, net)
    for first in ((5, 4), (3, 3)):
        with refused("lora.shape", PATH, "lokr_w1", first):
            placed({Target(PATH): LokrWeight({"lokr_w1": randn(*first), "lokr_w2": randn(3, 2)})}, net)


def test_a_bias_that_the_layer_lacks_is_left_out() -> None:
    net = model()
    net.get_submodule(PATH).bias = None
    difference = {"diff": randn(OUT, IN), "diff_b": randn(OUT)}
    weights, left_out = found({Target(PATH): FullWeight(difference)}, net)
    assert set(weights[Target(PATH)].tensors) == {"diff"}
    assert [part.name for part in left_out] == [f"{PATH}.diff_b"]
    assert left_out[0].size == pytest.approx(float(difference["diff_b"].norm()))


def test_a_models_own_path_comes_before_anothers_name() -> None:
    known = LayerNames(model(), {PATH: Target("time_embed.0")}).find(PATH)
    assert known is not None
    assert known.target == Target(PATH)


# --- DoRA: PEFT and LyCORIS write the norm of the changed weight, ComfyUI reads a scale of the base weight


def by_hand(weight: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """DoRA, eq. 5 of Liu et al. 2024: each row of W + B A, with the norm that was learned."""
    changed = weight + B @ A
    return changed * (magnitude / changed.norm(dim=1))[:, None]


@pytest.mark.parametrize("suffix", ["", ".weight", ".default.weight"])
def test_pefts_magnitudes_mean_what_they_mean_there(suffix: str, tmp_path: Path) -> None:
    net, magnitude = model(), randn(OUT, seed=3).abs() + 0.5
    stem = f"base_model.model.{PATH}"
    save_file(lora(stem) | {f"{stem}.lora_magnitude_vector{suffix}": magnitude}, tmp_path / "dora.safetensors")
    weight = placed(load_slider(tmp_path / "dora.safetensors").weights, net)[Target(PATH)]
    base = net.get_submodule(PATH).weight
    torch.testing.assert_close(weight.delta(base), by_hand(base, magnitude) - base)
    assert weight.tensors["dora_scale"].shape == (OUT, 1)


def test_another_trainers_dora_scale_means_what_comfyuis_loader_makes_of_it(tmp_path: Path) -> None:
    """comfy/weight_adapter/base.py, weight_decompose: (W + B A) * dora_scale / |W|, row by row."""
    net, scale = model(), randn(OUT, 1, seed=3).abs() + 0.5
    save_file(lora(PATH) | {f"{PATH}.dora_scale": scale}, tmp_path / "dora.safetensors")
    weight = placed(load_slider(tmp_path / "dora.safetensors").weights, net)[Target(PATH)]
    base = net.get_submodule(PATH).weight
    torch.testing.assert_close(base + weight.delta(base), (base + B @ A) * scale / base.norm(dim=1, keepdim=True))
    adapter = Adapter.from_weights(net, {Target(PATH): weight})
    torch.testing.assert_close(adapter.weights()[Target(PATH)].delta(base), weight.delta(base), **CLOSE)
    for wrong in (torch.ones(7, 1), torch.ones(2, IN)):
        with refused("lora.shape", PATH, OUT, wrong.numel()):
            placed({Target(PATH): DoraWeight({"lora_down.weight": A, "lora_up.weight": B, "dora_scale": wrong})}, net)


def test_a_dora_that_scales_columns_cannot_be_trained_on(tmp_path: Path) -> None:
    save_file(lora(PATH) | {f"{PATH}.dora_scale": torch.ones(1, IN)}, tmp_path / "dora.safetensors")
    with refused("dora.columns"):
        Adapter.from_weights(model(), load_slider(tmp_path / "dora.safetensors").weights)


def test_a_magnitude_without_its_base_model_has_no_meaning_yet() -> None:
    weights, _ = from_state(lora(PATH) | {f"{PATH}.lora_magnitude_vector": torch.ones(OUT)}, "file")
    with refused("lora.needs_base"):
        weights[Target(PATH)].delta()


def test_a_foreign_lora_can_be_trained_on_as_our_own() -> None:
    net = make_net()
    weights, _ = from_state(lora("diffusion_model.plain", down=randn(RANK, 16), up=randn(24, RANK)), "file")
    adapter = Adapter.from_weights(net, weights)
    fresh = Adapter.create(net, [Target("plain")], AdapterSpec(rank=RANK))
    assert [p.shape for p in adapter.parameters()] == [p.shape for p in fresh.parameters()]
    assert all(p.requires_grad for p in adapter.parameters())
