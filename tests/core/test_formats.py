"""Every format of a file means the same slider: read again by us, by PEFT and by LyCORIS; what cannot hold it says so.

Oracles: peft.PeftModel.from_pretrained and LyCORIS' own wrapper on the same net, and names written out by hand.
"""

import copy
import json
from pathlib import Path

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
    change_by_lycoris,
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
from slider_core.lora.algorithms.lora import DOWN, UP, LoraWeight
from slider_core.lora.combine import cut
from slider_core.lora.formats.diffusers import Diffusers
from slider_core.lora.formats.kohya import Kohya
from slider_core.lora.from_state import from_state
from slider_core.lora.keys import placed, with_ratio
from slider_core.lora.loader_notes import loader_notes
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import PEFT_CONFIG, PEFT_WEIGHTS, Slider, load_slider, save_slider

BLOCK = "transformer.single_transformer_blocks.0"
ATTENTION = f"{BLOCK}.attn.to_"
ALIASES = {
    "transformer.x_embedder": Target("conv3"),
    "transformer.context_embedder": Target("conv1"),
    "transformer.proj_out": Target("plain"),
    f"{ATTENTION}q": Target("fused", (0, WIDE)),
    f"{ATTENTION}k": Target("fused", (WIDE, 2 * WIDE)),
    f"{ATTENTION}v": Target("fused", (2 * WIDE, 3 * WIDE)),
    f"{BLOCK}.proj_out": Target("bare"),
    "lora_unet_blk_attn_to_q": Target("fused", (0, WIDE)),  # other programs': not for writing
    "blocks.0.attn.a_to_qkv": Target("fused"),
}
KINDS = {FileDtype.FP16: torch.float16, FileDtype.BF16: torch.bfloat16}
EXACT = (".alpha", ".dora_scale", ".lora_magnitude_vector")
FOR_ALL = (FileFormat.NATIVE, FileFormat.KOHYA, FileFormat.LYCORIS)  # they hold every algorithm
PEFTS = ("lora", "rslora", "locon", "dora", "lora, patterns", "dora, patterns")


def holds(form: FileFormat, chosen: Variant) -> bool:
    """By hand: PEFT's folders hold LoRA and DoRA, diffusers' names LoRA alone."""
    held = {FileFormat.DIFFUSERS: ("lora", "rslora", "locon"), FileFormat.PEFT: ("lora", "rslora", "locon", "dora")}
    return form in FOR_ALL or (chosen.spec.algorithm.value in held[form] and not chosen.spec.tucker)


def rotating() -> list[tuple[FileFormat, str, str]]:
    """Every variant in two of the formats that hold it, on places in turn."""
    cases = []
    for number, (name, chosen) in enumerate(VARIANTS.items()):
        forms = [form for form in FileFormat if holds(form, chosen)]
        for turn in range(2):
            cases.append((forms[(2 * number + turn) % len(forms)], name, list(PLACES)[(number + turn) % len(PLACES)]))
    return cases


@pytest.fixture
def net() -> Net:
    return make_net()


def loaded(net: Net, path: Path) -> Adapter:
    return Adapter.from_weights(net, load_slider(path).cut().weights, aliases=ALIASES)


@pytest.mark.parametrize(("form", "name", "place"), rotating())
def test_a_slider_goes_out_and_in_and_means_the_same(net: Net, form: FileFormat, name: str, place: str, tmp_path: Path) -> None:
    x = images()
    adapter = slider_on(net, VARIANTS[name], place)
    path = saved(tmp_path, adapter, form, aliases=ALIASES)
    for strengths in (STRENGTHS, [1.0] * len(x)):
        torch.testing.assert_close(live(net, loaded(net, path), x, strengths), live(net, adapter, x, strengths), **CLOSE)


