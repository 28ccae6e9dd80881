"""Every format of a file means the same slider: read again by us, by PEFT and by LyCORIS; what cannot hold it says so.

Oracles: peft.PeftModel.from_pretrained and LyCORIS' own wrapper on the same net, and names written out by hand.
"""

import copy
import json
from pathlib import Path

import peft
import pytest
import torch
from core.nets import (
    CLOSE,
    OTHERS,
    PLACES,
    STRENGTHS,
    VARIANTS,
    WIDE,
    Net,
    Variant,
    images,
    live,
    make_net,
    saved,
    slider_on,
    trained,
)
from safetensors.torch import load_file
from torch import nn

from slider_core.config.checks import SliderError
from slider_core.config.lora import Algorithm, FileDtype, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.formats import cut, from_state, loader_notes, to_diffusers
from slider_core.lora.keys import placed, with_ratio
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, Slider, load_slider, save_slider

ALIASES = {
    "transformer.blk.conv_in": Target("conv3"),
    "transformer.blk.proj": Target("conv1"),
    "transformer.blk.up": Target("plain"),
    "transformer.blk.attn.to_q": Target("fused", (0, WIDE)),
    "transformer.blk.attn.to_k": Target("fused", (WIDE, 2 * WIDE)),
    "transformer.blk.attn.to_v": Target("fused", (2 * WIDE, 3 * WIDE)),
    "transformer.blk.attn.to_qkv": Target("fused"),
    "transformer.blk.attn.to_out.0": Target("bare"),
    "lora_unet_blk_attn_to_q": Target("fused", (0, WIDE)),  # another program's: not for writing
}
KINDS = {FileDtype.FP16: torch.float16, FileDtype.BF16: torch.bfloat16}
EXACT = (".alpha", ".dora_scale", ".lora_magnitude_vector")
FOR_ALL = (FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS)  # they hold every algorithm
WITH_LORA_ALONE = ("lora", "rslora", "locon")  # by the names of their variants' algorithms


def holds(form: FileFormat, chosen: Variant) -> bool:
    """By hand: PEFT's folders hold LoRA and DoRA, diffusers' names LoRA alone."""
    algorithm = chosen.spec.algorithm.value
    if form is FileFormat.PEFT:
        return algorithm in (*WITH_LORA_ALONE, "dora") and not chosen.spec.tucker
    if form is FileFormat.DIFFUSERS:
        return algorithm in WITH_LORA_ALONE and not chosen.spec.tucker
    return True


CASES = [(form, name) for form in FileFormat for name in VARIANTS]
HELD = [(form, name, place) for form, name in CASES if holds(form, VARIANTS[name]) for place in PLACES]
NOT_HELD = [(form, name) for form, name in CASES if not holds(form, VARIANTS[name])]
HALVES = [(n, f) for n in ("lora", "dora", "lokr, factor 2") for f in FOR_ALL] + [(n, FileFormat.PEFT) for n in ("lora", "dora")]


@pytest.fixture
def net() -> Net:
    return make_net()


def loaded(net: Net, path: Path) -> Adapter:
    return Adapter.from_weights(net, load_slider(path).weights, aliases=ALIASES)


@pytest.mark.parametrize(("form", "name", "place"), HELD, ids=[f"{f.value}-{n}-{p}" for f, n, p in HELD])
def test_a_slider_goes_out_and_in_and_means_the_same(net: Net, form: FileFormat, name: str, place: str, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS[name], place)
    path = saved(tmp_path, adapter, form, aliases=ALIASES)
    for strengths in (STRENGTHS, [1.0] * len(x)):
        torch.testing.assert_close(live(net, loaded(net, path), x, strengths), live(net, adapter, x, strengths), **CLOSE)


