"""Flux.1, Flux.2 and Chroma: double blocks with an image and a text stream, then single blocks over both.

A single block's linear1 stacks q, k, v and the way into its MLP. Flux.1 and Chroma move only the q, k, v rows (in diffusers
these are layers of their own), Flux.2 the whole matrix (in diffusers one layer, to_qkv_mlp_proj).

ComfyUI has no class for Ovis-Image: it is loaded as FluxSchnell, by its shapes.
"""

from __future__ import annotations

import torch

from .model import Full, Tiny

FLUX1 = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768, "context_in_dim": 4096, "hidden_size": 3072,
    "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56], "theta": 10000,
    "patch_size": 2, "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [], "yak_mlp": False, "txt_norm": False,
}  # fmt: skip
LONGCAT = FLUX1 | {
    "vec_in_dim": None, "context_in_dim": 3584, "depth": 10, "depth_single_blocks": 20, "guidance_embed": False,
    "txt_ids_dims": [1, 2],
}  # fmt: skip
OVIS = FLUX1 | {
    "vec_in_dim": None, "context_in_dim": 2048, "depth": 6, "depth_single_blocks": 27, "guidance_embed": False,
    "txt_ids_dims": [1, 2], "yak_mlp": True, "txt_norm": True,
}  # fmt: skip
FLUX2 = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "vec_in_dim": None, "context_in_dim": 15360,
    "hidden_size": 6144, "mlp_ratio": 3.0, "num_heads": 48, "depth": 8, "depth_single_blocks": 48, "axes_dim": [32, 32, 32, 32],
    "theta": 2000, "patch_size": 1, "qkv_bias": False, "guidance_embed": True, "txt_ids_dims": [3], "global_modulation": True,
    "mlp_silu_act": True, "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0, "yak_mlp": False,
    "txt_norm": False,
}  # fmt: skip
KLEIN_4B = FLUX2 | {
    "context_in_dim": 7680, "hidden_size": 3072, "num_heads": 24, "depth": 5, "depth_single_blocks": 20, "guidance_embed": False,
}  # fmt: skip
KLEIN_9B = FLUX2 | {
    "context_in_dim": 12288, "hidden_size": 4096, "num_heads": 32, "depth": 8, "depth_single_blocks": 24, "guidance_embed": False,
}  # fmt: skip
CHROMA = {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "vec_in_dim": None, "context_in_dim": 4096,
    "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38, "axes_dim": [16, 56, 56],
    "theta": 10000, "patch_size": 2, "qkv_bias": True, "txt_ids_dims": [], "in_dim": 64, "out_dim": 3072, "hidden_dim": 5120,
    "n_layers": 5,
}  # fmt: skip
RADIANCE = CHROMA | {
    "image_model": "chroma_radiance", "in_channels": 3, "out_channels": 3, "patch_size": 16, "nerf_hidden_size": 64,
    "nerf_mlp_ratio": 4, "nerf_depth": 4, "nerf_max_freqs": 8, "nerf_tile_size": 512, "nerf_final_head_type": "conv",
    "nerf_embedder_dtype": torch.float32, "use_x0": False, "use_sequential_txt_ids": False,
}  # fmt: skip

TEXT = ("double_blocks.0.txt_attn.qkv", "double_blocks.0.txt_attn.proj", "txt_in", "single_blocks.0.linear2")
QKV_3072 = {"single_blocks.0.linear1": (0, 9216)}