@pytest.mark.parametrize("form", [FileFormat.DIFFUSERS, FileFormat.PEFT])
def test_what_a_format_cannot_hold_is_refused_with_a_way_out(net: Net, form: FileFormat, tmp_path: Path) -> None:
    for chosen in VARIANTS.values():
        if holds(form, chosen):
            continue
        with pytest.raises(SliderError, match=r"choose .*native") as fault:
            saved(tmp_path, slider_on(net, chosen), form, aliases=ALIASES)
        assert fault.value.code in ("format.only_lora", "format.no_dora", "format.bias")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "forms"), [("lora", tuple(FileFormat)), ("dora", (*FOR_ALL, FileFormat.PEFT))])
def test_a_slider_may_go_from_format_to_format(net: Net, name: str, forms: tuple[FileFormat, ...], tmp_path: Path) -> None:
    x = images()
    adapter = slider_on(net, VARIANTS[name], "one slice")
    path = saved(tmp_path, adapter, forms[-1], aliases=ALIASES)
    for form in forms:
        slider = load_slider(path)
        weights = with_ratio(placed(slider.cut().weights, net, ALIASES), net)
        path = tmp_path / f"again {form.value}"
        save_slider(path, Slider(weights, slider.info), form=form, aliases=ALIASES)
        torch.testing.assert_close(live(net, loaded(net, path), x), live(net, adapter, x), **CLOSE)


@pytest.mark.parametrize("name", ["lora", "dora", "loha", "lokr", "full", "glora"])
def test_a_lycoris_file_is_read_by_lycoris_itself(net: Net, name: str, tmp_path: Path) -> None:
    adapter = slider_on(net, VARIANTS[name], "one slice")
    change = change_by_lycoris(net, saved(tmp_path, adapter, FileFormat.LYCORIS))
    whole = load_slider(saved(tmp_path, adapter, FileFormat.NATIVE, overwrite=True)).weights
    for target, weight in whole.items():
        layer = net.get_submodule(target.path)
        torch.testing.assert_close(change[f"{target.path}.weight"].flatten(1), weight.delta(layer.weight).flatten(1), **CLOSE)


@pytest.mark.parametrize(("name", "place"), list(zip(PEFTS, [*PLACES, *PLACES], strict=True)))
def test_a_peft_folder_is_read_by_peft_itself(net: Net, name: str, place: str, tmp_path: Path) -> None:
    import peft

    x = images()
    adapter = slider_on(net, VARIANTS[name], place)
    expected = live(net, adapter, x, [1.0] * len(x))
    model = peft.PeftModel.from_pretrained(copy.deepcopy(net), saved(tmp_path, adapter, FileFormat.PEFT))
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected, **CLOSE)
        torch.testing.assert_close(model.merge_and_unload()(x), expected, **CLOSE)


@pytest.mark.parametrize(("use_rslora", "use_dora"), [(True, False), (False, True)])
def test_a_folder_that_peft_saved_is_read(net: Net, use_rslora: bool, use_dora: bool, tmp_path: Path) -> None:
    import peft

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
        expected = model(x)
    assert (expected - net(x)).abs().max() > 0.01
    for path in (tmp_path / "theirs", tmp_path / "theirs" / PEFT_WEIGHTS):
        torch.testing.assert_close(live(net, loaded(net, path), x, [1.0] * len(x)), expected, **CLOSE)


def test_a_dora_without_its_base_model_is_not_written_for_peft_or_lycoris(net: Net, tmp_path: Path) -> None:
    plain = load_slider(saved(tmp_path, slider_on(net, VARIANTS["dora"]), FileFormat.NATIVE))
    for form in (FileFormat.LYCORIS, FileFormat.PEFT):
        with pytest.raises(SliderError, match="connect the model") as fault:
            save_slider(tmp_path / "again", plain, form=form)
        assert fault.value.code == "lora.needs_base"
    assert [path.name for path in tmp_path.iterdir()] == ["slider.safetensors"]