@pytest.mark.parametrize(("form", "name"), NOT_HELD, ids=[f"{f.value}-{n}" for f, n in NOT_HELD])
def test_what_a_format_cannot_hold_is_refused_with_a_way_out(net: Net, form: FileFormat, name: str, tmp_path: Path) -> None:
    with pytest.raises(SliderError, match=r"choose .*native") as fault:
        saved(tmp_path, slider_on(net, VARIANTS[name]), form, aliases=ALIASES)
    assert "\n" not in str(fault.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("again", FileFormat)
@pytest.mark.parametrize("form", FileFormat)
def test_a_slider_may_go_from_any_format_to_any_other(net: Net, form: FileFormat, again: FileFormat, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS["lora"], "one slice")
    first = load_slider(saved(tmp_path, adapter, form, aliases=ALIASES))
    second = Slider(placed(first.weights, net, ALIASES), first.info)
    path = tmp_path / f"again {again.value}"
    save_slider(path, second, form=again, aliases=ALIASES)
    torch.testing.assert_close(live(net, loaded(net, path), x), live(net, adapter, x), **CLOSE)


@pytest.mark.parametrize("form", [*FOR_ALL, FileFormat.PEFT])
def test_a_dora_may_go_from_any_format_to_any_other(net: Net, form: FileFormat, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS["dora"], "one slice")
    first = load_slider(saved(tmp_path, adapter, form))
    second = Slider(with_ratio(placed(first.weights, net), net), first.info)
    for again in (*FOR_ALL, FileFormat.PEFT):
        path = tmp_path / f"again {again.value}"
        save_slider(path, second, form=again)
        torch.testing.assert_close(live(net, loaded(net, path), x), live(net, adapter, x), **CLOSE)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if holds(FileFormat.PEFT, v)])
def test_a_peft_folder_is_read_by_peft_itself(net: Net, name: str, place: str, tmp_path: Path) -> None:
    x, adapter = images(), slider_on(net, VARIANTS[name], place)
    wanted = live(net, adapter, x, [1.0] * len(x))
    folder = saved(tmp_path, adapter, FileFormat.PEFT)
    model = peft.PeftModel.from_pretrained(copy.deepcopy(net), folder)
    with torch.no_grad():
        torch.testing.assert_close(model(x), wanted, **CLOSE)
        torch.testing.assert_close(model.merge_and_unload()(x), wanted, **CLOSE)


@pytest.mark.parametrize("use_rslora", [False, True], ids=["lora", "rslora"])
@pytest.mark.parametrize("use_dora", [False, True], ids=["plain", "dora"])
def test_a_folder_that_peft_saved_is_read(net: Net, use_rslora: bool, use_dora: bool, tmp_path: Path) -> None:
    x = images()
    config = peft.LoraConfig(
        r=4,
        lora_alpha=3,
        target_modules=["conv3", "plain", "fused"],
        use_rslora=use_rslora,
        use_dora=use_dora,
        rank_pattern={"plain": 2},
        alpha_pattern={"plain": 5},
        init_lora_weights=False,
    )
    model = peft.get_peft_model(copy.deepcopy(net), config)
    model.save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        wanted = model(x)
    assert (wanted - net(x)).abs().max() > 0.01
    for path in (tmp_path / "theirs", tmp_path / "theirs" / PEFT_WEIGHTS):
        adapter = Adapter.from_weights(net, load_slider(path).weights)
        torch.testing.assert_close(live(net, adapter, x, [1.0] * len(x)), wanted, **CLOSE)


def test_a_dora_without_its_base_model_is_not_written_for_peft_or_lycoris(net: Net, tmp_path: Path) -> None:
    plain = load_slider(saved(tmp_path, slider_on(net, VARIANTS["dora"]), FileFormat.NATIVE))
    for form in (FileFormat.LYCORIS, FileFormat.PEFT):
        with pytest.raises(SliderError, match="needs its base model to be written this way: connect the model"):
            save_slider(tmp_path / "again", plain, form=form)
    assert [p.name for p in tmp_path.iterdir()] == ["slider.safetensors"]


# --- number formats