FULL = [
    Full("Flux", "flux", 76, FLUX1, forbidden=(*TEXT, "vector_in.in_layer"), variant="dev", rows=QKV_3072),
    Full("Flux", "flux", 76, FLUX1 | {"in_channels": 32}, forbidden=TEXT, variant="canny, depth", rows=QKV_3072),
    Full("FluxInpaint", "flux", 76, FLUX1 | {"in_channels": 96}, forbidden=TEXT, rows=QKV_3072),
    Full("FluxSchnell", "flux", 76, FLUX1 | {"guidance_embed": False}, forbidden=TEXT, rows=QKV_3072),
    Full("FluxSchnell", "flux", 39, OVIS, forbidden=TEXT, variant="Ovis-Image", rows=QKV_3072),
    Full("LongCatImage", "flux", 40, LONGCAT, forbidden=TEXT, rows=QKV_3072),
    Full("Flux2", "flux2", 64, FLUX2, forbidden=(*TEXT, "double_stream_modulation_txt.lin"), variant="dev"),
    Full("Flux2", "flux2", 30, KLEIN_4B, forbidden=(*TEXT, "double_stream_modulation_txt.lin"), variant="klein 4B"),
    Full("Flux2", "flux2", 40, KLEIN_9B, forbidden=(*TEXT, "double_stream_modulation_txt.lin"), variant="klein 9B"),
    Full("Chroma", "chroma", 76, CHROMA, forbidden=(*TEXT, "distilled_guidance_layer.in_proj"), rows=QKV_3072),
    Full("ChromaRadiance", "chroma", 76, RADIANCE, forbidden=(*TEXT, "distilled_guidance_layer.out_proj"), rows=QKV_3072),
    Full(
        "ChromaRadiance",
        "chroma",
        76,
        RADIANCE | {"nerf_final_head_type": "linear", "use_x0": True, "use_sequential_txt_ids": True},
        forbidden=(*TEXT, "nerf_final_layer.linear"),
        variant="x0, linear head",
        rows=QKV_3072,
    ),
]

SMALL = {
    "context_in_dim": 16, "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
}  # fmt: skip
TINY_FLUX1 = FLUX1 | SMALL | {"in_channels": 4, "out_channels": 4, "vec_in_dim": 16}
TINY_CHROMA = CHROMA | SMALL | {"in_channels": 16, "out_channels": 16, "out_dim": 32, "hidden_dim": 16, "n_layers": 1}
TINY_RADIANCE = RADIANCE | SMALL | {
    "out_dim": 32, "hidden_dim": 16, "n_layers": 1, "patch_size": 4, "nerf_hidden_size": 8, "nerf_mlp_ratio": 2, "nerf_depth": 1,
    "nerf_max_freqs": 2,
}  # fmt: skip

TINY = [
    Tiny("Flux", "flux", TINY_FLUX1, latent=(4, 8, 8), text=(5, 16), cond={"pooled_output": (16,)}),
    Tiny(
        "FluxInpaint",
        "flux",
        TINY_FLUX1 | {"in_channels": 4 + 4 + 64},  # noise, picture and an 8 x 8 mask per latent pixel
        latent=(4, 8, 8),
        text=(5, 16),
        cond={"pooled_output": (16,)},
    ),
    Tiny(
        "FluxSchnell",
        "flux",
        TINY_FLUX1 | {"guidance_embed": False},
        latent=(4, 8, 8),
        text=(5, 16),
        cond={"pooled_output": (16,)},
    ),
    Tiny(
        "FluxSchnell",
        "flux",
        OVIS | SMALL | {"in_channels": 4, "out_channels": 4},
        latent=(4, 8, 8),
        text=(5, 16),
        variant="Ovis-Image",
    ),
    Tiny("LongCatImage", "flux", LONGCAT | SMALL | {"in_channels": 4, "out_channels": 4}, latent=(4, 8, 8), text=(5, 16)),
    Tiny(
        "Flux2",
        "flux2",
        FLUX2 | SMALL | {"in_channels": 8, "out_channels": 8, "axes_dim": [4, 4, 4, 4]},
        latent=(8, 4, 4),
        text=(5, 16),
        variant="dev",
    ),
    Tiny(
        "Flux2",
        "flux2",
        KLEIN_4B | SMALL | {"in_channels": 8, "out_channels": 8, "axes_dim": [4, 4, 4, 4]},
        latent=(8, 4, 4),
        text=(5, 16),
        variant="klein",
    ),
    Tiny("Chroma", "chroma", TINY_CHROMA, latent=(4, 8, 8), text=(5, 16)),
    Tiny("ChromaRadiance", "chroma", TINY_RADIANCE, latent=(3, 16, 16), text=(5, 16)),
    Tiny(
        "ChromaRadiance",
        "chroma",
        TINY_RADIANCE | {"nerf_final_head_type": "linear", "use_x0": True, "use_sequential_txt_ids": True},
        latent=(3, 16, 16),
        text=(5, 16),
        variant="x0, linear head",
    ),
]
