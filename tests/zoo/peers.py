"""The zoo's tiny models as diffusers' classes: the same weights by diffusers' own conversion of checkpoints, and its LoRA loader.

A LoRA file is loaded by the `load_lora_weights` of the pipeline that a model is for; what it changes every weight by is compared
with diffusers' conversion of the weights that our own merge gives. diffusers does all of the naming.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

from .animals import tiny
from .model import build_tiny

Core = Callable[[str], ModuleType]  # gives a module of slider_core by name: the pack's own in a test
STRENGTHS = (1.0, -1.0, 2.5)
ONLY_HERE = {"ZImage": ("t_embedder.",)}  # layers whose size in the tiny model is another in diffusers' class

HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}
DEEP = {"num_layers": 2, "num_single_layers": 2}
FLUX = HEADS | DEEP | {"joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6)}
UNET = {
    "sample_size": 8, "block_out_channels": (32, 64), "layers_per_block": 1, "cross_attention_dim": 16,
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}  # fmt: skip
XL = UNET | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True, "attention_head_dim": (1, 1), "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 16 + 6 * 256,
}  # fmt: skip
WAN = {
    "num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 16, "freq_dim": 16, "ffn_dim": 48, "num_layers": 2,
}  # fmt: skip

SCALES = {r"(_norm|distilled_guidance_layer\.norms\.\d+)\.weight$": r"\1.scale"}
RELEASED = {  # what ComfyUI renames when it loads a checkpoint
    "convert_flux_transformer_checkpoint_to_diffusers": SCALES,
    "convert_chroma_transformer_checkpoint_to_diffusers": SCALES,
    "convert_hunyuan_video_transformer_to_diffusers": {
        r"_attn\.(qkv|proj)\.": r"_attn_\1.", r"(_mod|\.modulation)\.lin\.": r"\1.linear.", r"mlp\.0\.": "mlp.fc1.",
        r"mlp\.2\.": "mlp.fc2.",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Peer:
    """diffusers' class for a tiny model: `config` of it, `pipeline` whose loader is used, `convert` a function of
    diffusers.loaders.single_file_utils ("" where names are alike); `changed`: another configuration of ours."""

    model: str
    config: Mapping[str, Any]
    pipeline: str
    convert: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict)
    sizes: Mapping[int, int] = field(default_factory=dict)  # that the function takes for granted -> those of the tiny model


PEERS = {
    "SD15": Peer("UNet2DConditionModel", UNET, "StableDiffusionPipeline", "convert_ldm_unet_checkpoint"),
    "SDXL": Peer("UNet2DConditionModel", XL, "StableDiffusionXLPipeline", "convert_ldm_unet_checkpoint"),
    "SD3 3.5 medium": Peer(
        "SD3Transformer2DModel",
        {
            "sample_size": 8, "num_layers": 2, "attention_head_dim": 64, "num_attention_heads": 2, "joint_attention_dim": 16,
            "caption_projection_dim": 128, "pooled_projection_dim": 16, "pos_embed_max_size": 8, "dual_attention_layers": (0,),
            "qk_norm": "rms_norm",
        },
        "StableDiffusion3Pipeline",
        "convert_sd3_transformer_checkpoint_to_diffusers",
    ),
    "Flux": Peer(
        "FluxTransformer2DModel",
        FLUX | {"in_channels": 16, "pooled_projection_dim": 16, "guidance_embeds": True},
        "FluxPipeline",
        "convert_flux_transformer_checkpoint_to_diffusers",
        {"mlp_ratio": 4.0},
        {3072: 32},
    ),
    "FluxSchnell": Peer(
        "FluxTransformer2DModel",
        FLUX | {"in_channels": 16, "pooled_projection_dim": 16},
        "FluxPipeline",
        "convert_flux_transformer_checkpoint_to_diffusers",
        {"mlp_ratio": 4.0},
        {3072: 32},
    ),
    "Chroma": Peer(
        "ChromaTransformer2DModel",
        FLUX | {"in_channels": 16, "approximator_hidden_dim": 16, "approximator_layers": 1},
        "ChromaPipeline",
        "convert_chroma_transformer_checkpoint_to_diffusers",
        {"mlp_ratio": 4.0},
        {3072: 32},
    ),
    "Flux2 dev": Peer(
        "Flux2Transformer2DModel",
        FLUX | {"in_channels": 8, "mlp_ratio": 2.0, "axes_dims_rope": (4, 4, 4, 4)},
        "Flux2Pipeline",
        "convert_flux2_transformer_checkpoint_to_diffusers",
    ),
    "AuraFlow": Peer(
        "AuraFlowTransformer2DModel",
        {
            "sample_size": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 16,
            "num_attention_heads": 2, "joint_attention_dim": 16, "caption_projection_dim": 32, "pos_embed_max_size": 64,
        },
        "AuraFlowPipeline",
        "convert_auraflow_transformer_checkpoint_to_diffusers",
    ),
    "Lumina2": Peer(
        "Lumina2Transformer2DModel",
        {
            "sample_size": 8, "hidden_size": 48, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 4,
            "num_kv_heads": 2, "multiple_of": 16, "ffn_dim_multiplier": 1.0, "axes_dim_rope": (4, 4, 4), "cap_feat_dim": 16,
        },
        "Lumina2Pipeline",
        "convert_lumina2_to_diffusers",
        {"ffn_dim_multiplier": 4.0},
        {2304: 48, 768: 24},
    ),
    "ZImage": Peer(
        "ZImageTransformer2DModel",
        {
            "dim": 256, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 16, "n_kv_heads": 16, "cap_feat_dim": 16,
            "axes_dims": [4, 6, 6],
        },
        "ZImagePipeline",
        "convert_z_image_transformer_checkpoint_to_diffusers",
        {"ffn_dim_multiplier": 2.6641, "multiple_of": 2},
    ),
    "WAN21_T2V": Peer("WanTransformer3DModel", WAN, "WanPipeline", "convert_wan_transformer_to_diffusers"),
    "WAN21_I2V": Peer(
        "WanTransformer3DModel",
        WAN | {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 24},
        "WanImageToVideoPipeline",
        "convert_wan_transformer_to_diffusers",
    ),
    "WAN22_T2V": Peer(
        "WanTransformer3DModel",
        WAN | {"in_channels": 48, "out_channels": 48},
        "WanPipeline",
        "convert_wan_transformer_to_diffusers",
    ),
    "QwenImage": Peer(
        "QwenImageTransformer2DModel",
        HEADS | {"num_layers": 1, "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6)},
        "QwenImagePipeline",
    ),
    "LTXV": Peer(
        "LTXVideoTransformer3DModel",
        HEADS | {"in_channels": 8, "out_channels": 8, "num_layers": 2, "cross_attention_dim": 32, "caption_channels": 16},
        "LTXPipeline",
        "convert_ltx_transformer_checkpoint_to_diffusers",
    ),
    "LTXAV LTX-2": Peer(
        "LTX2VideoTransformer3DModel",
        HEADS
        | {
            "in_channels": 8, "out_channels": 8, "num_layers": 2, "cross_attention_dim": 32, "caption_channels": 16,
            "audio_cross_attention_dim": 16, "audio_attention_head_dim": 8, "audio_num_attention_heads": 2,
        },
        "LTX2Pipeline",
        "convert_ltx2_transformer_to_diffusers",
    ),
    "Kandinsky5": Peer(
        "Kandinsky5Transformer3DModel",
        {
            "in_visual_dim": 16, "out_visual_dim": 16, "visual_cond": True, "in_text_dim": 16, "in_text_dim2": 16, "time_dim": 16,
            "model_dim": 32, "ff_dim": 32, "num_text_blocks": 1, "num_visual_blocks": 2, "axes_dims": (4, 6, 6),
        },
        "Kandinsky5T2VPipeline",
    ),
    "ErnieImage": Peer(
        "ErnieImageTransformer2DModel",
        {
            "hidden_size": 32, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 32, "text_in_dim": 16,
            "rope_axes_dim": (4, 6, 6),
        },
        "ErnieImagePipeline",
    ),
    "HunyuanVideo": Peer(
        "HunyuanVideoTransformer3DModel",
        HEADS
        | DEEP
        | {
            "in_channels": 4, "out_channels": 4, "mlp_ratio": 2.0, "text_embed_dim": 16, "pooled_projection_dim": 16,
            "rope_axes_dim": (4, 6, 6),
        },
        "HunyuanVideoPipeline",
        "convert_hunyuan_video_transformer_to_diffusers",
        sizes={3072: 32},
    ),
    "HiDream": Peer(
        "HiDreamImageTransformer2DModel",
        HEADS
        | {
            "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 1, "num_single_layers": 1,
            "caption_channels": [16, 16], "text_emb_dim": 16, "axes_dims_rope": (8, 4, 4), "max_resolution": (16, 16),
            "llama_layers": [0, 1],
        },
        "HiDreamImagePipeline",
        "convert_hidream_transformer_to_diffusers",
    ),
    "Krea2": Peer(
        "Krea2Transformer2DModel",
        {
            "in_channels": 64, "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
            "timestep_embed_dim": 16, "text_hidden_dim": 16, "num_text_layers": 2, "text_num_attention_heads": 2,
            "text_num_key_value_heads": 2, "intermediate_size": 256, "axes_dims_rope": (4, 6, 6),
        },
        "Krea2Pipeline",
        "convert_krea2_transformer_checkpoint_to_diffusers",
    ),
}  # fmt: skip


def _released(key: str, convert: str) -> str:
    """A parameter of ComfyUI as the released checkpoint calls it, which diffusers converts."""
    for ours, theirs in RELEASED.get(convert, {}).items():
        key = re.sub(ours, theirs, key)
    return key


def _split(sizes: Mapping[int, int]) -> Callable[..., Any]:
    """torch.split with the sizes of the tiny model for those of the released one; what is left is the last part."""
    split = torch.split

    def other(tensor: torch.Tensor, size: Any, dim: int = 0) -> Any:
        if not sizes or isinstance(size, int):
            return split(tensor, size, dim)
        parts = [sizes.get(part, part) for part in size]
        return split(tensor, [*parts[:-1], tensor.shape[dim] - sum(parts[:-1])], dim)

    return other


class InDiffusers:
    """A tiny model of ours and its peer. `changes` says what a file loaded there changes each weight by."""

    def __init__(self, title: str) -> None:
        import diffusers

        self.peer = PEERS[title]
        entry = tiny(title)
        self.ours = build_tiny(replace(entry, config=dict(entry.config) | dict(self.peer.changed)))
        self.config = getattr(diffusers, self.peer.model)(**self.peer.config).config
        self.weights = self.converted(self.ours.model.diffusion_model.state_dict())

    def converted(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weights of our model as diffusers' class has them."""
        if not self.peer.convert:
            return dict(state)
        utils = importlib.import_module("diffusers.loaders.single_file_utils")
        state = {_released(key, self.peer.convert): value.clone() for key, value in state.items()}
        if "ldm" in self.peer.convert:
            state = {f"model.diffusion_model.{key}": value for key, value in state.items()}
        with patch("torch.split", _split(self.peer.sizes)):
            return getattr(utils, self.peer.convert)(state, config=dict(self.config))

    def model(self) -> torch.nn.Module:
        import diffusers

        model = getattr(diffusers, self.peer.model)(**self.peer.config)
        own = model.state_dict()
        with torch.no_grad():
            for key, value in self.weights.items():
                if key in own and own[key].shape == value.shape:  # Z-Image's embedding of time has one size in each program
                    own[key].copy_(value)
        return model.requires_grad_(False)

    def changes(self, file: Path, strengths: tuple[float, ...]) -> list[dict[str, torch.Tensor]]:
        """What the file changes each weight by at each strength, by diffusers' loader."""
        import diffusers
        from peft.tuners.lora import LoraLayer

        mixins = [c for c in getattr(diffusers, self.peer.pipeline).__mro__ if c.__name__.endswith("LoraLoaderMixin")]
        part = "unet" if self.peer.model.startswith("UNet") else "transformer"
        model = self.model()
        empty = dict.fromkeys(("text_encoder", "text_encoder_2", "text_encoder_3", "hf_device_map"))
        pipeline = type("Pipeline", (mixins[0],), empty | {part: model, "components": {part: model}})()
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name="slider")
        found = []
        for strength in strengths:
            model.set_adapters(["slider"], [strength])
            layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
            found.append({f"{name}.weight": layer.get_delta_weight("slider") for name, layer in layers.items()})
        return found

    def deviations(self, file: Path, merged: Mapping[float, Mapping[str, torch.Tensor]]) -> list[tuple[int, int, float]]:
        """At each strength: how many weights diffusers changes, how many our merge does, and how far apart they are as a share of
        what the merge changes. `merged`: our weights with the slider, by strength."""
        found = []
        for change, state in zip(self.changes(file, tuple(merged)), merged.values(), strict=True):
            weights = self.converted(state)
            expected = {key: weights[key] - old for key, old in self.weights.items() if not torch.equal(weights[key], old)}
            gap = size = 0.0
            for key in expected.keys() | change.keys():
                ours = expected.get(key, torch.zeros(()))
                gap += float((change.get(key, torch.zeros(())).reshape(ours.shape or (-1,)) - ours).square().sum())
                size += float(ours.square().sum())
            found.append((len(change), len(expected), (gap / size) ** 0.5))
        return found