@pytest.mark.parametrize(("name", "form"), HALVES, ids=[f"{n}-{f.value}" for n, f in HALVES])
@pytest.mark.parametrize("dtype", KINDS)
def test_half_precision_keeps_what_multiplies_the_base_weight_exact(
    net: Net, form: FileFormat, dtype: FileDtype, name: str, tmp_path: Path
) -> None:
    adapter = slider_on(net, VARIANTS[name], "one slice")
    path = saved(tmp_path, adapter, form, dtype=dtype)
    state = load_file(path / PEFT_WEIGHTS if form is FileFormat.PEFT else path)
    kinds = {key: value.dtype for key, value in state.items()}
    assert {k for k in kinds if k.endswith(EXACT)} or form is FileFormat.PEFT
    assert all(kind == (torch.float32 if key.endswith(EXACT) else KINDS[dtype]) for key, kind in kinds.items())
    x = images()
    size = (live(net, adapter, x) - net(x)).norm()
    assert (live(net, loaded(net, path), x) - live(net, adapter, x)).norm() < 0.03 * size


# --- slices


@pytest.mark.parametrize("name", [a.value for a in Algorithm])
def test_slices_are_written_full_height_and_come_back_as_slices(net: Net, name: str, tmp_path: Path) -> None:
    path = saved(tmp_path, slider_on(net, VARIANTS[name], "one slice"), FileFormat.NATIVE)
    back = load_slider(path)
    assert set(back.weights) == set(PLACES["one slice"])
    delta = whole_change(net, path, "fused")
    assert delta.shape == (3 * WIDE, 24)
    assert delta[: 2 * WIDE].any(dim=1).all()
    assert delta[2 * WIDE :].abs().max() < 1e-6  # a DoRA's own norm divided by itself


def whole_change(net: Net, path: Path, layer: str) -> torch.Tensor:
    """The change of a layer's weight in a file that is taken to know no slices."""
    state = {k: v for k, v in load_file(path).items() if f".{layer}." in k}
    weights, _ = from_state(state, "file")
    return next(iter(placed(weights, net).values())).delta(net.get_submodule(layer).weight)


@pytest.mark.parametrize("name", [a.value for a in Algorithm])
def test_two_slices_of_a_layer_leave_the_rows_between_them_alone_and_come_back_as_two(
    net: Net, name: str, tmp_path: Path
) -> None:
    adapter = slider_on(net, VARIANTS[name], "two slices")
    path = saved(tmp_path, adapter, FileFormat.NATIVE)
    delta = whole_change(net, path, "fused")
    assert delta[:WIDE].any()
    assert delta[WIDE : 2 * WIDE].abs().max() < 1e-6
    assert delta[2 * WIDE :].any()
    back = load_slider(path).weights
    assert set(back) == set(adapter.targets)
    if name == "lora":
        assert {w.rank for t, w in back.items() if t.rows} == {2}, "no rank that is silent in its slice"


@pytest.mark.parametrize("form", FOR_ALL)
def test_a_lokr_whose_blocks_do_not_end_where_the_slice_does_means_the_same(net: Net, form: FileFormat, tmp_path: Path) -> None:
    x, spec = images(), VARIANTS["lokr, factor 2"].spec
    with torch.no_grad():
        adapter = Adapter.create(net, [Target("fused", (3, 3 + WIDE))], spec)
        for p in adapter.parameters():
            p.add_(0.3)
    path = saved(tmp_path, adapter, form)
    torch.testing.assert_close(live(net, loaded(net, path), x), live(net, adapter, x), **CLOSE)


def test_a_file_that_changes_rows_outside_its_slices_is_refused(net: Net, tmp_path: Path) -> None:
    path = saved(tmp_path, slider_on(net, VARIANTS["lora"], "whole layers"), FileFormat.NATIVE)
    slider = load_slider(path)
    with pytest.raises(SliderError, match='"fused": the file changes rows outside 0 to 16'):
        cut(slider.weights, {"fused": [(0, 16)]})
    with pytest.raises(SliderError, match='"fused": the file changes rows outside 0 to 16 and 32 to 48'):
        cut(slider.weights, {"fused": [(0, 16), (32, 48)]})


# --- names


