"""Cosmos, Anima, Lumina 2, Z-Image, PixelDiT, PiD and Kandinsky 5.

Anima has the blocks of CosmosT2IPredict2, and an `llm_adapter` of fixed size, 135 million parameters.
"""

from __future__ import annotations

import torch

from .model import Full, Tiny

# classes of comfy.supported_models that are no model of pictures or films, and why
EXCLUDED = {
    "Hunyuan3Dv2": "makes 3D shapes",
    "Hunyuan3Dv2mini": "makes 3D shapes",
    "Hunyuan3Dv2_1": "makes 3D shapes",
    "TripoSplat": "makes 3D shapes",
    "Trellis2": "makes 3D shapes",
    "RT_DETR_v4": "detects objects, makes no images",
    "SAM3": "segments images, makes none",
    "SAM31": "segments images, makes none",
    "DepthAnything3": "estimates depth, makes no images",
}

COSMOS = {
    "image_model": "cosmos", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16,
    "patch_spatial": 2, "patch_temporal": 1, "block_config": "FA-CA-MLP", "concat_padding_mask": True, "pos_emb_cls": "rope3d",
    "pos_emb_learnable": False, "pos_emb_interpolation": "crop", "block_x_format": "THWBD", "affline_emb_norm": True,
    "use_adaln_lora": True, "adaln_lora_dim": 256, "extra_per_block_abs_pos_emb": True,
    "extra_per_block_abs_pos_emb_type": "learnable", "rope_t_extrapolation_ratio": 2.0,
}  # fmt: skip
COSMOS_7B = {"model_channels": 4096, "num_blocks": 28, "num_heads": 32}
COSMOS_14B = {
    "model_channels": 5120, "num_blocks": 36, "num_heads": 40, "rope_h_extrapolation_ratio": 2.0,
    "rope_w_extrapolation_ratio": 2.0, "extra_h_extrapolation_ratio": 2.0, "extra_w_extrapolation_ratio": 2.0,
    "extra_t_extrapolation_ratio": 2.0,
}  # fmt: skip
COSMOS_TEXT = (
    "blocks.block0.blocks.1.block.attn.to_q.0",  # cross-attention, by the inner index alone
    "blocks.block27.blocks.1.block.attn.to_out.0",
    "blocks.block0.blocks.2.block.layer1",
    "x_embedder.proj.1",
)
PREDICT2 = {
    "image_model": "cosmos_predict2", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16,
    "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "concat_padding_mask": True, "crossattn_emb_channels": 1024,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30,
    "use_adaln_lora": True, "adaln_lora_dim": 256, "extra_per_block_abs_pos_emb": False, "rope_h_extrapolation_ratio": 4.0,
    "rope_w_extrapolation_ratio": 4.0, "rope_t_extrapolation_ratio": 1.0, "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0, "extra_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False,
}  # fmt: skip
PREDICT2_2B = {"model_channels": 2048, "num_blocks": 28, "num_heads": 16}
PREDICT2_14B = {"model_channels": 5120, "num_blocks": 36, "num_heads": 40}
PREDICT2_TEXT = ("blocks.0.cross_attn.q_proj", "blocks.27.cross_attn.output_proj", "blocks.0.mlp.layer1", "t_embedder.1.linear_1")
VIDEO = {"in_channels": 17}  # with the mask of the given frames

LUMINA2 = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 2304, "cap_feat_dim": 2304, "n_layers": 26,
    "qk_norm": True, "n_heads": 24, "n_kv_heads": 8, "axes_dims": [32, 32, 32], "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0, "ffn_dim_multiplier": 4.0,
}  # fmt: skip
ZIMAGE = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840, "cap_feat_dim": 2560, "n_layers": 30,
    "qk_norm": True, "n_heads": 30, "n_kv_heads": 30, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0, "ffn_dim_multiplier": 8.0 / 3.0, "z_image_modulation": True, "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}  # fmt: skip
PIXEL = {
    "image_model": "zimage_pixel", "patch_size": 32, "in_channels": 3, "decoder_in_channels": 3072, "decoder_hidden_size": 3840,
    "decoder_num_res_blocks": 4, "decoder_max_freqs": 8,
}  # fmt: skip
REFINER = ("context_refiner.0.attention.qkv", "context_refiner.1.attention.out", "cap_embedder.1", "layers.0.feed_forward.w1")

PID = {"image_model": "pid", "lq_hidden_dim": 512, "lq_interval": 2, "lq_latent_channels": 16, "latent_spatial_down_factor": 8}
PID_15 = {
    "latent_spatial_down_factor": 16, "lq_latent_channels": 128, "lq_latent_unpatchify_factor": 2, "lq_gate_per_token": True,
    "lq_conv_padding_mode": "replicate", "pit_lq_inject": True, "rope_ref_h": 2048, "rope_ref_w": 2048,
}  # fmt: skip
PATCH_TEXT = ("patch_blocks.0.attn.qkv_y", "patch_blocks.13.attn.proj_y", "y_embedder.proj", "pixel_blocks.0.compress_to_attn")

