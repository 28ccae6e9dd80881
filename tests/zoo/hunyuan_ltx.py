"""HunyuanVideo and HunyuanImage (Flux blocks behind a text refiner), LTX-Video and LTX-2, MiniMax H3.

LTX-2 and MiniMax H3 make sound as well; a slider moves only the video stream of LTX-2, whose two streams have layers of their
own. MiniMax H3 has one stream for text, sound and video. HunyuanVideo 1.5's byT5 mapper (7M parameters at any size) and its
switch are left out of the tiny model.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

from .model import Full, Tiny

HUNYUAN = {
    "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "patch_size": [1, 2, 2], "vec_in_dim": 768,
    "axes_dim": [16, 56, 56], "meanflow": False, "context_in_dim": 4096, "hidden_size": 3072, "mlp_ratio": 4.0, "num_heads": 24,
    "depth": 20, "depth_single_blocks": 40, "theta": 256, "qkv_bias": True, "byt5": False, "guidance_embed": True,
    "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
}  # fmt: skip
IMAGE21 = HUNYUAN | {
    "in_channels": 64, "out_channels": 64, "patch_size": [1, 1], "vec_in_dim": None, "axes_dim": [64, 64], "context_in_dim": 3584,
    "hidden_size": 3584, "num_heads": 28, "byt5": True, "guidance_embed": False,
}  # fmt: skip
REFINER = HUNYUAN | {
    "in_channels": 128, "out_channels": 64, "patch_size": [1, 1, 1], "vec_in_dim": None, "context_in_dim": 3584,
    "hidden_size": 3328, "num_heads": 26, "meanflow": True,
}  # fmt: skip
VIDEO15 = HUNYUAN | {
    "in_channels": 65, "out_channels": 32, "patch_size": [1, 1, 1], "vec_in_dim": None, "context_in_dim": 3584,
    "hidden_size": 2048, "num_heads": 16, "depth": 54, "depth_single_blocks": 0, "byt5": True, "guidance_embed": False,
    "use_cond_type_embedding": True, "vision_in_dim": 1152, "meanflow_sum": True,
}  # fmt: skip
LTXV_2B = {"image_model": "ltxv", "num_layers": 28, "attention_head_dim": 64, "cross_attention_dim": 2048}
LTXV_13B = {"image_model": "ltxv", "num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096}
LTX2 = {"image_model": "ltxav", "num_layers": 48, "attention_head_dim": 128, "cross_attention_dim": 4096}
LTX23 = LTX2 | {
    "apply_gated_attention": True, "connector_apply_gated_attention": True, "cross_attention_adaln": True,
    "caption_proj_before_connector": True, "caption_projection_first_linear": False, "connector_num_layers": 8,
    "connector_num_attention_heads": 32, "connector_attention_head_dim": 128, "audio_connector_num_attention_heads": 32,
    "audio_connector_attention_head_dim": 64, "rope_type": "split", "frequencies_precision": "float64",
    "use_middle_indices_grid": True,
}  # fmt: skip
MINIMAX = {
    "image_model": "minimax_h3", "num_layers": 50, "token_refiner_num_layers": 2, "hidden_size": 5376, "latents_dim": 24,
    "audio_latents_dim": 32, "attention_head_dim": 128, "num_attention_heads": 56, "ffn_hidden_size": 14336, "text_dim": 5120,
    "timestep_input_dim": 256, "time_embed_hidden_size": 5376, "time_embed_dim": 2688, "rope_inv_freq_len": 16,
}  # fmt: skip

REFINED = ("txt_in.individual_token_refiner.blocks.0.self_attn.qkv", "txt_in.input_embedder", "double_blocks.0.txt_attn.qkv")
CROSS = ("transformer_blocks.0.attn2.to_q", "transformer_blocks.0.attn2.to_k", "transformer_blocks.0.attn2.to_out.0")
SOUND = (
    "transformer_blocks.0.audio_attn1.to_q",
    "transformer_blocks.0.audio_to_video_attn.to_k",
    "video_embeddings_connector.transformer_1d_blocks.0.attn1.to_q",
    "audio_embeddings_connector.transformer_1d_blocks.0.attn1.to_out.0",
)

FULL = [
    Full(
        "HunyuanVideo",
        "hunyuan",
        20 * 2 + 40 + 1,
        HUNYUAN,
        forbidden=(*REFINED, "single_blocks.0.linear2", "img_in.proj"),
        rows={"single_blocks.39.linear1": (0, 9216)},
    ),
    Full(
        "HunyuanVideoI2V",
        "hunyuan",
        20 * 2 + 40 + 1,
        HUNYUAN | {"in_channels": 33, "guidance_embed": False},
        forbidden=(*REFINED, "vector_in.in_layer"),
        rows={"single_blocks.0.linear1": (0, 9216)},
    ),
    Full(
        "HunyuanVideoSkyreelsI2V",
        "hunyuan",
        20 * 2 + 40 + 1,
        HUNYUAN | {"in_channels": 32},
        forbidden=(*REFINED, "vector_in.out_layer"),
        rows={"single_blocks.0.linear1": (0, 9216)},
    ),
    Full(
        "HunyuanImage21",
        "hunyuan",
        20 * 2 + 40 + 1,
        IMAGE21,
        forbidden=(*REFINED, "byt5_in.fc1"),
        rows={"single_blocks.0.linear1": (0, 10752)},
    ),
    Full(
        "HunyuanImage21",
        "hunyuan",
        20 * 2 + 40 + 1,
        IMAGE21 | {"guidance_embed": True, "meanflow": True},
        forbidden=(*REFINED, "byt5_in.fc3"),
        variant="distilled",
        rows={"single_blocks.0.linear1": (0, 10752)},
    ),
    Full(
        "HunyuanImage21Refiner",
        "hunyuan",
        20 * 2 + 40 + 1,
        REFINER,
        forbidden=REFINED,
        rows={"single_blocks.0.linear1": (0, 9984)},
    ),
    Full("HunyuanVideo15", "hunyuan", 54 * 2 + 1, VIDEO15, forbidden=(*REFINED, "byt5_in.fc2", "vision_in.proj.1")),
    Full(
        "HunyuanVideo15_SR_Distilled",
        "hunyuan",
        54 * 2 + 1,
        VIDEO15 | {"in_channels": 98, "meanflow": True},
        forbidden=(*REFINED, "vision_in.proj.3"),
    ),
    Full("LTXV", "ltx", 28 * 4 + 2, LTXV_2B, forbidden=(*CROSS, "caption_projection.linear_1"), variant="2B"),
    Full("LTXV", "ltx", 48 * 4 + 2, LTXV_13B, forbidden=(*CROSS, "caption_projection.linear_2"), variant="13B"),
    Full(
        "LTXAV",
        "ltx",
        48 * 4 + 2,
        LTX2,
        forbidden=(*CROSS, *SOUND, "audio_patchify_proj", "audio_proj_out", "audio_caption_projection.linear_1"),
        variant="LTX-2",
    ),
    Full(
        "LTXAV",
        "ltx",
        48 * 4 + 2,
        LTX23,
        forbidden=(*CROSS, *SOUND, "prompt_adaln_single.linear", "transformer_blocks.0.attn1.to_gate_logits"),
        variant="LTX-2.3",
    ),
    Full(
        "MiniMaxH3",
        "minimaxh3",
        50 * 2 + 4,
        MINIMAX,
        forbidden=(
            "token_refiner.blocks.0.attn.qkv_proj",
            "token_refiner.blocks.0.attn.out_proj",
            "condition_proj",
            "audio_patch_proj",
        ),
    ),
]

SMALL = {
    "in_channels": 4, "out_channels": 4, "context_in_dim": 16, "hidden_size": 32, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2,
    "depth_single_blocks": 2, "axes_dim": [4, 6, 6], "byt5": False,
}  # fmt: skip
POOLED = {"pooled_output": (16,)}
TINY_LTX = {
    "in_channels": 8, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2, "cross_attention_dim": 32,
    "caption_channels": 16,
}  # fmt: skip
TINY_LTX2 = TINY_LTX | {
    "audio_cross_attention_dim": 16, "audio_attention_head_dim": 8, "audio_num_attention_heads": 2,
    "connector_num_attention_heads": 2, "connector_attention_head_dim": 8,
}  # fmt: skip
TINY_LTX23 = LTX23 | TINY_LTX2 | {
    "connector_num_layers": 1, "connector_attention_head_dim": 16, "audio_connector_num_attention_heads": 2,
    "audio_connector_attention_head_dim": 8,
}  # fmt: skip
TINY_MINIMAX = MINIMAX | {
    "num_layers": 2, "token_refiner_num_layers": 1, "hidden_size": 32, "latents_dim": 4, "audio_latents_dim": 4,
    "attention_head_dim": 16, "num_attention_heads": 2, "ffn_hidden_size": 32, "text_dim": 16, "timestep_input_dim": 16,
    "time_embed_hidden_size": 32, "time_embed_dim": 16, "rope_inv_freq_len": 2,
}  # fmt: skip

TINY = [
    Tiny("HunyuanVideo", "hunyuan", HUNYUAN | SMALL | {"vec_in_dim": 16}, latent=(4, 2, 8, 8), text=(5, 16), cond=POOLED),
    Tiny(
        "HunyuanVideoI2V",
        "hunyuan",
        HUNYUAN | SMALL | {"vec_in_dim": 16, "in_channels": 4 + 4 + 1, "guidance_embed": False},
        latent=(4, 2, 8, 8),
        text=(5, 16),
        cond=POOLED,
    ),
    Tiny(
        "HunyuanVideoSkyreelsI2V",
        "hunyuan",
        HUNYUAN | SMALL | {"vec_in_dim": 16, "in_channels": 4 + 4},
        latent=(4, 2, 8, 8),
        text=(5, 16),
        cond=POOLED,
    ),
    Tiny("HunyuanImage21", "hunyuan", IMAGE21 | SMALL | {"axes_dim": [8, 8]}, latent=(4, 4, 4), text=(5, 16)),
    Tiny(
        "HunyuanImage21",
        "hunyuan",
        IMAGE21 | SMALL | {"axes_dim": [8, 8], "guidance_embed": True, "meanflow": True},
        latent=(4, 4, 4),
        text=(5, 16),
        batched=False,  # where the step ends, which the model is told, is one number for the whole batch
        variant="distilled",
    ),
    Tiny("HunyuanImage21Refiner", "hunyuan", REFINER | SMALL | {"in_channels": 8}, latent=(4, 2, 4, 4), text=(5, 16)),
    Tiny(
        "HunyuanVideo15",
        "hunyuan",
        VIDEO15 | SMALL | {"in_channels": 4 + 4 + 1, "depth_single_blocks": 0, "vision_in_dim": 16},
        latent=(4, 2, 4, 4),
        text=(5, 16),
        cond=POOLED | {"clip_vision_output": SimpleNamespace(last_hidden_state=torch.ones(1, 3, 16))},
    ),
    Tiny(
        "HunyuanVideo15_SR_Distilled",
        "hunyuan",
        VIDEO15 | SMALL | {"in_channels": 4 + 10, "depth_single_blocks": 0, "vision_in_dim": 16, "meanflow": True},
        latent=(4, 2, 4, 4),
        text=(5, 16),
        cond=POOLED,
        batched=False,  # as HunyuanImage distilled
    ),
    Tiny(
        "LTXV",
        "ltx",
        LTXV_2B | TINY_LTX,
        latent=(8, 2, 4, 4),
        text=(5, 16),
        cond={"attention_mask": torch.ones(1, 1, dtype=torch.long)},  # for any number of tokens
    ),
    Tiny("LTXAV", "ltx", LTX2 | TINY_LTX2, latent=(8, 2, 4, 4), text=(5, 16), variant="LTX-2", idle=4),  # text connectors
    Tiny("LTXAV", "ltx", TINY_LTX23, latent=(8, 2, 4, 4), text=(5, 48), variant="LTX-2.3", idle=2),
    Tiny(
        "LTXAV",
        "ltx",
        LTX2 | TINY_LTX2 | {"audio_in_channels": 8 * 16},
        latent=(1, 8 * 2 * 4 * 4 + 8 * 3 * 16),
        text=(5, 16),
        cond={"latent_shapes": [(1, 8, 2, 4, 4), (1, 8, 3, 16)]},
        batched=False,  # a gate between sound and video looks at the highest noise level of the batch
        variant="LTX-2 with sound",
        idle=4,
    ),
    Tiny(
        "MiniMaxH3",
        "minimaxh3",
        TINY_MINIMAX,
        latent=(1, 4 * 2 * 4 * 4 + 4 * 2 * 3),
        text=(5, 16),
        cond={"latent_shapes": [(1, 4, 2, 4, 4), (1, 4, 2, 3)]},
        batched=False,  # refuses a batch
        wide=False,
        idle=1,  # the text refiner runs before the model
    ),
]