def test_the_names_of_a_kohya_file(net: Net, tmp_path: Path) -> None:
    state = load_file(saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.KOHYA))
    layers = ("conv3", "conv1", "plain", "fused", "bare")
    assert set(state) == {f"lora_unet_{n}.{end}" for n in layers for end in ("lora_down.weight", "lora_up.weight", "alpha")}


@pytest.mark.parametrize(
    ("form", "prefix"),
    [(FileFormat.NATIVE, "diffusion_model."), (FileFormat.KOHYA, "lora_unet_"), (FileFormat.LYCORIS, "lycoris_")],
)
def test_dots_of_a_path_are_kept_or_become_underscores(form: FileFormat, prefix: str, tmp_path: Path) -> None:
    net = nn.ModuleDict({"blocks": nn.ModuleDict({"0": nn.Linear(3, 4)})}).requires_grad_(False)
    adapter = Adapter.create(net, [Target("blocks.0")], VARIANTS["lora"].spec)
    state = load_file(saved(tmp_path, adapter, form))
    assert {k.rsplit(".lora_", 1)[0] for k in state if "alpha" not in k} == {
        prefix + ("blocks.0" if form is FileFormat.NATIVE else "blocks_0")
    }
    assert loaded(net, tmp_path / "slider.safetensors").targets == (Target("blocks.0"),)


def test_a_peft_configuration_names_every_layer_and_its_own_size(net: Net, tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path, slider_on(net, VARIANTS["lora, patterns"]), FileFormat.PEFT) / PEFT_CONFIG).read_text())
    assert config["peft_type"] == "LORA"
    sizes = {path: config["rank_pattern"].get(f"^{path}$", config["r"]) for path in ("bare", "conv1", "conv3", "fused", "plain")}
    assert sizes == {"bare": 2, "conv1": 1, "conv3": 1, "fused": 2, "plain": 4}


def test_a_peft_folder_names_its_layers_alone_where_others_end_alike(tmp_path: Path) -> None:
    """PEFT takes a list of names for ends of paths: `q` would be `other.q` too."""
    net = nn.ModuleDict({"q": nn.Linear(4, 4), "other": nn.ModuleDict({"q": nn.Linear(4, 4)})}).requires_grad_(False)
    adapter = trained(Adapter.create(net, [Target("q")], VARIANTS["lora"].spec), net)
    model = peft.PeftModel.from_pretrained(copy.deepcopy(net), saved(tmp_path, adapter, FileFormat.PEFT))
    assert isinstance(model.base_model.model["other"]["q"], nn.Linear)
    delta = model.base_model.model["q"].get_delta_weight("default")
    torch.testing.assert_close(delta, adapter.weights()[Target("q")].delta(), **CLOSE)


def test_a_slider_that_is_a_dora_in_part_is_no_peft_folder(net: Net, tmp_path: Path) -> None:
    weights = slider_on(net, VARIANTS["dora"]).weights() | {
        Target("plain"): slider_on(net, VARIANTS["lora"]).weights()[Target("plain")]
    }
    with pytest.raises(SliderError, match="mixed: choose native or kohya"):
        save_slider(tmp_path / "mixed", Slider(weights), form=FileFormat.PEFT)
    save_slider(tmp_path / "mixed.safetensors", Slider(weights))
    x = images()
    found = live(net, loaded(net, tmp_path / "mixed.safetensors"), x)
    torch.testing.assert_close(found, live(net, Adapter.from_weights(net, weights), x), **CLOSE)


# --- diffusers


def fused_names(net: Net, adapter: Adapter, aliases: dict[str, Target]) -> set[str]:
    state = to_diffusers(adapter.weights(), aliases)
    return {key.removesuffix(".lora_A.weight") for key in state if key.endswith("lora_A.weight") and "attn.to_" in key}