KANDINSKY = {
    "image_model": "kandinsky5", "axes_dims": (32, 48, 48), "model_dim": 4096, "ff_dim": 16384, "time_dim": 1024,
    "visual_embed_dim": 132, "num_text_blocks": 4, "num_visual_blocks": 60,
}  # fmt: skip
LITE = {
    "axes_dims": (16, 24, 24), "model_dim": 1792, "ff_dim": 7168, "time_dim": 512, "num_text_blocks": 2, "num_visual_blocks": 32,
}  # fmt: skip
IMAGE = {
    "rope_scale_factor": (1.0, 1.0, 1.0), "model_dim": 2560, "ff_dim": 10240, "time_dim": 512, "visual_embed_dim": 64,
    "num_text_blocks": 2, "num_visual_blocks": 50,
}  # fmt: skip
KANDINSKY_TEXT = (
    "text_transformer_blocks.0.self_attention.to_query",
    "text_transformer_blocks.1.self_attention.out_layer",
    "visual_transformer_blocks.0.cross_attention.to_query",
    "visual_transformer_blocks.0.feed_forward.in_layer",
    "pooled_text_embeddings.in_layer",
)

FULL = [
    # Cosmos: four projections in each block, and the output
    Full("CosmosT2V", "cosmos", 4 * 28 + 1, COSMOS | COSMOS_7B, COSMOS_TEXT, "7B"),
    Full("CosmosT2V", "cosmos", 4 * 36 + 1, COSMOS | COSMOS_14B, COSMOS_TEXT, "14B"),
    Full("CosmosI2V", "cosmos", 4 * 28 + 1, COSMOS | COSMOS_7B | VIDEO, COSMOS_TEXT, "7B"),
    Full("CosmosI2V", "cosmos", 4 * 36 + 1, COSMOS | COSMOS_14B | VIDEO, COSMOS_TEXT, "14B"),
    Full("CosmosT2IPredict2", "cosmos-predict2", 4 * 28 + 1, PREDICT2 | PREDICT2_2B, PREDICT2_TEXT, "2B"),
    Full("CosmosT2IPredict2", "cosmos-predict2", 4 * 36 + 1, PREDICT2 | PREDICT2_14B, PREDICT2_TEXT, "14B"),
    Full("CosmosI2VPredict2", "cosmos-predict2", 4 * 28 + 1, PREDICT2 | PREDICT2_2B | VIDEO, PREDICT2_TEXT, "2B"),
    Full("CosmosI2VPredict2", "cosmos-predict2", 4 * 36 + 1, PREDICT2 | PREDICT2_14B | VIDEO, PREDICT2_TEXT, "14B"),
    Full(
        "Anima",
        "cosmos-predict2",
        4 * 28 + 1,
        PREDICT2 | PREDICT2_2B | {"image_model": "anima"},
        (
            *PREDICT2_TEXT,
            "llm_adapter.blocks.0.self_attn.q_proj",
            "llm_adapter.blocks.5.cross_attn.v_proj",
            "llm_adapter.out_proj",
        ),
    ),
    # Lumina: two layers in each block and in each of the two refiners of noise
    Full("Lumina2", "lumina", 2 * (26 + 2), LUMINA2, REFINER),
    Full(
        "Lumina2",
        "lumina",
        2 * (36 + 2),
        LUMINA2 | {"n_layers": 36, "cap_feat_dim": 2560, "clip_text_dim": 1024},
        (*REFINER, "clip_text_pooled_proj.1", "time_text_embed.1"),
        "NewBie",
    ),
    Full("ZImage", "lumina", 2 * (30 + 2), ZIMAGE, REFINER),
    Full("ZImagePixelSpace", "lumina", 2 * (30 + 2), ZIMAGE | PIXEL, (*REFINER, "dec_net.cond_embed")),
    # PixelDiT: two layers in each of 14 blocks of patches and 2 of pixels, and the time embedding
    # its file names everything core.*, which ComfyUI's detection looks for and its loader removes
    Full("PixelDiTT2I", "pixeldit", 2 * (14 + 2) + 2, {"image_model": "pixeldit_t2i"}, PATCH_TEXT, detected="-"),
    Full("PiD", "pixeldit", 2 * (14 + 2) + 2, PID, (*PATCH_TEXT, "lq_proj.latent_proj.0"), "1"),
    Full("PiD", "pixeldit", 2 * (14 + 2) + 2, PID | PID_15, (*PATCH_TEXT, "pit_lq_gate.content_proj"), "1.5 for Flux.2"),
    # Kandinsky: three projections in each visual block, input, output, and two of the time embedding
    Full("Kandinsky5", "kandinsky5", 3 * 32 + 4, KANDINSKY | LITE, KANDINSKY_TEXT, "lite"),
    Full("Kandinsky5", "kandinsky5", 3 * 60 + 4, KANDINSKY, KANDINSKY_TEXT, "pro"),
    Full("Kandinsky5Image", "kandinsky5", 3 * 50 + 4, KANDINSKY | IMAGE, KANDINSKY_TEXT, "lite"),
]

