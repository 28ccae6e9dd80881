"""The names of layers in LoRA files, held against other programs' own lists: ComfyUI's tables and renamings, and diffusers'
conversions of released checkpoints (where diffusers is installed), which say row by row what becomes of a layer.
"""

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from zoo import guide
from zoo.animals import FULL, TINY, tiny
from zoo.model import build_full, build_tiny

RANK = 2
CONVERSIONS = {  # of ComfyUI's class: diffusers' function
    **dict.fromkeys(("Flux", "FluxSchnell"), "convert_flux_transformer_checkpoint_to_diffusers"),
    **dict.fromkeys(("WAN21_T2V", "WAN21_I2V", "WAN21_Vace"), "convert_wan_transformer_to_diffusers"),
    **dict.fromkeys(("CosmosT2V", "CosmosT2IPredict2"), "convert_cosmos_transformer_checkpoint_to_diffusers"),
    "SD3": "convert_sd3_transformer_checkpoint_to_diffusers",
    "AuraFlow": "convert_auraflow_transformer_checkpoint_to_diffusers",
    "Flux2": "convert_flux2_transformer_checkpoint_to_diffusers",
    "Chroma": "convert_chroma_transformer_checkpoint_to_diffusers",
    "GenmoMochi": "convert_mochi_transformer_checkpoint_to_diffusers",
    "LTXV": "convert_ltx_transformer_checkpoint_to_diffusers",
    "LTXAV": "convert_ltx2_transformer_to_diffusers",
    "HunyuanVideo": "convert_hunyuan_video_transformer_to_diffusers",
    "Lumina2": "convert_lumina2_to_diffusers",
    "ZImage": "convert_z_image_transformer_checkpoint_to_diffusers",
    "HiDream": "convert_hidream_transformer_to_diffusers",
    "Krea2": "convert_krea2_transformer_checkpoint_to_diffusers",
    "ErnieImage": "convert_ernie_image_transformer_checkpoint_to_diffusers",
    "MiniMaxH3": "convert_minimax_h3_transformer_checkpoint_to_diffusers",
}
TEXT_DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "hidden_size": 16, "cross_attention_dim": 8, "sample_size": 8}
CLASSES = {  # diffusers' class of a model for which it has no conversion, its configuration, layers without a counterpart
    "PixArtAlpha": ("PixArtTransformer2DModel", {}, ""),
    "HunyuanDiT": ("HunyuanDiT2DModel", TEXT_DIT | {"num_layers": 40, "in_channels": 4, "patch_size": 2}, ""),
    "CogVideoX_T2V": ("CogVideoXTransformer3DModel", {"num_layers": 1}, ""),
    "StableAudio": ("StableAudioDiTModel", {"num_layers": 1}, ""),
    "StableAudio3": ("StableAudio3DiTModel", {}, ""),
    "MiniMaxMusic3": ("MiniMaxMusic3Transformer1DModel", {}, "time_proj"),
    "ACEStep15": ("AceStepTransformer1DModel", {}, "proj_out_conv"),
    "LongCatImage": ("LongCatImageTransformer2DModel", {"num_layers": 1, "num_single_layers": 1}, ""),
    "HunyuanImage21": ("HunyuanImageTransformer2DModel", {}, ""),
    "HunyuanVideo15": ("HunyuanVideo15Transformer3DModel", {}, "cond_type_embed"),
    "Kandinsky5": ("Kandinsky5Transformer3DModel", {}, ""),
    "QwenImage": ("QwenImageTransformer2DModel", {"num_layers": 1}, ""),
    "JoyImage": ("JoyImageEditTransformer3DModel", {}, ""),
    "Ideogram4": ("Ideogram4Transformer2DModel", {}, ""),
    "SVD_img2vid": ("UNetSpatioTemporalConditionModel", {}, ""),
    "WAN22_Animate": ("WanAnimateTransformer3DModel", {"num_layers": 1}, "motion_encoder."),
}
OTHER_NAMES = {  # in the files of trainers that no list here speaks of: what they call a layer, and ComfyUI
    "WAN21_I2V": (
        ("lora_unet_blocks_0_self_attn_q", "blocks.0.self_attn.q"),  # musubi-tuner
        ("lora_unet__blocks_1_ffn_2", "blocks.1.ffn.2"),  # Wan Fun
        ("lycoris_blocks_0_attn2_add_k_proj", "blocks.0.cross_attn.k_img"),  # SimpleTuner
        ("pipe.dit.blocks.0.cross_attn.o", "blocks.0.cross_attn.o"),  # DiffSynth
        ("transformer.blocks.0.ffn.net.0.proj", "blocks.0.ffn.0"),
        ("base_model.model.blocks.0.attn1.to_out.0", "blocks.0.self_attn.o"),
    ),
    "Flux": (
        ("lora_unet_double_blocks_0_img_attn_qkv", "double_blocks.0.img_attn.qkv"),  # sd-scripts
        ("lora_transformer_single_transformer_blocks_0_proj_out", "single_blocks.0.linear2"),  # OneTrainer
        ("blocks.0.attn.a_to_qkv", "double_blocks.0.img_attn.qkv"),  # DiffSynth
        ("single_blocks.1.to_qkv_mlp", "single_blocks.1.linear1"),
        ("double_blocks.0.processor.proj_lora2", "double_blocks.0.txt_attn.proj"),  # XLabs
        ("transformer.double_blocks.0.txt_attn.qkv.1", "double_blocks.0.txt_attn.qkv"),  # OneTrainer's OMI
        ("transformer.single_blocks.1.linear1.3", "single_blocks.1.linear1"),
    ),
    "HunyuanVideo": (
        ("lora_unet_double_blocks_0_img_mlp_fc1", "double_blocks.0.img_mlp.0"),  # musubi-tuner
        ("transformer.double_blocks.0.img_attn_proj", "double_blocks.0.img_attn.proj"),  # diffusion-pipe
        ("lora_unet_single_transformer_blocks_0_proj_out", "single_blocks.0.linear2"),  # FramePack in musubi-tuner
        ("transformer.double_blocks.0.img_attn_qkv.2", "double_blocks.0.img_attn.qkv"),  # OneTrainer's OMI
    ),
    "SD3": (("transformer.joint_blocks.0.x_block.attn2.qkv.2", "joint_blocks.0.x_block.attn2.qkv"),),
    "PixArtSigma": (("transformer.blocks.0.cross_attn.kv_linear.1", "blocks.0.cross_attn.kv_linear"),),
    "HunyuanDiT": (
        ("transformer.blocks.0.attn1.to_out.0", "blocks.0.attn1.out_proj"),
        ("transformer.blocks.0.ff.net.2", "blocks.0.mlp.fc2"),
    ),
    "CogVideoX_T2V": (("transformer.transformer_blocks.0.attn1.to_out.0", "blocks.0.attn_out"),),
    "Anima": (("net.blocks.0.self_attn.q_proj", "blocks.0.self_attn.q_proj"),),
    "SD15": (
        (
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0",
            "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0",
        ),
        ("unet.mid_block.attentions.0.proj_in", "middle_block.1.proj_in"),
    ),
}


