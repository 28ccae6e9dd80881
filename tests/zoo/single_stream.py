"""Image transformers that put text and image tokens into one sequence: OmniGen2, Boogu, Krea 2, Ideogram 4, ERNIE-Image.

OmniGen2 and Boogu take the number of text tokens from the attention mask, so their conditioning must have one.
Ideogram 4's class writes its full sizes over any configuration: the tiny one needs the entry's to be written over them again.
"""

from __future__ import annotations

import torch

from .model import Full, Tiny

OMNIGEN2 = {
    "image_model": "omnigen2", "axes_dim_rope": [40, 40, 40], "axes_lens": [1024, 1664, 1664], "ffn_dim_multiplier": None,
    "hidden_size": 2520, "in_channels": 16, "multiple_of": 256, "norm_eps": 1e-05, "num_attention_heads": 21, "num_kv_heads": 7,
    "num_layers": 32, "num_refiner_layers": 2, "out_channels": None, "patch_size": 2, "text_feat_dim": 2048,
    "timestep_scale": 1000.0,
}  # fmt: skip
BOOGU = {
    "image_model": "boogu", "hidden_size": 3360, "num_layers": 32, "num_double_stream_layers": 8, "num_refiner_layers": 2,
    "instruction_feat_dim": 4096,
}  # fmt: skip
KREA2 = {
    "image_model": "krea2", "features": 6144, "channels": 16, "patch": 2, "layers": 28, "heads": 48, "kvheads": 12,
    "txtlayers": 12, "txtdim": 2560,
}  # fmt: skip
IDEOGRAM4 = {
    "image_model": "ideogram4", "in_channels": 128, "num_layers": 34, "num_attention_heads": 18, "attention_head_dim": 256,
    "intermediate_size": 12288, "adaln_dim": 512, "llm_features_dim": 53248, "rope_theta": 5000000,
    "mrope_section": [24, 20, 20], "norm_eps": 1e-5,
}  # fmt: skip
ERNIE = {"image_model": "ernie"}

FULL = [
    Full(
        "Omnigen2",
        "omnigen2",
        (32 + 2) * 4 + 2,
        OMNIGEN2,
        forbidden=(
            "context_refiner.0.attn.to_q",
            "context_refiner.1.attn.to_out.0",
            "ref_image_refiner.0.attn.to_q",
            "time_caption_embed.caption_embedder.1",
            "layers.0.feed_forward.linear_1",
        ),
    ),
    Full(
        "Boogu",
        "boogu",
        32 * 4 + 2 * 4 + 8 * (4 + 4 + 1) + 2,  # single, refiner, double (own attention, joint attention, its output), time
        BOOGU,
        forbidden=(
            "double_stream_layers.0.img_instruct_attn.processor.instruct_to_q",
            "double_stream_layers.0.img_instruct_attn.processor.instruct_out",
            "double_stream_layers.0.instruct_feed_forward.linear_1",
            "context_refiner.0.attn.to_q",
            "time_caption_embed.caption_embedder.1",
        ),
    ),
    Full(
        "Krea2",
        "krea2",
        28 * 4 + 2,
        KREA2,
        forbidden=(
            "txtfusion.layerwise_blocks.0.attn.wq",
            "txtfusion.refiner_blocks.1.attn.wo",
            "txtfusion.projector",
            "txtmlp.1",
            "blocks.0.attn.gate",
        ),
    ),
    Full(
        "Ideogram4",
        "ideogram4",
        34 * 2 + 2,
        IDEOGRAM4,
        forbidden=("llm_cond_proj", "layers.0.adaln_modulation", "layers.0.feed_forward.w1", "adaln_proj"),
    ),
    Full(
        "ErnieImage",
        "ernie",
        36 * 4 + 2,
        ERNIE,
        forbidden=("text_proj", "adaLN_modulation.1", "layers.0.mlp.gate_proj", "final_linear"),
    ),
]

OMNIGEN2_SMALL = {
    "hidden_size": 48, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 4, "num_kv_heads": 2, "multiple_of": 16,
    "axes_dim_rope": [4, 4, 4], "axes_lens": [64, 64, 64],
}  # fmt: skip
KREA2_SMALL = KREA2 | {
    "features": 64, "tdim": 16, "layers": 1, "heads": 4, "kvheads": 2, "txtlayers": 2, "txtdim": 16, "txtheads": 2,
    "txtkvheads": 2,
}  # fmt: skip
IDEOGRAM4_SMALL = IDEOGRAM4 | {
    "num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16, "intermediate_size": 32, "adaln_dim": 16,
    "llm_features_dim": 16, "mrope_section": [4, 2, 2],
}  # fmt: skip
ERNIE_SMALL = ERNIE | {
    "hidden_size": 32, "num_attention_heads": 2, "num_layers": 1, "ffn_hidden_size": 32, "text_in_dim": 16,
    "rope_axes_dim": (4, 6, 6),
}  # fmt: skip
ALL_TOKENS = {"attention_mask": torch.ones(1, 5, dtype=torch.long)}

TINY = [
    Tiny(
        "Omnigen2",
        "omnigen2",
        OMNIGEN2 | OMNIGEN2_SMALL | {"text_feat_dim": 16},
        latent=(16, 8, 8),
        text=(5, 16),
        cond=ALL_TOKENS,
        idle=1,  # reference pictures
    ),
    Tiny(
        "Boogu",
        "boogu",
        BOOGU | OMNIGEN2_SMALL | {"num_double_stream_layers": 1, "instruction_feat_dim": 16},
        latent=(16, 8, 8),
        text=(5, 16),
        cond=ALL_TOKENS,
        idle=1,  # reference pictures
    ),
    Tiny("Krea2", "krea2", KREA2_SMALL, latent=(16, 1, 8, 8), text=(5, 32)),
    Tiny("Ideogram4", "ideogram4", IDEOGRAM4_SMALL, latent=(128, 4, 4), text=(5, 16)),
    Tiny("ErnieImage", "ernie", ERNIE_SMALL, latent=(128, 4, 4), text=(5, 16)),
]