TINY_COSMOS = {
    "max_img_h": 16, "max_img_w": 16, "max_frames": 4, "model_channels": 32, "num_blocks": 2, "num_heads": 2, "adaln_lora_dim": 8,
    "crossattn_emb_channels": 16,
}  # fmt: skip
TINY_LUMINA = {"n_layers": 1, "n_refiner_layers": 1, "multiple_of": 16, "ffn_dim_multiplier": 1.0, "cap_feat_dim": 16}
TINY_ZIMAGE = {"dim": 256, "n_heads": 16, "n_kv_heads": 16, "axes_dims": [4, 6, 6], "pad_tokens_multiple": 4}  # 256: fixed there
TINY_PIXELDIT = {
    "num_groups": 2, "hidden_size": 32, "pixel_hidden_size": 8, "pixel_attn_hidden_size": 16, "pixel_num_groups": 2,
    "patch_depth": 2, "pixel_depth": 1, "patch_size": 4, "txt_embed_dim": 16, "txt_max_length": 8,
}  # fmt: skip
TINY_KANDINSKY = {
    "in_text_dim": 16, "in_text_dim2": 16, "time_dim": 16, "model_dim": 32, "ff_dim": 32, "num_text_blocks": 1,
    "num_visual_blocks": 2, "axes_dims": (4, 6, 6),
}  # fmt: skip
WORDS = (5, 16)
FILM = (16, 2, 8, 8)

TINY = [
    # x is (time, height, width, batch, width of the model) in the blocks: a layer's rows are not the samples
    Tiny("CosmosT2V", "cosmos", COSMOS | TINY_COSMOS, FILM, WORDS, batched=False),
    Tiny(
        "CosmosI2V",
        "cosmos",
        COSMOS | TINY_COSMOS | VIDEO,
        FILM,
        WORDS,
        cond={"concat_mask": (1, 2, 8, 8)},
        batched=False,
    ),
    Tiny("CosmosT2IPredict2", "cosmos-predict2", PREDICT2 | TINY_COSMOS, (16, 1, 8, 8), WORDS),
    Tiny(
        "CosmosI2VPredict2",
        "cosmos-predict2",
        PREDICT2 | TINY_COSMOS | VIDEO,
        FILM,
        WORDS,
        cond={"concat_mask": (1, 2, 8, 8)},
    ),
    Tiny(
        "Anima",
        "cosmos-predict2",
        PREDICT2 | TINY_COSMOS | {"image_model": "anima"},
        (16, 1, 8, 8),
        WORDS,
        cond={"t5xxl_ids": torch.arange(4), "t5xxl_weights": torch.tensor([1.0, 1.0, 1.2, 1.0])},
        shrunk={"comfy.ldm.anima.model.LLMAdapter": {1024: 16, 16: 2, 6: 1}},  # widths, heads, blocks
    ),
    Tiny(
        "Lumina2",
        "lumina",
        LUMINA2 | TINY_LUMINA | {"dim": 48, "n_heads": 4, "n_kv_heads": 2, "axes_dims": [4, 4, 4]},
        (16, 8, 8),
        WORDS,
    ),
    Tiny(
        "Lumina2",
        "lumina",
        LUMINA2 | TINY_LUMINA | {"dim": 48, "n_heads": 4, "n_kv_heads": 2, "axes_dims": [4, 4, 4], "clip_text_dim": 16},
        (16, 8, 8),
        WORDS,
        cond={"pooled_output": (16,)},
        variant="NewBie",
    ),
    Tiny("ZImage", "lumina", ZIMAGE | TINY_LUMINA | TINY_ZIMAGE, (16, 8, 8), WORDS),
    Tiny(
        "ZImagePixelSpace",
        "lumina",
        ZIMAGE
        | PIXEL
        | TINY_LUMINA
        | TINY_ZIMAGE
        | {"patch_size": 4, "decoder_in_channels": 48, "decoder_hidden_size": 16, "decoder_num_res_blocks": 1},
        (3, 16, 16),
        WORDS,
    ),
    Tiny("PixelDiTT2I", "pixeldit", {"image_model": "pixeldit_t2i"} | TINY_PIXELDIT, (3, 16, 16), WORDS),
    Tiny(
        "PiD",
        "pixeldit",
        PID | TINY_PIXELDIT | {"lq_hidden_dim": 16},
        (3, 16, 16),
        WORDS,
        cond={"lq_latent": (16, 2, 2), "degrade_sigma": ()},
    ),
    Tiny("Kandinsky5", "kandinsky5", KANDINSKY | TINY_KANDINSKY, FILM, WORDS, cond={"pooled_output": (16,)}),
    Tiny(
        "Kandinsky5Image",
        "kandinsky5",
        KANDINSKY | IMAGE | TINY_KANDINSKY,
        (16, 8, 8),
        WORDS,
        cond={"pooled_output": (16,)},
    ),
]