def names_of(pack: Any, patcher: Any) -> Any:
    aliases = pack.core("with_comfy.layer_names").layer_aliases(patcher)
    return pack.core("lora.keys").LayerNames(patcher.model.diffusion_model, aliases)


@pytest.mark.parametrize("title", [entry.title for entry in TINY])
def test_comfyuis_own_table_is_known_with_its_slices_and_swaps(title: str, pack) -> None:
    import comfy.lora

    patcher = build_tiny(tiny(title))
    module = patcher.model.diffusion_model
    known, layers = names_of(pack, patcher), pack.core("layers.layer")
    placeable = {*layers.layers(module), *layers.norms(module)}
    for name, entry in comfy.lora.model_lora_keys_unet(patcher.model, {}).items():
        key, part, function = (*entry, None)[:3] if isinstance(entry, tuple) else (entry, None, None)
        path = key.removeprefix("diffusion_model.").removesuffix(".weight")
        height = module.get_submodule(path).weight.shape[0] if path in placeable else 0
        grouped = part is not None and height < 3 * part[2]  # which the table gets wrong
        if path not in placeable or grouped or (part is not None and part[1] + part[2] > height):
            continue
        found = known.find(name)
        assert found is not None, name
        rows = part and (part[1], part[1] + part[2])
        assert (found.target, found.swapped) == (layers.Target(path, rows), function is not None), name
    the_guides_list_means_layers_or_the_error_names_what_does(pack, patcher)


