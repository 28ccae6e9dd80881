"""Qwen-Image and its kin (Mage-Flow, Lens, JoyImage), HiDream I1 and O1, SeedVR2: two streams, or one language model for all.

HiDreamO1 reads token ids, not a prompt's encoding: `text` is a stand-in there, and every prompt has the same ids. The table
of its words cannot shrink, because the token that carries the time is among the last.
SeedVR2 7B is told from 3B by its width of 3072, which no tiny model has: the tiny one runs 7B's blocks (separate streams,
rope3d, plain MLP) without the switch that only splits the MLP into chunks. It needs an even number of blocks.
"""

from __future__ import annotations

import torch

from .model import Full, Tiny

QWEN = {
    "image_model": "qwen_image", "in_channels": 64, "out_channels": 16, "patch_size": 2, "num_layers": 60,
    "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 3584, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
MAGE = {
    "image_model": "mage_flow", "in_channels": 128, "num_layers": 12, "attention_head_dim": 128, "num_attention_heads": 24,
    "joint_attention_dim": 2560, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
LENS = {
    "image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 48, "num_attention_heads": 24,
    "enc_hidden_dim": 2880, "multi_layer_encoder_feature": True, "selected_layer_index": (0, 1, 2, 3),
}  # fmt: skip
JOY = {
    "image_model": "joyimage", "in_channels": 16, "hidden_size": 4096, "patch_size": [1, 2, 2], "num_layers": 40,
    "num_attention_heads": 32, "text_dim": 4096, "theta": 10000, "rope_dim_list": [16, 56, 56],
}  # fmt: skip
HIDREAM = {
    "image_model": "hidream", "attention_head_dim": 128, "axes_dims_rope": [64, 32, 32], "caption_channels": [4096, 4096],
    "max_resolution": [128, 128], "in_channels": 16, "llama_layers": [*range(32), *[31] * 16], "num_attention_heads": 20,
    "num_routed_experts": 4, "num_activated_experts": 2, "num_layers": 16, "num_single_layers": 32, "out_channels": 16,
    "patch_size": 2, "text_emb_dim": 2048,
}  # fmt: skip
SEEDVR2_3B = {
    "image_model": "seedvr2", "vid_dim": 2560, "heads": 20, "num_layers": 32, "norm_eps": 1e-5, "mlp_type": "swiglu",
    "vid_out_norm": True,
}  # fmt: skip
SEEDVR2_7B = {
    "image_model": "seedvr2", "vid_dim": 3072, "heads": 24, "num_layers": 36, "mm_layers": 36, "norm_eps": 1e-5,
    "rope_type": "rope3d", "rope_dim": 64, "mlp_type": "normal",
}  # fmt: skip

BLOCK = "transformer_blocks.0"
QWEN_TEXT = (
    f"{BLOCK}.attn.add_q_proj",
    f"{BLOCK}.attn.to_add_out",
    f"{BLOCK}.txt_mlp.net.2",
    f"{BLOCK}.img_mod.1",
    "txt_in",
)
SEEDVR2_TEXT = (
    "blocks.0.attn.proj_qkv.txt",
    "blocks.9.attn.proj_out.txt",
    "blocks.0.mlp.txt.proj_out",
    "emb_in.proj_out",
    "txt_in",
)

FULL = [
    Full("QwenImage", "qwen", 60 * 4, QWEN, forbidden=QWEN_TEXT),
    Full(
        "QwenImage",
        "qwen",
        60 * 4,
        QWEN | {"default_ref_method": "index_timestep_zero"},
        forbidden=QWEN_TEXT,
        variant="Edit 2511",
    ),
    Full(
        "QwenImage",
        "qwen",
        60 * 4,
        QWEN | {"use_additional_t_cond": True, "default_ref_method": "negative_index"},
        forbidden=(*QWEN_TEXT, "time_text_embed.addition_t_embedding"),
        variant="Layered",
    ),
    Full("MageFlow", "qwen", 12 * 4, MAGE, forbidden=QWEN_TEXT),
    Full(
        "Lens",
        "lens",
        48 * 2 + 1 + 2,
        LENS,
        forbidden=(f"{BLOCK}.attn.txt_qkv", f"{BLOCK}.attn.to_add_out", f"{BLOCK}.txt_mod.1", f"{BLOCK}.txt_mlp.w1", "txt_in"),
    ),
    Full(
        "JoyImage",
        "joyimage",
        40 * 2 + 1 + 2,
        JOY,
        forbidden=(
            "double_blocks.0.attn.txt_attn_qkv",
            "double_blocks.0.attn.txt_attn_proj",
            "double_blocks.0.txt_mlp.net.2",
            "condition_embedder.text_embedder.linear_1",
            "condition_embedder.time_proj",
        ),
    ),
    Full(
        "HiDream",
        "hidream",
        (16 + 32) * 4 + 2,
        HIDREAM,
        forbidden=(
            "double_stream_blocks.0.block.attn1.to_q_t",
            "double_stream_blocks.15.block.attn1.to_out_t",
            "double_stream_blocks.0.block.ff_t.w1",
            "caption_projection.48.linear",
            "p_embedder.pooled_embedder.linear_1",
        ),
    ),
    Full(
        "HiDreamO1",
        "hidream-o1",
        36 * 4 + 2,
        {"image_model": "hidream_o1"},
        forbidden=(
            "visual.blocks.0.attn.qkv",
            "visual.blocks.0.attn.proj",
            "language_model.embed_tokens",
            "language_model.layers.0.mlp.up_proj",
            "x_embedder.proj1",
        ),
    ),
    Full("SeedVR2", "seedvr2", 32 * 2, SEEDVR2_3B, forbidden=(*SEEDVR2_TEXT, "blocks.31.mlp.all.proj_in"), variant="3B"),
    Full("SeedVR2", "seedvr2", 36 * 2, SEEDVR2_7B, forbidden=(*SEEDVR2_TEXT, "blocks.35.attn.proj_qkv.txt"), variant="7B"),
    Full(
        "SeedVR2",
        "seedvr2",
        36 * 2,
        SEEDVR2_7B | {"mm_layers": 10, "mlp_type": "swiglu"},
        forbidden=(*SEEDVR2_TEXT, "blocks.35.mlp.all.proj_in"),
        variant="7B, streams shared from block 10 on",
    ),
]

QWEN_SMALL = QWEN | {
    "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip
MAGE_SMALL = MAGE | {
    "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 16, "axes_dims_rope": (4, 6, 6),
}  # fmt: skip
LENS_SMALL = LENS | {
    "num_layers": 1, "attention_head_dim": 16, "num_attention_heads": 3, "axes_dims_rope": (4, 6, 6), "enc_hidden_dim": 8,
    "selected_layer_index": (0, 1),
}  # fmt: skip
JOY_SMALL = JOY | {"hidden_size": 128, "num_layers": 1, "num_attention_heads": 1, "text_dim": 16}  # the class fixes the rope
HIDREAM_SMALL = HIDREAM | {
    "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2, "caption_channels": [16, 16],
    "text_emb_dim": 16, "axes_dims_rope": [8, 4, 4], "max_resolution": [16, 16], "llama_layers": [0, 1],
}  # fmt: skip
O1_SMALL = {
    "image_model": "hidream_o1",
    "text_config_overrides": {
        "vocab_size": 151680, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8, "rope_dims": [2, 1, 1],
    },
    "vision_config_overrides": {
        "hidden_size": 8, "num_heads": 1, "intermediate_size": 8, "depth": 1, "num_position_embeddings": 16,
    },
}  # fmt: skip
SEEDVR2_SMALL = {"vid_dim": 32, "heads": 2, "head_dim": 16, "txt_in_dim": 16, "num_layers": 2, "rope_dim": 12}
REFERENCE = torch.randn(1, 16, 1, 4, 4, generator=torch.Generator().manual_seed(9))
RESTORED = {"condition": (17, 1, 8, 8)}  # the picture to restore and a mask, as the node SeedVR2Conditioning makes them

TINY = [
    Tiny("QwenImage", "qwen", QWEN_SMALL, latent=(16, 1, 8, 8), text=(5, 16)),
    Tiny(
        "QwenImage",
        "qwen",
        QWEN_SMALL | {"default_ref_method": "index_timestep_zero"},
        latent=(16, 1, 8, 8),
        text=(5, 16),
        cond={"reference_latents": [REFERENCE]},
        variant="Edit 2511",
    ),
    Tiny(
        "QwenImage",
        "qwen",
        QWEN_SMALL | {"use_additional_t_cond": True, "default_ref_method": "negative_index"},
        latent=(16, 2, 8, 8),
        text=(5, 16),
        variant="Layered",
    ),
    Tiny("MageFlow", "qwen", MAGE_SMALL, latent=(128, 4, 4), text=(5, 16)),
    Tiny("Lens", "lens", LENS_SMALL, latent=(128, 4, 4), text=(5, 16)),
    Tiny("JoyImage", "joyimage", JOY_SMALL, latent=(16, 1, 8, 8), text=(5, 16)),
    Tiny(
        "HiDream",
        "hidream",
        HIDREAM_SMALL,
        latent=(16, 8, 8),
        text=(5, 16),
        cond={"pooled_output": (16,), "conditioning_llama3": (2, 5, 16)},
    ),
    Tiny(
        "HiDreamO1",
        "hidream-o1",
        O1_SMALL,
        latent=(3, 64, 64),
        text=(5, 8),
        cond={"text_input_ids": torch.tensor([[11, 12, 13, 14, 151673]])},
        idle=1,  # `visual` reads reference pictures
    ),
    Tiny(
        "SeedVR2",
        "seedvr2",
        SEEDVR2_3B | SEEDVR2_SMALL | {"mm_layers": 1},
        latent=(16, 1, 8, 8),
        text=(5, 16),
        cond=RESTORED,
        variant="3B",
        once=2,  # its cache object
    ),
    Tiny(
        "SeedVR2",
        "seedvr2",
        SEEDVR2_7B | SEEDVR2_SMALL | {"mm_layers": 2},
        latent=(16, 1, 8, 8),
        text=(5, 16),
        cond=RESTORED,
        variant="7B",
        once=2,  # its cache object
    ),
]