def slider_on(core: Core, patcher: Any, preset: str, left_out: tuple[str, ...] = ()) -> Any:
    """A slider of which every part acts, of an alpha that is not its rank."""
    names = core("with_comfy.layer_names")
    spec = core("config.lora").AdapterSpec(rank=2, alpha=3.0, preset=preset)
    module = patcher.model.diffusion_model
    targets = core("layers.select").survey(module, spec, names.layer_aliases(patcher)).targets
    targets = [target for target in targets if not target.path.startswith(left_out or ("-",))]
    adapter = core("lora.slider_adapter").Adapter.create(module, targets, spec)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in adapter.parameters():
            p.add_(torch.randn(p.shape, generator=generator) * 0.05)
    info = core("lora.info").SliderInfo(name="peer", architecture=names.architecture(patcher))
    return core("lora.slider_file").Slider(adapter.weights(), info)


def save(core: Core, path: Path, slider: Any, form: str, patcher: Any) -> Path:
    form = core("config.lora").FileFormat(form)
    aliases = core("with_comfy.layer_names").written_names(patcher)
    core("lora.slider_file").save_slider(path, slider, form=form, aliases=aliases)
    return path


def merged(core: Core, patcher: Any, slider: Any, strength: float) -> dict[str, torch.Tensor]:
    """The weights of the diffusion model with what Slider LoRA Apply puts on it."""
    import comfy.lora

    patched = core("with_comfy.slider_apply").apply(slider, strength, patcher)[0]
    prefix = "diffusion_model."
    state = dict(patcher.model.diffusion_model.state_dict())
    for key, patches in patched.patches.items():
        name = key.removeprefix(prefix)
        state[name] = comfy.lora.calculate_weight(patches, state[name].clone(), key)
    return state