@pytest.mark.parametrize(
    ("name", "form", "dtype"),
    [
        ("lora", FileFormat.KOHYA, FileDtype.FP16),
        ("dora", FileFormat.NATIVE, FileDtype.BF16),
        ("dora", FileFormat.PEFT, FileDtype.FP16),
        ("lokr, factor 2", FileFormat.LYCORIS, FileDtype.BF16),
    ],
)
def test_half_precision_keeps_what_multiplies_the_base_weight_exact(
    net: Net, name: str, form: FileFormat, dtype: FileDtype, tmp_path: Path
) -> None:
    adapter = slider_on(net, VARIANTS[name], "one slice")
    path = saved(tmp_path, adapter, form, dtype=dtype)
    state = load_file(path / PEFT_WEIGHTS if form is FileFormat.PEFT else path)
    for key, tensor in state.items():
        assert tensor.dtype == (torch.float32 if key.endswith(EXACT) else KINDS[dtype])
    assert any(key.endswith(EXACT) for key in state)
    x = images()
    effect = live(net, adapter, x)
    assert (live(net, loaded(net, path), x) - effect).norm() < 0.03 * (effect - net(x)).norm()


# --- slices


def whole_change(net: Net, path: Path, layer: str) -> torch.Tensor:
    """The change of a layer's weight in a file that is taken to name no slices."""
    state = {key: tensor for key, tensor in load_file(path).items() if f".{layer}." in key}
    weights, _ = from_state(state, "file")
    return next(iter(placed(weights, net).values())).delta(net.get_submodule(layer).weight)


@pytest.mark.parametrize("name", [algorithm.value for algorithm in Algorithm])
def test_slices_leave_other_rows_alone_and_come_back_as_slices(net: Net, name: str, tmp_path: Path) -> None:
    for place in ("one slice", "two slices"):
        path = saved(tmp_path, slider_on(net, VARIANTS[name], place), FileFormat.NATIVE, overwrite=True)
        delta = whole_change(net, path, "fused")
        assert delta.shape == (3 * WIDE, 24)
        for start in range(0, 3 * WIDE, WIDE):
            moved = any(target.rows and target.rows[0] <= start < target.rows[1] for target in PLACES[place])
            if moved:
                assert delta[start : start + WIDE].any(dim=1).all()
            else:
                assert delta[start : start + WIDE].abs().max() < 1e-6  # a DoRA's own norm divided by itself
        back = load_slider(path).cut().weights
        assert set(back) == set(PLACES[place])
        if name == "lora":
            assert {weight.rank for target, weight in back.items() if target.rows} == {2}, "no rank that is silent in its slice"


def test_a_lokr_whose_blocks_do_not_end_where_the_slice_does_means_the_same(net: Net, tmp_path: Path) -> None:
    x = images()
    with torch.no_grad():
        adapter = Adapter.create(net, [Target("fused", (3, 3 + WIDE))], VARIANTS["lokr, factor 2"].spec)
        for parameter in adapter.parameters():
            parameter.add_(0.3)
    for form in FOR_ALL:
        path = saved(tmp_path, adapter, form, overwrite=True)
        torch.testing.assert_close(live(net, loaded(net, path), x), live(net, adapter, x), **CLOSE)


def test_a_file_that_changes_rows_outside_its_slices_is_not_cut(net: Net, tmp_path: Path) -> None:
    weights = load_slider(saved(tmp_path, slider_on(net, VARIANTS["lora"]), FileFormat.NATIVE)).weights
    for slices in ([(0, 16)], [(0, 16), (32, 48)]):
        with pytest.raises(SliderError, match=r'"fused".*outside 0 to 16') as fault:
            cut(weights, {"fused": slices})
        assert fault.value.code == "lora.slice"


# --- names


