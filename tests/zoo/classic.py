"""Diffusion transformers from before the time of Flux, Stable Cascade among them, and the audio models.

Two classes have sizes written into ComfyUI's source, not into the configuration: ACEStep (its lyric encoder alone has 80 million
parameters) and MiniMaxMusic3 (2.4 billion).
"""

from __future__ import annotations

import torch

from .model import Full, Tiny

CASCADE_C_LITE = {"c_cond": 1536, "c_hidden": [1536, 1536], "nhead": [24, 24], "blocks": [[4, 12], [12, 4]]}
CASCADE_B = {
    "c_hidden": [320, 640, 1280, 1280], "nhead": [-1, -1, 20, 20], "blocks": [[2, 6, 28, 6], [6, 28, 6, 2]],
    "block_repeat": [[1, 1, 1, 1], [3, 3, 2, 2]],
}  # fmt: skip
CASCADE_B_LITE = {
    "c_hidden": [320, 576, 1152, 1152], "nhead": [-1, 9, 18, 18], "blocks": [[2, 4, 14, 4], [4, 14, 4, 2]],
    "block_repeat": [[1, 1, 1, 1], [2, 2, 2, 2]],
}  # fmt: skip
SD3 = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 24, "input_size": None, "adm_in_channels": 2048,
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536}},
    "num_patches": 36864, "pos_embed_max_size": 192, "pos_embed_scaling_factor": None, "x_block_self_attn_layers": [],
}  # fmt: skip
SD35_LARGE = SD3 | {
    "depth": 38, "qk_norm": "rms",
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 2432}},
}  # fmt: skip
SD35_MEDIUM = SD3 | {
    "qk_norm": "rms", "num_patches": 147456, "pos_embed_max_size": 384, "x_block_self_attn_layers": list(range(13)),
}  # fmt: skip
AURA = {"max_seq": 4096, "cond_seq_dim": 2048, "n_double_layers": 4, "n_layers": 36}
PIXART = {
    "num_heads": 16, "patch_size": 2, "hidden_size": 1152, "in_channels": 4, "depth": 28, "model_max_length": 120,
    "micro_condition": True, "image_model": "pixart_alpha",
}  # fmt: skip
SIGMA = PIXART | {"model_max_length": 300, "micro_condition": False, "image_model": "pixart_sigma"}
HYDIT = {"image_model": "hydit", "depth": 40, "hidden_size": 1408, "mlp_ratio": 4.3637}
HYDIT1 = HYDIT | {"image_model": "hydit1", "size_cond": True, "use_style_cond": True}
MOCHI = {
    "image_model": "mochi_preview", "depth": 48, "patch_size": 2, "num_heads": 24, "hidden_size_x": 3072, "hidden_size_y": 1536,
    "mlp_ratio_x": 4.0, "mlp_ratio_y": 4.0, "learn_sigma": False, "in_channels": 12, "qk_norm": True, "qkv_bias": False,
    "out_bias": True, "attn_drop": 0.0, "patch_embed_bias": True, "posenc_preserve_area": True, "timestep_mlp_bias": True,
    "attend_to_padding": False, "timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": 4096, "t5_token_length": 256,
    "rope_theta": 10000.0,
}  # fmt: skip
COG_2B = {
    "image_model": "cogvideox", "num_attention_heads": 30, "attention_head_dim": 64, "time_embed_dim": 512, "num_layers": 30,
    "in_channels": 16, "patch_size": 2, "text_embed_dim": 4096, "use_learned_positional_embeddings": False,
    "use_rotary_positional_embeddings": True,
}  # fmt: skip
COG_5B = COG_2B | {"num_attention_heads": 48, "num_layers": 42}
LEARNED = {  # fewer frames than it was made for: the table of positions is never on meta
    "use_learned_positional_embeddings": True, "use_rotary_positional_embeddings": False, "sample_frames": 1,
}  # fmt: skip
COG_15 = COG_5B | {"patch_size_t": 2}
AUDIO = {
    "audio_model": "dit1.0", "global_cond_dim": 1536, "project_cond_tokens": False, "embed_dim": 1536, "num_heads": 24,
    "timestep_features_type": "learned", "io_channels": 64, "input_concat_dim": 0, "depth": 24,
}  # fmt: skip
AUDIO3 = AUDIO | {
    "global_cond_dim": 768, "project_cond_tokens": True, "timestep_features_type": "expo", "io_channels": 256,
    "num_memory_tokens": 64, "attn_kwargs": {"qk_norm": "rms", "differential": True}, "norm_type": "rms_norm",
    "local_add_cond_dim": 257, "global_cond_shared_embed": True, "global_cond_type": "adaLN",
}  # fmt: skip
SECONDS = {"embedder.embedding.0.weights": (128,), "embedder.embedding.1.weight": (768, 257), "embedder.embedding.1.bias": (768,)}
SECONDS3 = {"embedder.embedding.1.weight": (768, 256), "embedder.embedding.1.bias": (768,)}
CONDITIONERS = {
    f"conditioner.conditioners.{name}.{key}": s for name in ("seconds_start", "seconds_total") for key, s in SECONDS.items()
}
CONDITIONERS3 = {f"conditioner.conditioners.seconds_total.{key}": shape for key, shape in SECONDS3.items()}
ACE = {
    "audio_model": "ace", "attention_head_dim": 128, "in_channels": 8, "inner_dim": 2560, "max_height": 16,
    "max_position": 32768, "max_width": 32768, "mlp_ratio": 2.5, "num_attention_heads": 20, "num_layers": 24,
    "out_channels": 8, "patch_size": [16, 1], "rope_theta": 1000000.0, "speaker_embedding_dim": 512, "text_embedding_dim": 768,
    "ssl_encoder_depths": [8, 8], "ssl_latent_dims": [1024, 768], "ssl_names": ["mert", "m-hubert"],
    "lyric_encoder_vocab_size": 6693, "lyric_hidden_size": 1024,
}  # fmt: skip
ACE15 = {
    "audio_model": "ace1.5", "hidden_size": 2048, "intermediate_size": 6144, "num_heads": 16, "encoder_hidden_size": 2048,
    "encoder_num_heads": 16, "encoder_intermediate_size": 6144, "num_dit_layers": 24,
}  # fmt: skip
JOINT = ("joint_blocks.0.context_block.attn.qkv", "joint_blocks.3.context_block.attn.proj", "context_embedder", "x_embedder.proj")