def test_a_fused_layer_comes_apart_into_its_q_k_and_v(net: Net) -> None:
    adapter = slider_on(net, VARIANTS["lora"])
    state = to_diffusers(adapter.weights(), ALIASES)
    attn = "transformer.blk.attn.to_"
    assert fused_names(net, adapter, ALIASES) == {f"{attn}{n}" for n in ("q", "k", "v", "out.0")}
    change = torch.cat([state[f"{attn}{n}.lora_B.weight"] @ state[f"{attn}{n}.lora_A.weight"] for n in "qkv"])
    torch.testing.assert_close(change, adapter.weights()[Target("fused")].delta())
    assert not any("alpha" in key for key in state), "diffusers takes alpha from elsewhere"


def test_slices_that_do_not_move_are_left_out(net: Net) -> None:
    adapter = slider_on(net, VARIANTS["lora"], "two slices")
    assert fused_names(net, adapter, ALIASES) == {f"transformer.blk.attn.to_{n}" for n in ("q", "v", "out.0")}


def test_a_layer_without_names_for_its_slices_goes_by_the_whole(net: Net) -> None:
    aliases = {name: target for name, target in ALIASES.items() if not target.rows}
    adapter = slider_on(net, VARIANTS["lora"], "one slice")
    assert fused_names(net, adapter, aliases) == {"transformer.blk.attn.to_qkv", "transformer.blk.attn.to_out.0"}


def test_slices_that_do_not_reach_every_moved_row_give_way_to_the_whole(net: Net) -> None:
    aliases = {name: target for name, target in ALIASES.items() if not name.endswith("to_v")}
    adapter = slider_on(net, VARIANTS["lora"])
    assert fused_names(net, adapter, aliases) == {"transformer.blk.attn.to_qkv", "transformer.blk.attn.to_out.0"}


def test_moved_rows_without_any_name_are_refused(net: Net) -> None:
    aliases = {name: target for name, target in ALIASES.items() if not name.endswith(("to_v", "to_qkv"))}
    with pytest.raises(SliderError, match=r'"fused" has no diffusers name .* choose native or kohya'):
        to_diffusers(slider_on(net, VARIANTS["lora"]).weights(), aliases)
    two = slider_on(net, VARIANTS["lora"], "one slice")
    assert fused_names(net, two, aliases) == {f"transformer.blk.attn.to_{n}" for n in ("q", "k", "out.0")}


def test_a_model_without_diffusers_names_is_refused(net: Net, tmp_path: Path) -> None:
    adapter = slider_on(net, VARIANTS["lora"])
    for aliases in ({}, {"lora_unet_plain": Target("plain")}):
        with pytest.raises(SliderError, match="no diffusers names for this architecture: choose native or kohya"):
            saved(tmp_path, adapter, FileFormat.DIFFUSERS, aliases=aliases)
    with pytest.raises(SliderError, match="with the model connected"):
        saved(tmp_path, adapter, FileFormat.DIFFUSERS)


def test_a_slider_that_is_not_placed_is_not_written(net: Net, tmp_path: Path) -> None:
    foreign = load_slider(saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.KOHYA))
    assert not foreign.placed
    with pytest.raises(SliderError, match="connect the model"):
        save_slider(tmp_path / "again.safetensors", foreign)


# --- ComfyUI's loaders


def test_what_comfyuis_loaders_cannot_do_is_said(net: Net) -> None:
    def notes(name: str, form: FileFormat = FileFormat.NATIVE) -> str:
        return " ".join(loader_notes(slider_on(net, VARIANTS[name]).weights(), form, ALIASES))

    assert notes("lora") == notes("lokr") == notes("lora", FileFormat.KOHYA) == ""
    assert "leaves a DoRA's scale out" in notes("dora")
    assert "cannot run a GLoRA" in notes("glora")
    assert "skips slices of fused layers" in notes("lora", FileFormat.DIFFUSERS)
    assert "Save as native for ComfyUI" in notes("lora", FileFormat.PEFT)
    assert "Save as native for ComfyUI" in notes("loha", FileFormat.LYCORIS)


def test_every_layer_of_the_net_is_told_of() -> None:
    assert {t.path for t in ALIASES.values()} == {t.path for t in (*OTHERS, Target("fused"))}