@pytest.mark.parametrize(
    ("form", "stem", "ends"),
    [
        (FileFormat.NATIVE, "diffusion_model.blocks.0", ("lora_A.weight", "lora_B.weight", "alpha")),
        (FileFormat.KOHYA, "lora_unet_blocks_0", ("lora_down.weight", "lora_up.weight", "alpha")),
        (FileFormat.LYCORIS, "lycoris_blocks_0", ("lora_down.weight", "lora_up.weight", "alpha")),
        (FileFormat.PEFT, "base_model.model.blocks.0", ("lora_A.weight", "lora_B.weight")),
    ],
)
def test_the_names_of_a_file(form: FileFormat, stem: str, ends: tuple[str, ...], tmp_path: Path) -> None:
    net = nn.ModuleDict({"blocks": nn.ModuleDict({"0": nn.Linear(3, 4)})}).requires_grad_(False)
    path = saved(tmp_path, Adapter.create(net, [Target("blocks.0")], VARIANTS["lora"].spec), form)
    assert set(load_file(path / PEFT_WEIGHTS if form is FileFormat.PEFT else path)) == {f"{stem}.{end}" for end in ends}
    assert loaded(net, path).targets == (Target("blocks.0"),)


def test_a_peft_configuration_names_every_layer_and_its_own_size(net: Net, tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path, slider_on(net, VARIANTS["lora, patterns"]), FileFormat.PEFT) / PEFT_CONFIG).read_text())
    assert config["peft_type"] == "LORA"
    sizes = {path: config["rank_pattern"].get(f"^{path}$", config["r"]) for path in ("bare", "conv1", "conv3", "fused", "plain")}
    assert sizes == {"bare": 2, "conv1": 1, "conv3": 1, "fused": 2, "plain": 4}


def test_a_peft_folder_names_its_layers_alone_where_others_end_alike(tmp_path: Path) -> None:
    """PEFT takes a list of names for ends of paths: `q` would be `other.q` too."""
    import peft

    net = nn.ModuleDict({"q": nn.Linear(4, 4), "other": nn.ModuleDict({"q": nn.Linear(4, 4)})}).requires_grad_(False)
    adapter = trained(Adapter.create(net, [Target("q")], VARIANTS["lora"].spec), net)
    model = peft.PeftModel.from_pretrained(copy.deepcopy(net), saved(tmp_path, adapter, FileFormat.PEFT))
    assert isinstance(model.base_model.model["other"]["q"], nn.Linear)
    delta = model.base_model.model["q"].get_delta_weight("default")
    torch.testing.assert_close(delta, adapter.weights()[Target("q")].delta(), **CLOSE)


def test_a_slider_that_is_a_dora_in_part_is_no_peft_folder(net: Net, tmp_path: Path) -> None:
    plain = slider_on(net, VARIANTS["lora"]).weights()[Target("plain")]
    weights = slider_on(net, VARIANTS["dora"]).weights() | {Target("plain"): plain}
    with pytest.raises(SliderError) as fault:
        save_slider(tmp_path / "mixed", Slider(weights), form=FileFormat.PEFT)
    assert fault.value.code == "format.mixed_dora"
    save_slider(tmp_path / "mixed.safetensors", Slider(weights))
    x = images()
    again = live(net, loaded(net, tmp_path / "mixed.safetensors"), x)
    torch.testing.assert_close(again, live(net, Adapter.from_weights(net, weights), x), **CLOSE)


# --- kohya and diffusers


def test_a_unet_of_sd_1_is_named_by_diffusers_paths_and_that_of_sdxl_by_the_checkpoints() -> None:
    """sd-scripts trains the one as diffusers' class and the other as the released one."""
    path, theirs = "input_blocks.1.1.proj_in", "lora_unet_down_blocks_0_attentions_0_proj_in"
    weights = {Target(path): LoraWeight({DOWN: torch.ones(1, 3), UP: torch.ones(4, 1)}, 1.0)}
    aliases = {theirs: Target(path), "lora_unet_input_blocks_1_1_proj_in": Target(path)}
    for architecture, stem in (("SD15", theirs), ("SDXL", "lora_unet_input_blocks_1_1_proj_in")):
        assert {key.split(".")[0] for key in Kohya().write(weights, aliases, architecture)} == {stem}
        state = Diffusers().write(weights, aliases, architecture)
        assert set(state) == {f"{theirs}.{end}" for end in ("lora_down.weight", "lora_up.weight", "alpha")}
    for known, architecture in ((None, "SD15"), (None, ""), (aliases, "")):
        with pytest.raises(SliderError) as fault:
            Kohya().write(weights, known, architecture)
        assert fault.value.code == "format.no_aliases"