FULL = [
    # four layers in each attention block
    Full(
        "Stable_Cascade_C",
        "cascade",
        4 * (8 + 24 + 24 + 8),
        {"stable_cascade_stage": "c", "c_cond": 2048},
        ("down_blocks.0.2.kv_mapper.1", "clip_txt_mapper", "clip_txt_pooled_mapper", "down_blocks.0.1.mapper_crp"),
    ),
    Full(
        "Stable_Cascade_C",
        "cascade",
        4 * (4 + 12 + 12 + 4),
        {"stable_cascade_stage": "c"} | CASCADE_C_LITE,
        ("up_blocks.1.2.kv_mapper.1", "clip_img_mapper"),
        variant="lite",
    ),
    Full(
        "Stable_Cascade_B",
        "cascade",
        4 * (28 + 6 + 6 + 28),  # the two lower levels
        {"stable_cascade_stage": "b"} | CASCADE_B,
        ("down_blocks.2.2.kv_mapper.1", "clip_mapper", "effnet_mapper.0", "embedding.1"),
    ),
    Full(
        "Stable_Cascade_B",
        "cascade",
        4 * (14 + 4 + 4 + 14),
        {"stable_cascade_stage": "b"} | CASCADE_B_LITE,
        ("up_blocks.0.2.kv_mapper.1", "clip_mapper"),
        variant="lite",
    ),
    Full("SD3", "sd3", 48, SD3, JOINT, variant="medium"),
    Full("SD3", "sd3", 76, SD35_LARGE, JOINT, variant="3.5 large"),
    Full("SD3", "sd3", 74, SD35_MEDIUM, JOINT, variant="3.5 medium"),
    Full(
        "AuraFlow",
        "auraflow",
        144,
        AURA,
        (
            "double_layers.0.attn.w1q",
            "double_layers.3.attn.w1o",
            "cond_seq_linear",
            "double_layers.0.mlpC.c_fc1",
            "init_x_linear",
        ),
    ),
    # two layers a block, the last layer, two of the time embedding
    Full(
        "PixArtAlpha",
        "pixart",
        28 * 2 + 3,
        PIXART,
        (
            "blocks.0.cross_attn.proj",
            "blocks.0.cross_attn.kv_linear",
            "y_embedder.y_proj.fc1",
            "csize_embedder.mlp.0",
            "t_block.1",
        ),
    ),
    Full(
        "PixArtSigma",
        "pixart",
        28 * 2 + 3,
        SIGMA,
        ("blocks.0.cross_attn.proj", "blocks.27.cross_attn.q_linear", "y_embedder.y_proj.fc2", "x_embedder.proj"),
    ),
    Full(
        "HunyuanDiT",
        "hunyuandit",
        40 * 2 + 3,
        HYDIT,
        ("blocks.0.attn2.out_proj", "blocks.0.attn2.q_proj", "pooler.q_proj", "mlp_t5.0", "blocks.21.skip_linear"),
    ),
    Full(
        "HunyuanDiT1",
        "hunyuandit",
        40 * 2 + 3,
        HYDIT1,
        ("blocks.39.attn2.out_proj", "blocks.0.attn2.kv_proj", "pooler.c_proj", "extra_embedder.0"),
    ),
    Full(
        "GenmoMochi",
        "mochi",
        48 * 2 + 3,
        MOCHI,
        ("blocks.0.attn.qkv_y", "blocks.0.attn.proj_y", "t5_yproj", "t5_y_embedder.to_out", "blocks.0.mod_x"),
    ),
    # four layers a block, the last layer, two of the time embedding
    Full("CogVideoX_T2V", "cogvideox", 30 * 4 + 3, COG_2B, ("patch_embed.text_proj", "blocks.0.norm1.linear"), variant="2B"),
    Full("CogVideoX_T2V", "cogvideox", 42 * 4 + 3, COG_5B, ("patch_embed.text_proj", "blocks.0.ff_out"), variant="5B"),
    Full(
        "CogVideoX_I2V",
        "cogvideox",
        42 * 4 + 3,
        COG_5B | LEARNED | {"in_channels": 32},
        ("patch_embed.text_proj", "patch_embed.proj"),
        variant="5B",
    ),
    Full(
        "CogVideoX_I2V",
        "cogvideox",
        42 * 4 + 3,
        COG_15 | {"in_channels": 32, "ofs_embed_dim": 512},
        ("patch_embed.text_proj", "ofs_embedding_linear_1"),
        variant="1.5 5B",
    ),
    Full(
        "CogVideoX_Inpaint", "cogvideox", 42 * 4 + 3, COG_15 | {"in_channels": 48}, ("patch_embed.text_proj", "norm_out.linear")
    ),
    # two layers a block, in and out, two of the time embedding
    Full(
        "StableAudio",
        "stableaudio",
        24 * 2 + 4,
        AUDIO,
        (
            "transformer.layers.0.cross_attn.to_out",
            "transformer.layers.0.cross_attn.to_q",
            "to_cond_embed.0",
            "to_global_embed.0",
        ),
        state=CONDITIONERS,
    ),
    Full(
        "StableAudio3",
        "stableaudio3",
        24 * 2 + 4,
        AUDIO3,
        ("transformer.layers.0.cross_attn.to_kv", "to_cond_embed.2", "transformer.layers.0.to_local_embed.0"),
        state=CONDITIONERS3,
    ),
    Full(
        "MiniMaxMusic3",
        "minimaxmusic",
        36 * 2 + 4,
        {"audio_model": "minimax_music3"},
        (
            "latent_conditioners.0",
            "diffusion_transformer.preprocess_conv",
            "diffusion_transformer.transformer.layers.0.ff.ff.0.proj",
        ),
    ),
    # four layers a block, two of the time embedding
    Full(
        "ACEStep",
        "acestep",
        24 * 4 + 2,
        ACE,
        ("transformer_blocks.0.cross_attn.to_q", "lyric_encoder.encoders.0.self_attn.linear_q", "lyric_proj", "genre_embedder"),
    ),
    Full(
        "ACEStep15",
        "acestep15",
        24 * 4 + 2,
        ACE15,
        (
            "decoder.layers.0.cross_attn.q_proj",
            "encoder.lyric_encoder.layers.0.self_attn.q_proj",
            "encoder.timbre_encoder.layers.0.self_attn.o_proj",
            "tokenizer.attention_pooler.layers.0.self_attn.q_proj",
            "detokenizer.layers.0.self_attn.q_proj",
        ),
    ),
]

