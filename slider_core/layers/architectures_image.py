"""Architectures of image models, one row per naming scheme (architecture.py has the rule)."""

from __future__ import annotations

from .architecture import Architecture

UNET = (
    r"(?:^|\.)attn1\.to_(?:q|k|v)$",
    r"(?:^|\.)attn1\.to_out\.0$",
    r"(?:^|\.)proj_(?:in|out)$",
    r"^input_blocks\.0\.0$",
    r"^out\.2$",
    r"^time_embed\.(?:0|2)$",
)
FLUX = (r"^double_blocks\.\d+\.img_attn\.(?:qkv|proj)$", r"^single_blocks\.\d+\.linear1$")  # linear1 is q, k, v and more
GENERAL = (
    r"(?:^|\.)attn1\.to_(?:q|k|v|qkv)$",
    r"(?:^|\.)attn1\.to_out\.0$",
    r"(?:^|\.)to_qkv$",
    r"(?:^|\.)proj_(?:in|out)$",
    r"(?:^|\.)conv_(?:in|out)$",
    r"(?:^|\.)time_embedding\.linear_(?:1|2)$",
)
IMAGE = (
    Architecture(
        "upscaler",
        "SD x4 upscaler",  # only its lowest level has self-attention: higher up attn1, too, looks at the prompt
        recognised_by=(r"^input_blocks\.0\.0$", r"^time_embed\.0$", r"^input_blocks\.11\.1\.transformer_blocks\.0\.attn1\.to_q$"),
        patterns=(
            r"^(?:input_blocks\.1[01]|output_blocks\.[0-2]|middle_block)\.1\.transformer_blocks\.\d+\.attn1\.to_(?:q|k|v|out\.0)$",
            *UNET[2:],
        ),
        text=(r"(?:^|\.)attn2\.", r"^(?:input_blocks\.\d|output_blocks\.(?:[3-9]|1\d))\.1\.transformer_blocks\.\d+\.attn1\."),
        reference=UNET,
    ),
    Architecture(
        "sdxs",
        "SDXS 0.9",  # its highest level has no self-attention
        recognised_by=(r"^input_blocks\.2\.0\.op$", r"^input_blocks\.1\.1\.proj_in$", r"^input_blocks\.5\.1\.proj_in$"),
        patterns=(
            r"^(?:input_blocks\.[35]|output_blocks\.[0-3])\.1\.transformer_blocks\.\d+\.attn1\.to_(?:q|k|v|out\.0)$",
            *UNET[2:],
        ),
        text=(r"(?:^|\.)attn2\.", r"^(?:input_blocks\.1|output_blocks\.[45])\.1\.transformer_blocks\.\d+\.attn1\."),
        reference=UNET,
    ),
    Architecture(
        "unet",
        "SD 1.x, SD 2.x, SDXL, SVD",
        recognised_by=(r"^input_blocks\.0\.0$", r"^time_embed\.0$", r"(?:^|\.)attn1\.to_q$"),
        patterns=UNET,
        text=(r"(?:^|\.)attn2\.",),
        reference=None,
    ),
    Architecture(
        "cascade",
        "Stable Cascade stages C and B",  # one attention over the image's tokens and the prompt's, which kv_mapper brings in
        recognised_by=(r"^clf\.1$", r"^down_blocks\.\d+\.\d+\.attention\.attn\.to_q$", r"^down_blocks\.\d+\.\d+\.kv_mapper\.1$"),
        patterns=(r"^(?:down|up)_blocks\.\d+\.\d+\.attention\.attn\.(?:to_q|to_k|to_v|out_proj)$",),
        text=(r"\.kv_mapper\.1$", r"^clip_(?:txt_|txt_pooled_|img_)?mapper$"),
    ),
    Architecture(
        "sd3",
        "Stable Diffusion 3 and 3.5",
        recognised_by=(r"^joint_blocks\.0\.x_block\.attn\.qkv$", r"^joint_blocks\.0\.context_block\.attn\.qkv$"),
        patterns=(r"^joint_blocks\.\d+\.x_block\.attn2?\.(?:qkv|proj)$",),
        text=(r"^joint_blocks\.\d+\.context_block\.", r"^context_embedder$"),
        reference=(r"^final_layer\.linear$",),
    ),
    Architecture(
        "auraflow",
        "AuraFlow",  # in double layers w1 is the text's and w2 the image's; in single layers w1 is the joint stream's
        recognised_by=(r"^double_layers\.0\.attn\.w2q$", r"^single_layers\.0\.attn\.w1q$"),
        patterns=(r"^double_layers\.\d+\.attn\.w2[qkvo]$", r"^single_layers\.\d+\.attn\.w1[qkvo]$"),
        text=(r"^double_layers\.\d+\.attn\.w1[qkvo]$", r"^double_layers\.\d+\.(?:mlpC|modC)\.", r"^cond_seq_linear$"),
        reference=None,
    ),
    Architecture(
        "pixart",
        "PixArt Alpha and Sigma",
        recognised_by=(
            r"^blocks\.0\.attn\.qkv$",
            r"^blocks\.0\.cross_attn\.kv_linear$",
            r"^y_embedder\.y_proj\.fc1$",
            r"^t_block\.1$",
        ),
        patterns=(r"^blocks\.\d+\.attn\.(?:qkv|proj)$", r"^final_layer\.linear$", r"^t_embedder\.mlp\.[02]$"),
        text=(r"^blocks\.\d+\.cross_attn\.", r"^y_embedder\."),
        reference=(r"^blocks\.\d+\.attn\.(?:qkv|proj)$", r"^final_layer\.linear$"),
    ),
    Architecture(
        "hunyuandit",
        "Hunyuan DiT",
        recognised_by=(r"^blocks\.0\.attn1\.Wqkv$", r"^blocks\.0\.attn2\.kv_proj$", r"^mlp_t5\.0$"),
        patterns=(r"^blocks\.\d+\.attn1\.(?:Wqkv|out_proj)$", r"^final_layer\.linear$", r"^t_embedder\.mlp\.[02]$"),
        text=(r"^blocks\.\d+\.attn2\.", r"^mlp_t5\.", r"^pooler\."),
        reference=(r"^blocks\.\d+\.attn1\.(?:Wqkv|out_proj)$", r"^final_layer\.linear$"),
    ),
    Architecture(
        "chroma",
        "Chroma, Chroma Radiance",
        recognised_by=(
            r"^distilled_guidance_layer\.in_proj$",
            r"^double_blocks\.0\.img_attn\.qkv$",
            r"^single_blocks\.0\.linear1$",
        ),
        patterns=FLUX,
        fused=FLUX[1:],
        text=(r"^double_blocks\.\d+\.txt_(?:attn|mlp)\.", r"^txt_in$"),
        reference=None,
    ),
    Architecture(
        "flux2",
        "Flux.2 dev, klein",
        recognised_by=(
            r"^double_stream_modulation_img\.lin$",
            r"^double_blocks\.0\.img_attn\.qkv$",
            r"^single_blocks\.0\.linear1$",
        ),
        patterns=FLUX,  # linear1 whole
        text=(r"^double_blocks\.\d+\.txt_(?:attn|mlp)\.", r"^double_stream_modulation_txt\.", r"^txt_in$"),
        reference=None,
    ),
    Architecture(
        "flux",
        "Flux.1 dev, schnell, fill; LongCat-Image, Ovis-Image",
        recognised_by=(
            r"^double_blocks\.0\.img_attn\.qkv$",
            r"^double_blocks\.0\.img_mod\.lin$",
            r"^single_blocks\.0\.linear1$",
            r"^img_in$",
        ),
        patterns=FLUX,
        fused=FLUX[1:],
        text=(r"^double_blocks\.\d+\.txt_(?:attn|mlp|mod)\.", r"^txt_in$", r"^vector_in\."),
        reference=None,
    ),
    Architecture(
        "lumina",
        "Lumina 2, Z-Image",
        recognised_by=(r"^layers\.0\.attention\.qkv$", r"^noise_refiner\.0\.attention\.qkv$", r"^cap_embedder\.1$"),
        patterns=(r"^(?:layers|noise_refiner)\.\d+\.attention\.(?:qkv|out)$",),
        text=(r"^context_refiner\.", r"^(?:cap_embedder|clip_text_pooled_proj)\."),
    ),
    Architecture(
        "pixeldit",
        "PixelDiT, PiD",
        recognised_by=(r"^patch_blocks\.0\.attn\.qkv_x$", r"^pixel_blocks\.0\.attn\.qkv$"),
        patterns=(
            r"^patch_blocks\.\d+\.attn\.(?:qkv|proj)_x$",
            r"^pixel_blocks\.\d+\.attn\.(?:qkv|proj)$",
            r"^t_embedder\.mlp\.[02]$",
        ),
        text=(r"^patch_blocks\.\d+\.(?:attn\.(?:qkv|proj)_y$|mlp_y\.|adaLN_modulation_txt\.)", r"^y_embedder\."),
    ),
    Architecture(
        "qwen",
        "Qwen-Image, Mage-Flow",
        recognised_by=(r"^transformer_blocks\.0\.attn\.add_q_proj$", r"^transformer_blocks\.0\.img_mod\.1$", r"^txt_norm$"),
        patterns=(r"^transformer_blocks\.\d+\.attn\.(?:to_q|to_k|to_v|to_out\.0)$",),
        text=(r"^transformer_blocks\.\d+\.attn\.(?:add_[qkv]_proj|to_add_out)$", r"^transformer_blocks\.\d+\.txt_", r"^txt_in$"),
        reference=(r"^proj_out$",),
    ),
    Architecture(
        "lens",
        "Lens",
        recognised_by=(r"^transformer_blocks\.0\.attn\.img_qkv$", r"^transformer_blocks\.0\.attn\.to_add_out$"),
        patterns=(
            r"^transformer_blocks\.\d+\.attn\.(?:img_qkv|to_out\.0)$",
            r"^proj_out$",
            r"^time_text_embed\.timestep_embedder\.linear_[12]$",
        ),
        text=(r"^transformer_blocks\.\d+\.attn\.(?:txt_qkv|to_add_out)$", r"^transformer_blocks\.\d+\.txt_", r"^txt_in$"),
        reference=(r"^proj_out$",),
    ),
    Architecture(
        "joyimage",
        "JoyImage Edit",
        recognised_by=(r"^double_blocks\.0\.attn\.img_attn_qkv$", r"^condition_embedder\.time_proj$"),
        patterns=(
            r"^double_blocks\.\d+\.attn\.img_attn_(?:qkv|proj)$",
            r"^proj_out$",
            r"^condition_embedder\.time_embedder\.linear_[12]$",
        ),
        text=(r"^double_blocks\.\d+\.attn\.txt_attn_", r"^double_blocks\.\d+\.txt_", r"^condition_embedder\.text_embedder\."),
        reference=(r"^proj_out$",),
    ),
    Architecture(
        "hidream",
        "HiDream I1, E1",
        recognised_by=(r"^double_stream_blocks\.0\.block\.attn1\.to_q_t$", r"^caption_projection\.0\.linear$"),
        patterns=(
            r"^(?:double|single)_stream_blocks\.\d+\.block\.attn1\.to_(?:q|k|v|out)$",
            r"^t_embedder\.timestep_embedder\.linear_[12]$",
        ),
        text=(
            r"^double_stream_blocks\.\d+\.block\.attn1\.to_(?:q|k|v|out)_t$",
            r"^double_stream_blocks\.\d+\.block\.ff_t\.",
            r"^caption_projection\.",
            r"^p_embedder\.",
        ),
        reference=(r"^(?:double|single)_stream_blocks\.\d+\.block\.attn1\.to_[qkv]$",),
    ),
    Architecture(
        "hidream-o1",
        "HiDream O1",  # one language model carries text and image tokens; `visual` reads reference pictures, not the one made
        recognised_by=(r"^language_model\.layers\.0\.self_attn\.q_proj$", r"^t_embedder1\.mlp\.0$", r"^x_embedder\.proj1$"),
        patterns=(r"^language_model\.layers\.\d+\.self_attn\.[qkvo]_proj$", r"^t_embedder1\.mlp\.[02]$"),
        text=(),
    ),
    Architecture(
        "omnigen2",
        "OmniGen2",  # ref_image_refiner reads reference pictures, not the one made
        recognised_by=(
            r"^layers\.0\.attn\.to_q$",
            r"^noise_refiner\.0\.attn\.to_q$",
            r"^time_caption_embed\.caption_embedder\.1$",
        ),
        patterns=(
            r"^(?:layers|noise_refiner)\.\d+\.attn\.(?:to_q|to_k|to_v|to_out\.0)$",
            r"^time_caption_embed\.timestep_embedder\.linear_[12]$",
        ),
        text=(r"^context_refiner\.", r"^time_caption_embed\.caption_embedder\."),
    ),
    Architecture(
        "boogu",
        "Boogu-Image",
        recognised_by=(
            r"^double_stream_layers\.0\.img_instruct_attn\.processor\.img_to_q$",
            r"^single_stream_layers\.0\.attn\.to_q$",
        ),
        patterns=(
            r"^(?:single_stream_layers|noise_refiner)\.\d+\.attn\.(?:to_q|to_k|to_v|to_out\.0)$",
            r"^double_stream_layers\.\d+\.img_self_attn\.(?:to_q|to_k|to_v|to_out\.0)$",
            r"^double_stream_layers\.\d+\.img_instruct_attn\.processor\.img_(?:to_q|to_k|to_v|out)$",
            r"^double_stream_layers\.\d+\.img_instruct_attn\.to_out\.0$",  # after the streams' own outputs: joint tokens
            r"^time_caption_embed\.timestep_embedder\.linear_[12]$",
        ),
        text=(
            r"^context_refiner\.",
            r"^double_stream_layers\.\d+\.img_instruct_attn\.processor\.instruct_",
            r"^double_stream_layers\.\d+\.instruct_",
            r"^time_caption_embed\.caption_embedder\.",
        ),
    ),
    Architecture(
        "krea2",
        "Krea 2",
        recognised_by=(r"^blocks\.0\.attn\.wq$", r"^txtfusion\.projector$", r"^tmlp\.0$"),
        patterns=(r"^blocks\.\d+\.attn\.w[qkvo]$", r"^tmlp\.[02]$"),
        text=(r"^txtfusion\.", r"^txtmlp\."),
    ),
    Architecture(
        "ideogram4",
        "Ideogram 4",
        recognised_by=(r"^layers\.0\.attention\.qkv$", r"^llm_cond_proj$", r"^embed_image_indicator$"),
        patterns=(r"^layers\.\d+\.attention\.(?:qkv|o)$", r"^t_embedding\.mlp_(?:in|out)$"),
        text=(r"^llm_cond_proj$",),
    ),
    Architecture(
        "ernie",
        "ERNIE-Image",
        recognised_by=(r"^layers\.0\.self_attention\.to_q$", r"^layers\.0\.mlp\.linear_fc2$", r"^time_embedding\.linear_1$"),
        patterns=(r"^layers\.\d+\.self_attention\.(?:to_q|to_k|to_v|to_out\.0)$", r"^time_embedding\.linear_[12]$"),
        text=(r"^text_proj$",),
        reference=(r"^time_embedding\.linear_[12]$",),
    ),
    # the embedded demo model, which keeps diffusers' names
    Architecture(
        "general",
        "the built-in demo model",
        recognised_by=(r"^blocks\.0\.attn1\.to_out\.0$", r"^proj_in$", r"^proj_out$", r"^time_embedding\.linear_2$"),
        patterns=GENERAL,
        text=(r"(?:^|\.)attn2\.", r"(?:^|\.)caption_", r"(?:^|\.)context_embedder"),
        reference=None,
    ),
)
