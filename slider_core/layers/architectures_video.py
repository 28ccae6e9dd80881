"""Architectures of video and sound models, one row per naming scheme (architecture.py has the rule)."""

from __future__ import annotations

from .architecture import Architecture

STABLE_AUDIO = (
    r"^transformer\.layers\.\d+\.self_attn\.to_(?:qkv|out)$",
    r"^transformer\.project_(?:in|out)$",
    r"^to_timestep_embed\.[02]$",
)
VIDEO_AND_SOUND = (
    Architecture(
        "mochi",
        "Genmo Mochi",
        recognised_by=(r"^blocks\.0\.attn\.qkv_x$", r"^blocks\.0\.attn\.qkv_y$"),
        patterns=(r"^blocks\.\d+\.attn\.(?:qkv|proj)_x$", r"^final_layer\.linear$", r"^t_embedder\.mlp\.[02]$"),
        text=(r"^blocks\.\d+\.attn\.(?:qkv|proj)_y$", r"^blocks\.\d+\.(?:mlp_y\.|mod_y$)", r"^t5_y"),
        reference=(r"^blocks\.\d+\.attn\.(?:qkv|proj)_x$", r"^final_layer\.linear$"),
    ),
    Architecture(
        "cogvideox",
        "CogVideoX",  # text and video tokens share every block
        recognised_by=(r"^blocks\.0\.attn_out$", r"^blocks\.0\.norm1\.linear$", r"^patch_embed\.text_proj$"),
        patterns=(r"^blocks\.\d+\.(?:q|k|v|attn_out)$", r"^proj_out$", r"^time_embedding_linear_[12]$"),
        text=(r"^patch_embed\.text_proj$",),
        reference=None,
    ),
    Architecture(
        "stableaudio3",
        "Stable Audio 3",  # differential attention: to_qkv stacks q, k, v and a second q and k
        recognised_by=(
            r"^transformer\.layers\.0\.self_attn\.to_qkv$",
            r"^transformer\.global_cond_embedder\.0$",
            r"^to_cond_embed\.0$",
        ),
        patterns=STABLE_AUDIO,
        text=(r"^transformer\.layers\.\d+\.cross_attn\.", r"^to_cond_embed\."),
        reference=(
            r"^transformer\.layers\.\d+\.self_attn\.to_qkv$",
            r"^transformer\.layers\.\d+\.ff\.ff\.(?:0\.proj|2)$",
            r"^transformer\.project_(?:in|out)$",
        ),
    ),
    Architecture(
        "stableaudio",
        "Stable Audio Open",
        recognised_by=(r"^transformer\.layers\.0\.self_attn\.to_qkv$", r"^transformer\.project_in$", r"^to_cond_embed\.0$"),
        patterns=STABLE_AUDIO,
        text=(r"^transformer\.layers\.\d+\.cross_attn\.", r"^to_cond_embed\."),
        reference=(r"^transformer\.layers\.\d+\.self_attn\.to_(?:qkv|out)$", r"^transformer\.project_(?:in|out)$"),
    ),
    Architecture(
        "minimaxmusic",
        "MiniMax Music 3",  # no text inside: a language model's states come in through latent_conditioners
        recognised_by=(r"^diffusion_transformer\.transformer\.layers\.0\.self_attn\.to_qkv$", r"^latent_conditioners\.0$"),
        patterns=(
            r"^diffusion_transformer\.transformer\.layers\.\d+\.self_attn\.to_(?:qkv|out)$",
            r"^diffusion_transformer\.transformer\.project_(?:in|out)$",
            r"^diffusion_transformer\.to_timestep_embed\.[02]$",
        ),
        text=(r"^latent_conditioners\.",),
        reference=(r"^diffusion_transformer\.transformer\.project_(?:in|out)$",),
    ),
    Architecture(
        "acestep",
        "ACE-Step 1",
        recognised_by=(r"^transformer_blocks\.0\.attn\.to_q$", r"^genre_embedder$", r"^lyric_proj$"),
        patterns=(r"^transformer_blocks\.\d+\.attn\.(?:to_q|to_k|to_v|to_out\.0)$", r"^timestep_embedder\.linear_[12]$"),
        text=(r"^transformer_blocks\.\d+\.cross_attn\.", r"^lyric_", r"^genre_embedder$", r"^speaker_embedder$"),
    ),
    Architecture(
        "acestep15",
        "ACE-Step 1.5",
        recognised_by=(
            r"^decoder\.layers\.0\.self_attn\.q_proj$",
            r"^encoder\.lyric_encoder\.embed_tokens$",
            r"^tokenizer\.quantizer$",
        ),
        patterns=(r"^decoder\.layers\.\d+\.self_attn\.[qkvo]_proj$", r"^decoder\.time_embed\.linear_[12]$"),
        text=(r"^decoder\.layers\.\d+\.cross_attn\.", r"^decoder\.condition_embedder$", r"^encoder\."),
    ),
    Architecture(
        "hunyuan",
        "HunyuanVideo 1.0 and 1.5, SkyReels, HunyuanImage 2.1",
        recognised_by=(r"^txt_in\.individual_token_refiner\.blocks\.0$", r"^double_blocks\.0\.img_attn\.qkv$", r"^img_in\.proj$"),
        patterns=(
            r"^(?:double_blocks\.\d+\.img_attn\.(?:qkv|proj)|single_blocks\.\d+\.linear1)$",  # 1.5 has no single blocks
            r"^final_layer\.linear$",
        ),
        fused=(r"^single_blocks\.\d+\.linear1$",),
        text=(r"^double_blocks\.\d+\.txt_(?:attn|mlp|mod)\.", r"^txt_in\.", r"^byt5_in\.", r"^vector_in\."),
        # proj_in is the text refiner's, proj_out each single block's and the model's own
        reference=(r"^txt_in\.input_embedder$", r"^(?:single_blocks\.\d+\.linear2|final_layer\.linear)$"),
    ),
    Architecture(
        "ltx",
        "LTX-Video, LTX-2",
        recognised_by=(r"^patchify_proj$", r"^adaln_single\.linear$", r"^transformer_blocks\.0\.attn1\.to_q$"),
        patterns=(r"^transformer_blocks\.\d+\.attn1\.(?:to_q|to_k|to_v|to_out\.0)$", r"^patchify_proj$", r"^proj_out$"),
        text=(
            r"^transformer_blocks\.\d+\.(?:audio_)?attn2\.",
            r"^(?:audio_)?caption_projection\.",
            r"^(?:audio_)?prompt_adaln_single\.",
            r"^(?:video|audio)_embeddings_connector\.",
        ),
        reference=None,
    ),
    Architecture(
        "minimaxh3",
        "MiniMax H3",
        recognised_by=(r"^video_patch_proj$", r"^audio_patch_proj$", r"^blocks\.0\.attn\.qkv_proj$"),
        patterns=(
            r"^blocks\.\d+\.attn\.(?:qkv_proj|out_proj)$",
            r"^video_patch_proj$",
            r"^final_layer\.video_out$",
            r"^time_embedder\.proj_(?:in|out)$",
        ),
        text=(r"^token_refiner\.", r"^condition_proj$"),
        reference=(r"^video_patch_proj$", r"^final_layer\.video_out$"),
    ),
    Architecture(
        "wan",  # `vace_blocks` read the control video beside the main blocks: not touched, so that a slider fits plain Wan
        "Wan 2.1, 2.2 and their kin",
        recognised_by=(r"^blocks\.0\.self_attn\.q$", r"^text_embedding\.0$", r"^head\.head$"),
        patterns=(r"^blocks\.\d+\.self_attn\.(?:q|k|v|o)$",),
        text=(r"^(?:vace_)?blocks\.\d+\.cross_attn\.", r"^text_embedding\."),
        reference=(r"^(?:vace_)?blocks\.\d+\.(?:self_attn\.(?:q|k|v|o)|(?:before|after)_proj)$", r"^head\.head$"),
    ),
    Architecture(
        "cosmos",  # in each block 0 is self-attention, 1 cross-attention, 2 the MLP
        "Cosmos 1",
        recognised_by=(r"^blocks\.block0\.blocks\.0\.block\.attn\.to_q\.0$", r"^final_layer\.linear$"),
        patterns=(r"^blocks\.block\d+\.blocks\.0\.block\.attn\.to_(?:q|k|v|out)\.0$", r"^final_layer\.linear$"),
        text=(r"^blocks\.block\d+\.blocks\.1\.block\.attn\.",),
        reference=None,
    ),
    Architecture(
        "cosmos-predict2",  # t_embedder makes the blocks' modulation, not an embedding: left alone, as in Cosmos 1
        "Cosmos Predict2, Anima",
        recognised_by=(r"^blocks\.0\.self_attn\.q_proj$", r"^blocks\.0\.mlp\.layer1$", r"^x_embedder\.proj\.1$"),
        patterns=(r"^blocks\.\d+\.self_attn\.(?:q|k|v|output)_proj$", r"^final_layer\.linear$"),
        text=(r"^(?:blocks\.\d+\.cross_attn|llm_adapter)\.",),
        reference=None,
    ),
    Architecture(
        "kandinsky5",
        "Kandinsky 5 image, video",  # the guide's list has no output projection for it
        recognised_by=(r"^visual_transformer_blocks\.0\.self_attention\.to_query$", r"^pooled_text_embeddings\.in_layer$"),
        patterns=(
            r"^visual_transformer_blocks\.\d+\.self_attention\.to_(?:query|key|value)$",
            r"^visual_embeddings\.in_layer$",
            r"^out_layer\.out_layer$",
            r"^time_embeddings\.(?:in|out)_layer$",
        ),
        text=(
            r"^text_transformer_blocks\.",
            r"^(?:pooled_)?text_embeddings\.",
            r"^visual_transformer_blocks\.\d+\.cross_attention\.",
        ),
    ),
    Architecture(
        "seedvr2",
        "SeedVR2 3B, 7B",
        recognised_by=(r"^blocks\.0\.attn\.proj_qkv\.vid$", r"^emb_in\.proj_hid$", r"^vid_in\.proj$"),
        patterns=(r"^blocks\.\d+\.attn\.proj_(?:qkv|out)\.(?:vid|all)$",),  # `all`: both streams; emb_in makes the modulation
        text=(r"^blocks\.\d+\.attn\.proj_(?:qkv|out)\.txt$", r"^blocks\.\d+\.mlp\.txt\.", r"^txt_in$"),
    ),
)