# small: widths and depths cut, the rest as above
SMALL_C = {
    "stable_cascade_stage": "c", "c_cond": 32, "c_hidden": [32, 32], "nhead": [2, 2], "blocks": [[1, 1], [1, 1]],
    "c_clip_text": 16, "c_clip_text_pooled": 16,
}  # fmt: skip
SMALL_B = {
    "stable_cascade_stage": "b", "c_cond": 32, "c_clip": 16, "c_hidden": [16, 16, 32, 32], "nhead": [-1, -1, 2, 2],
    "blocks": [[1, 1, 1, 1], [1, 1, 1, 1]], "block_repeat": [[1, 1, 1, 1], [2, 2, 2, 2]],
}  # fmt: skip
SMALL_SD3 = SD35_MEDIUM | {
    "depth": 2, "adm_in_channels": 16, "num_patches": 64, "pos_embed_max_size": 8, "x_block_self_attn_layers": [0],
    "context_embedder_config": {"target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 128}},
}  # fmt: skip
SMALL_AURA = {
    "max_seq": 64, "cond_seq_dim": 16, "n_double_layers": 1, "n_layers": 2, "dim": 32, "n_heads": 2, "global_conddim": 32,
}  # fmt: skip
SMALL_PIXART = {"hidden_size": 48, "num_heads": 2, "depth": 1, "caption_channels": 16, "model_max_length": 8}
SMALL_HYDIT = {
    "depth": 4, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2.0, "text_len": 5, "text_len_t5": 6, "text_states_dim": 16,
    "text_states_dim_t5": 16,
}  # fmt: skip
HYDIT_COND = {"attention_mask": (5,), "conditioning_mt5xl": (6, 16), "attention_mask_mt5xl": (6,)}
SMALL_MOCHI = {  # the product of width and ratio, 12288, is asserted
    "depth": 2, "num_heads": 2, "hidden_size_x": 32, "hidden_size_y": 16, "mlp_ratio_x": 384.0, "t5_feat_dim": 16,
    "t5_token_length": 5,
}  # fmt: skip
SMALL_COG = {"num_attention_heads": 2, "attention_head_dim": 16, "time_embed_dim": 32, "num_layers": 1, "text_embed_dim": 16}
SMALL_AUDIO = {"embed_dim": 64, "num_heads": 2, "depth": 1, "project_cond_tokens": True}  # the width of the prompt is fixed
PADDING = {"conditioner.conditioners.prompt.padding_embedding": (768,)}
SMALL_ACE = {
    "attention_head_dim": 16, "num_attention_heads": 2, "num_layers": 2, "max_position": 64, "text_embedding_dim": 16,
    "lyric_hidden_size": 32, "lyric_encoder_vocab_size": 16, "ssl_latent_dims": [8, 8],
}  # fmt: skip
SMALL_LYRICS = {1024: 32, 4096: 32, 16: 2, 6: 1}  # widths, heads, blocks
# widths; the noise, as many zeros and the condition go in side by side: 128 + 128 + 2048. All 36 blocks stay.
SMALL_MINIMAX = {2048: 64, 8192: 64, 2304: 128 + 128 + 64}
SMALL_ACE15 = {
    "hidden_size": 32, "intermediate_size": 64, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "num_dit_layers": 2,
    "encoder_hidden_size": 32, "encoder_intermediate_size": 64, "encoder_num_heads": 4, "text_hidden_dim": 16,
    "num_lyric_layers": 1, "num_timbre_layers": 1, "num_tokenizer_layers": 1, "sliding_window": 4, "fsq_dim": 32,
}  # fmt: skip

TINY = [
    Tiny("Stable_Cascade_C", "cascade", SMALL_C, (16, 4, 4), (5, 16), cond={"pooled_output": (16,)}),
    Tiny(
        "Stable_Cascade_B",
        "cascade",
        SMALL_B,
        latent=(4, 32, 32),
        text=(5, 16),
        cond={"pooled_output": (16,), "stable_cascade_prior": (16, 3, 3)},
    ),
    Tiny("SD3", "sd3", SMALL_SD3, (16, 8, 8), (5, 16), cond={"pooled_output": (16,)}, variant="3.5 medium"),
    Tiny("AuraFlow", "auraflow", SMALL_AURA, (4, 8, 8), (5, 16)),
    # positions are scaled by the side of the latent, which must be above 32
    Tiny("PixArtAlpha", "pixart", PIXART | SMALL_PIXART, (4, 40, 40), (5, 16), cond={"width": 320, "height": 320}),
    Tiny("PixArtSigma", "pixart", SIGMA | SMALL_PIXART, (4, 40, 40), (5, 16)),
    Tiny("HunyuanDiT", "hunyuandit", HYDIT | SMALL_HYDIT, (4, 8, 8), (5, 16), cond=HYDIT_COND),
    Tiny("HunyuanDiT1", "hunyuandit", HYDIT1 | SMALL_HYDIT, (4, 8, 8), (5, 16), cond=HYDIT_COND),
    Tiny("GenmoMochi", "mochi", MOCHI | SMALL_MOCHI, (12, 2, 4, 4), (5, 16), cond={"attention_mask": torch.ones(1, 5).long()}),
    Tiny("CogVideoX_T2V", "cogvideox", COG_2B | SMALL_COG, (16, 2, 8, 8), (5, 16)),
    Tiny(
        "CogVideoX_I2V",
        "cogvideox",
        COG_15 | SMALL_COG | {"in_channels": 32, "ofs_embed_dim": 32},
        latent=(16, 2, 8, 8),
        text=(5, 16),
        variant="1.5",
    ),
    Tiny("StableAudio", "stableaudio", AUDIO | SMALL_AUDIO, (64, 16), (5, 768), state=CONDITIONERS),
    Tiny(
        "StableAudio3",
        "stableaudio3",
        AUDIO3 | SMALL_AUDIO | {"num_memory_tokens": 4},
        latent=(256, 16),
        text=(5, 768),
        state=CONDITIONERS3 | PADDING,
    ),
    Tiny(
        "MiniMaxMusic3",
        "minimaxmusic",
        {"audio_model": "minimax_music3"},
        latent=(128, 12),
        text=(4, 8 * 4096),
        cond={"conditioning_scale": (1, 1)},
        shrunk={
            "comfy.ldm.minimax_music.dit.TransformerBlock": SMALL_MINIMAX,
            "comfy.ops.disable_weight_init.Linear": SMALL_MINIMAX,
            "comfy.ops.disable_weight_init.Conv1d": SMALL_MINIMAX,
        },
    ),
    Tiny(
        "ACEStep",
        "acestep",
        ACE | SMALL_ACE,
        latent=(8, 16, 6),
        text=(5, 16),
        cond={"conditioning_lyrics": torch.arange(4).reshape(1, 4)},
        shrunk={"comfy.ldm.ace.model.LyricEncoder": SMALL_LYRICS},
    ),
    Tiny(
        "ACEStep15",
        "acestep15",
        ACE15 | SMALL_ACE15,
        latent=(64, 20),
        text=(5, 16),
        cond={"conditioning_lyrics": (4, 16)},
        batched=False,  # the timbre of every sample goes to the first one
    ),
]