def fused_names(adapter: Adapter, left_out: tuple[str, ...] = ()) -> set[str]:
    """Ends of the names under which the fused layer is written, with ComfyUI's names but for some."""
    aliases = {name: target for name, target in ALIASES.items() if not name.endswith(left_out)}
    state = Diffusers().write(adapter.weights(), aliases, "Flux")
    return {key.removeprefix(ATTENTION).split(".lora")[0] for key in state if key.startswith(ATTENTION)}


def test_a_fused_layer_comes_apart_into_its_q_k_and_v(net: Net) -> None:
    adapter = slider_on(net, VARIANTS["lora"])
    assert fused_names(adapter) == {"q", "k", "v"}
    state = Diffusers().write(adapter.weights(), ALIASES, "Flux")
    change = torch.cat([state[f"{ATTENTION}{n}.lora_B.weight"] @ state[f"{ATTENTION}{n}.lora_A.weight"] for n in "qkv"])
    torch.testing.assert_close(change, adapter.weights()[Target("fused")].delta())
    assert not any("alpha" in key for key in state), "diffusers takes alpha from elsewhere"


@pytest.mark.parametrize(("place", "left_out", "names"), [("two slices", (), {"q", "v"}), ("one slice", ("to_v",), {"q", "k"})])
def test_slices_that_do_not_move_need_no_name(net: Net, place: str, left_out: tuple[str, ...], names: set[str]) -> None:
    assert fused_names(slider_on(net, VARIANTS["lora"], place), left_out) == names


def test_without_a_name_nothing_is_written(net: Net, tmp_path: Path) -> None:
    adapter = slider_on(net, VARIANTS["lora"])
    with pytest.raises(SliderError, match='"fused"') as fault:
        fused_names(adapter, ("to_v",))
    assert fault.value.code == "format.no_name"
    for aliases, code in (
        ({}, "format.no_name"),
        ({"lora_unet_plain": Target("plain")}, "format.no_name"),
        (None, "format.no_aliases"),
    ):
        with pytest.raises(SliderError) as fault:
            saved(tmp_path, adapter, FileFormat.DIFFUSERS, aliases=aliases)
        assert fault.value.code == code
    with pytest.raises(SliderError) as fault:
        Diffusers().write(adapter.weights(), ALIASES, "HunyuanDiT")
    assert fault.value.code == "format.no_names"
    foreign = load_slider(saved(tmp_path, adapter, FileFormat.KOHYA))
    with pytest.raises(SliderError) as fault:
        save_slider(tmp_path / "again.safetensors", foreign)
    assert fault.value.code == "slider.not_placed"


def test_what_comfyuis_loaders_cannot_do_is_said(net: Net) -> None:
    def notes(name: str, form: FileFormat = FileFormat.NATIVE) -> str:
        return " ".join(loader_notes(slider_on(net, VARIANTS[name]).weights(), form, ALIASES))

    assert notes("lora") == notes("lokr") == notes("lora", FileFormat.KOHYA) == ""
    assert "DoRA" in notes("dora")
    assert "GLoRA" in notes("glora")
    assert "fused layers" in notes("lora", FileFormat.DIFFUSERS)
    assert "native" in notes("lora", FileFormat.PEFT)
    assert "native" in notes("loha", FileFormat.LYCORIS)


def test_every_layer_of_the_net_has_a_name() -> None:
    assert {target.path for target in ALIASES.values()} == {target.path for target in (*OTHERS, Target("fused"))}
