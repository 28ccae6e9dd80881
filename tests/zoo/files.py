"""Models as files, made on the spot: what a person downloads, as small as ComfyUI's detection allows, with random weights.

A one-file SD 1.5 (its text encoder has the real size, which ComfyUI fixes; its VAE is a TAESD) and a Flux in parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [1], "channel_mult": [1],
    "use_spatial_transformer": True, "transformer_depth": [1], "transformer_depth_output": [1, 1], "transformer_depth_middle": 0,
    "context_dim": 768, "num_heads": 8, "num_head_channels": -1, "use_linear_in_transformer": False, "adm_in_channels": None,
    "legacy": False, "use_checkpoint": False, "use_temporal_attention": False, "use_temporal_resblock": False,
}  # fmt: skip
FLUX = {
    "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 768, "hidden_size": 128, "mlp_ratio": 4.0,
    "num_heads": 1, "depth": 1, "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 10000, "patch_size": 2,
    "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
NOISE = 1 << 20  # numbers that are drawn once and repeated


def filled(module: torch.nn.Module, dtype: torch.dtype, prefix: str = "") -> dict[str, torch.Tensor]:
    """The module's tensors by name, filled with noise of a size at which signals neither vanish nor explode."""
    noise = torch.randn(NOISE, generator=torch.Generator().manual_seed(0))
    tensors = {}
    for name, value in module.state_dict().items():
        if not value.is_floating_point():
            continue
        flat = noise.repeat(math.ceil(value.numel() / NOISE))[: value.numel()].reshape(value.shape)
        scale = value.ndim == 1 and name.endswith(("weight", "scale"))
        size = 0.1 if value.ndim == 1 else 1 / math.sqrt(max(1, math.prod(value.shape[1:])))
        tensors[prefix + name] = (scale + flat * size).to(dtype).contiguous()
    return tensors


def _clip(dtype: torch.dtype, prefix: str) -> dict[str, torch.Tensor]:
    import comfy.ops
    import comfy.sd1_clip

    with torch.device("meta"):
        clip = comfy.sd1_clip.SDClipModel(device="meta", dtype=dtype)
    return filled(clip.transformer, dtype, prefix)


def _taesd(channels: int, prefix: str = "") -> dict[str, torch.Tensor]:
    import comfy.taesd.taesd

    return filled(comfy.taesd.taesd.TAESD(latent_channels=channels), torch.float32, prefix)


def _network(kind: Any, config: Mapping[str, Any]) -> torch.nn.Module:
    import comfy.ops

    return kind(**config, dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init)


def sd15_file(path: Path) -> Path:
    """A checkpoint with UNet, text encoder and VAE."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    state = filled(_network(UNetModel, UNET), torch.float32, "model.diffusion_model.")
    state |= _clip(torch.float16, "cond_stage_model.transformer.")
    state |= _taesd(4, "first_stage_model.")
    save_file(state, path)
    return path


def flux_files(folder: Path) -> tuple[Path, Path, Path]:
    """(diffusion model, CLIP-L, VAE) of a Flux whose text comes from CLIP-L alone."""
    from comfy.ldm.flux.model import Flux

    paths = folder / "flux_tiny.safetensors", folder / "clip_l.safetensors", folder / "taef1.safetensors"
    save_file(filled(_network(Flux, FLUX), torch.float32), paths[0])
    save_file(_clip(torch.float16, ""), paths[1])
    save_file(_taesd(16), paths[2])
    return paths