def the_guides_list_means_layers_or_the_error_names_what_does(pack: Any, patcher: Any) -> None:
    names = {
        *pack.core("with_comfy.layer_names").named_layers(patcher),
        *pack.core("layers.layer").layers(patcher.model.diffusion_model),
    }
    if any(f".{name}".endswith(f".{ending}") for name in names for ending in guide.NAMES):
        assert guide.layers_of(pack.core, patcher)
        return
    with pytest.raises(pack.core("config.checks").SliderError, match='"auto"') as fault:
        guide.layers_of(pack.core, patcher)
    assert fault.value.code == "target.names_unmatched"


@pytest.mark.parametrize("title", OTHER_NAMES)
def test_other_trainers_names_are_known(title: str, pack) -> None:
    known = names_of(pack, build_tiny(next(entry for entry in TINY if entry.name == title)))
    for name, path in OTHER_NAMES[title]:
        found = known.find(name)
        assert found is not None, name
        assert found.target.path == path


def numbered(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The state of a model in which every row is its number, and every tensor a million apart: small, whatever the model."""
    for number, (key, tensor) in enumerate(module.state_dict().items()):
        rows = torch.arange(tensor.shape[0] if tensor.ndim else 1) + number * 10**7
        yield key, rows.reshape(-1, *[1] * max(0, tensor.ndim - 1))


class Kept(dict):
    """A state that is whole after a conversion has taken all of it: diffusers looks into it again."""

    def pop(self, key: str, *otherwise: Any) -> Any:
        return self.get(key, *otherwise)


SCALES = ("Flux", "FluxSchnell", "Chroma")  # whose norms have a scale in the released checkpoints
HUNYUAN = (  # ComfyUI's names, those of the released checkpoints
    *(("_mod.lin.", "_mod.linear."), (".modulation.lin.", ".modulation.linear.")),
    *(("_attn.norm.query_norm.", "_attn_q_norm."), ("_attn.norm.key_norm.", "_attn_k_norm.")),
    *((".norm.query_norm.", ".q_norm."), (".norm.key_norm.", ".k_norm.")),
    *(("_attn.qkv.", "_attn_qkv."), ("_attn.proj.", "_attn_proj."), ("mlp.0.", "mlp.fc1."), ("mlp.2.", "mlp.fc2.")),
    *(("time_in.in_layer.", "time_in.mlp.0."), ("time_in.out_layer.", "time_in.mlp.2.")),
    *(("guidance_in.in_layer.", "guidance_in.mlp.0."), ("guidance_in.out_layer.", "guidance_in.mlp.2.")),
    *(("t_embedder.in_layer.", "t_embedder.mlp.0."), ("t_embedder.out_layer.", "t_embedder.mlp.2.")),
    *(("c_embedder.in_layer.", "c_embedder.linear_1."), ("c_embedder.out_layer.", "c_embedder.linear_2.")),
)


def official_name(key: str, name: str) -> str:
    """What a tensor is called in the released checkpoint."""
    if name in SCALES and ("_norm.weight" in key or ".norms." in key):
        return key.replace(".weight", ".scale")
    if name == "HunyuanVideo":
        for ours, theirs in HUNYUAN:
            key = key.replace(ours, theirs)
    return f"net.{key}" if name == "CosmosT2V" else key


@pytest.mark.parametrize("entry", [entry for entry in FULL if entry.name in CONVERSIONS], ids=lambda entry: entry.title)
def test_diffusers_conversion_says_the_same_row_by_row(entry: Any, pack) -> None:
    conversions = pytest.importorskip("diffusers.loaders.single_file_utils", exc_type=ImportError)
    model = build_full(entry)
    module = model.diffusion_model
    state = dict(numbered(module))
    official = {official_name(key, entry.name): tensor.clone() for key, tensor in state.items()}
    try:
        state_of = Kept(official) if entry.name == "CosmosT2V" else official
        converted = getattr(conversions, CONVERSIONS[entry.name])(state_of, config={})
    except KeyError as lacking:
        pytest.skip(f"diffusers converts no such variant: {lacking}")
    known = names_of(pack, SimpleNamespace(model=model))
    tried = 0
    for key, rows in converted.items():
        path = key.removesuffix(".weight")
        layer = None if path == key else known.find(f"transformer.{path}")
        if layer is None:
            assert path == key or is_no_layer(state, int(rows.flatten()[0]), module, pack), key
            continue
        ours = state[f"{layer.target.path}.weight"]
        ours = ours[slice(*layer.target.rows or (None,))]
        assert torch.equal(rows.flatten(), (ours.roll(len(ours) // 2, 0) if layer.swapped else ours).flatten()), key
        tried += 1
    assert tried > 20


@pytest.mark.parametrize("title", CLASSES)
def test_every_layer_of_diffusers_class_is_known(title: str, pack) -> None:
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    name, config, nobodys = CLASSES[title]
    with torch.device("meta"):
        theirs = getattr(diffusers, name)(**config)
    known = names_of(pack, SimpleNamespace(model=build_full(next(entry for entry in FULL if entry.name == title))))
    tried = 0
    for path, layer in theirs.named_modules():
        if isinstance(layer, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)):
            tried += 1
            assert known.find(f"transformer.{path}") or path.startswith(nobodys or ("-",)), path
    assert tried > 12


def test_svd_with_the_weights_under_our_names_is_diffusers_svd(pack) -> None:
    """SVD's 12 + 12 blocks, narrow, with three frames; diffusers' class has every layer's weights, copied by name."""
    diffusers = pytest.importorskip("diffusers", exc_type=ImportError)
    narrow = {"model_channels": 64, "context_dim": 16}
    entry = next(entry for entry in TINY if entry.name == "SVD_img2vid")
    full = next(entry for entry in FULL if entry.name == "SVD_img2vid")
    patcher = build_tiny(replace(entry, config=full.config | narrow))
    ours = patcher.model.diffusion_model
    channels, heads = (64, 128, 256, 256), (1, 2, 4, 4)
    theirs = diffusers.UNetSpatioTemporalConditionModel(
        block_out_channels=channels, num_attention_heads=heads, cross_attention_dim=16
    )
    known, state = names_of(pack, patcher), ours.state_dict()
    for path, parameter in theirs.named_parameters():
        layer, end = path.rsplit(".", 1)
        if end == "mix_factor":
            parameter.data.zero_()  # half of space, half of time
        else:
            parameter.data.copy_(state[f"{known.find(f'unet.{layer}').target.path}.{end}"])
    for path, parameter in ours.named_parameters():
        parameter.data.mul_(not path.endswith("mix_factor"))
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(3, 8, 16, 16, generator=draw)
    picture, added = torch.randn(1, 1, 16, generator=draw), torch.tensor([[6.0, 127.0, 0.02]])
    sines = theirs.add_time_proj(added.flatten()).reshape(1, -1)
    with torch.no_grad():
        expected = theirs(noise[None], torch.tensor(0.5), picture, added).sample[0]
        frames = {"num_video_frames": 3, "image_only_indicator": torch.zeros(1, 3)}
        got = ours(noise, torch.full((3,), 0.5), picture.repeat(3, 1, 1), sines.repeat(3, 1), **frames)
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def is_no_layer(state: dict[str, torch.Tensor], number: int, module: torch.nn.Module, pack: Any) -> bool:
    """Whether the tensor of that number is of no layer that a LoRA can be for."""
    path = list(state)[number // 10**7].removesuffix(".weight")
    return path not in {*pack.core("layers.layer").layers(module), *pack.core("layers.layer").norms(module)}


def test_text_encoders_are_known_by_all_of_comfyuis_prefixes(pack) -> None:
    import comfy.lora

    read = pack.core("lora.from_state")

    class Clip:
        """The weights of every encoder that ComfyUI's table speaks of."""

        def __init__(self, *encoders: str) -> None:
            self.encoders = encoders

        def state_dict(self) -> dict[str, None]:
            layers = (
                "text_model.encoder.layers.0.mlp.fc1",
                "model.layers.0.mlp.up_proj",
                "bert.x",
                "text_projection",
                "encoder.x",
            )
            return {f"{encoder}.transformer.{layer}.weight": None for encoder in self.encoders for layer in layers}

    for encoders in (
        ("clip_l",),
        ("clip_g",),
        ("clip_h",),
        ("clip_l", "clip_g", "t5xxl"),
        ("clip_l", "t5xxl"),
        ("hydit_clip",),
        ("qwen",),
    ):
        names = comfy.lora.model_lora_keys_clip(Clip(*encoders), {})
        assert names
        for name in names:
            assert read.TEXT_ENCODER.match(name), name


# --- files that ComfyUI renames as a whole


def factors(name: str, height: int, width: int, pair: tuple[str, str]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(len(name))
    down, up = torch.randn(RANK, width, generator=generator), torch.randn(height, RANK, generator=generator)
    return {f"{name}{pair[0]}": down, f"{name}{pair[1]}": up}


def uso(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = {}
    places = {
        "double_blocks.0.processor.qkv_lora1": "double_blocks.0.img_attn.qkv",
        "double_blocks.0.processor.proj_lora2": "double_blocks.0.txt_attn.proj",
        "single_blocks.0.processor.proj_lora": "single_blocks.0.linear2",
    }
    pair = (".down.weight", ".up.weight")
    for name, path in places.items():
        state |= factors(name, *module.get_submodule(path).weight.shape, pair)
    hidden = module.get_submodule("single_blocks.0.linear1").weight.shape[1]
    state |= factors("single_blocks.0.processor.qkv_lora", 3 * hidden, hidden, pair)
    for told_by in ("single_blocks.37.processor.qkv_lora", "double_blocks.18.processor.qkv_lora2"):
        state |= factors(told_by, 3 * hidden, hidden, pair)
    return state


def bfl_control(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    state = {}
    height, width = module.get_submodule("img_in").weight.shape
    state |= factors("img_in", height, 2 * width, (".lora_A.weight", ".lora_B.weight"))
    for path in ("double_blocks.0.img_attn.qkv", "single_blocks.0.linear2"):
        state |= factors(path, *module.get_submodule(path).weight.shape, (".lora_A.weight", ".lora_B.weight"))
        state[f"{path}.lora_B.bias"] = torch.randn(len(module.get_submodule(path).weight))
    return state | {
        "single_blocks.0.norm.key_norm.scale": torch.ones(module.get_submodule("single_blocks.0.norm.key_norm").weight.shape)
    }


def wan_fun(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    shape = module.get_submodule("blocks.0.cross_attn.k").weight.shape
    return factors("lora_unet__blocks_0_cross_attn_k", *shape, (".lora_down.weight", ".lora_up.weight"))


RENAMED = {"Flux USO": ("Flux", uso, 2), "Flux control": ("Flux", bfl_control, 3), "Wan Fun": ("WAN21_T2V", wan_fun, 0)}


@pytest.mark.parametrize("name", RENAMED)
def test_files_that_comfyui_renames_do_what_they_do_there(name: str, pack, tmp_path) -> None:
    import comfy.lora_convert

    title, make, left_out = RENAMED[name]
    patcher = build_tiny(next(entry for entry in TINY if entry.name == title))
    state = make(patcher.model.diffusion_model)
    save_file(state, tmp_path / "theirs.safetensors")
    slider = pack.core("lora.slider_file").load_slider(tmp_path / "theirs.safetensors")
    slider = pack.core("with_comfy.layer_names").on_model(slider, patcher)
    assert len(slider.left_out) == left_out
    renamed = comfy.lora_convert.convert_lora(dict(state))
    no_sign = ("set_weight", "reshape_weight")
    renamed = {key: value for key, value in renamed.items() if not key.endswith(no_sign) and "model.img_in." not in key}
    same_as_stock(pack, patcher, slider, renamed)


def same_as_stock(pack: Any, patcher: Any, slider: Any, state: dict[str, torch.Tensor]) -> None:
    """Merged at -1.5 the slider changes the parameters as ComfyUI's loader does with the tensors of that file."""
    import comfy.sd

    merged = pack.core("with_comfy.merged_slider").merged_into_model(patcher, slider, -1.5)
    stock, _ = comfy.sd.load_lora_for_models(patcher, None, state, -1.5, 0)
    ours, theirs = changes(merged), changes(stock)
    assert ours.keys() == theirs.keys()
    for key, change in theirs.items():
        torch.testing.assert_close(ours[key], change, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


def changes(patcher: Any) -> dict[str, torch.Tensor]:
    """What the patches of a model change each parameter by."""
    import comfy.lora

    parameters = patcher.model.state_dict()
    changed = {}
    for key, patches in patcher.patches.items():
        base = parameters[key].float()
        changed[key] = comfy.lora.calculate_weight(patches, base.clone(), key) - base
    return changed


# --- what ComfyUI's own nodes and other trainers write beside the factors


def beside(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """As Train LoRA and Extract and Save LoRA write it: a LoRA, differences of biases and of norms."""
    state: dict[str, torch.Tensor] = {}
    for name, p in module.named_parameters():
        layer, _, kind = name.rpartition(".")
        noise = 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(state)))
        if kind == "bias":
            state[f"diffusion_model.{layer}.diff_b"] = noise
        elif kind == "weight" and p.ndim == 1:
            state[f"diffusion_model.{layer}.diff"] = noise
        elif kind == "weight" and p.ndim == 2:
            state |= factors(f"diffusion_model.{layer}", *p.shape, (".lora_A.weight", ".lora_B.weight"))
    return state


@pytest.mark.parametrize("title", ["SD15", "Flux", "WAN21_I2V", "ZImage", "QwenImage", "LTXV"])
def test_biases_and_norms_act_as_in_comfyuis_loader_merged_and_live(title: str, pack, tmp_path) -> None:
    patcher = build_tiny(next(entry for entry in TINY if entry.name == title))
    module = patcher.model.diffusion_model
    state = beside(module)
    save_file(state, tmp_path / "theirs.safetensors")
    slider = pack.core("lora.slider_file").load_slider(tmp_path / "theirs.safetensors")
    slider = pack.core("with_comfy.layer_names").on_model(slider, patcher)
    layers = pack.core("layers.layer")
    placeable = {*layers.layers(module), *layers.norms(module)}
    assert {part.name.removesuffix(".diff_b") for part in slider.left_out}.isdisjoint(placeable)
    kept = {
        key: value
        for key, value in state.items()
        if key.removeprefix("diffusion_model.").rpartition(".")[0].removesuffix(".lora_A").removesuffix(".lora_B") in placeable
    }
    same_as_stock(pack, patcher, slider, kept)


SLICED = {"Flux": "transformer.transformer_blocks.0.attn.to_{}", "ZImage": "transformer.layers.0.attention.to_{}"}


@pytest.mark.parametrize("title", SLICED)
def test_a_dora_on_slices_acts_as_in_comfyuis_loader(title: str, pack, tmp_path) -> None:
    """As OneTrainer writes it: each of q, k and v has a dora_scale of its own."""
    patcher = build_tiny(next(entry for entry in TINY if entry.name == title))
    known = names_of(pack, patcher)
    state = {}
    for number, letter in enumerate("qkv"):
        name = SLICED[title].format(letter)
        target = known.find(name).target
        base = patcher.model.diffusion_model.get_submodule(target.path).weight[slice(*target.rows)]
        state |= factors(name, *base.shape, (".lora_A.weight", ".lora_B.weight"))
        state[f"{name}.dora_scale"] = base.norm(dim=1, keepdim=True) * (0.8 + 0.2 * number)
    save_file(state, tmp_path / "theirs.safetensors")
    slider = pack.core("lora.slider_file").load_slider(tmp_path / "theirs.safetensors")
    same_as_stock(pack, patcher, slider, state)
    live = pack.core("with_comfy.live_slider").beside_model(patcher, slider, 1.0, pack.core("use.schedule").Window())
    assert pack.core("with_comfy.live_slider").live_sliders(live)
