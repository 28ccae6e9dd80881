"""What diffusers calls the layers that it loads a LoRA for, by ComfyUI's class of the model.

In a UNet names are written as kohya writes them, which diffusers, ComfyUI and (but for the layers outside the blocks) sd-scripts
read. Elsewhere they are the paths of diffusers' own class. A class that stands nowhere here has no pipeline in diffusers that
loads a LoRA, or one that nobody has tried: tests/host/test_peers.py tries each of these. Read off diffusers 0.42.
"""

from __future__ import annotations

import re

from ..layers.layer import Aliases

UNETS_1 = ("SD15", "SD15_instructpix2pix", "SD20", "SD21UnclipL", "SD21UnclipH", "Stable_Zero123", "SD_X4Upscaler", "LotusD")
UNETS_XL = ("SDXL", "SDXL_instructpix2pix", "SDXLRefiner", "SSD1B", "Segmind_Vega", "KOALA_700M", "KOALA_1B")
UNET = re.compile(r"lora_unet_((down|up)_blocks_\d+_|mid_block_|time_embedding_|conv_in$|conv_out$).*")

_ATTENTION = r"attn\d?\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)"
_FEED = r"ff(_context)?\.net\.(0\.proj|2)"
_TIME = r"time_text_embed\.\w+\.linear_[12]"
_ENDS = r"x_embedder|context_embedder|proj_out"
_FLUX = (
    rf"transformer_blocks\.\d+\.({_ATTENTION}|{_FEED}|norm1(_context)?\.linear)"
    r"|single_transformer_blocks\.\d+\.(attn\.to_[qkv]|proj_mlp|proj_out|norm\.linear)"
)
_FLUX2 = (
    r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)|ff(_context)?\.linear_(in|out))"
    r"|single_transformer_blocks\.\d+\.attn\.(to_qkv_mlp_proj|to_out)"
    r"|x_embedder|context_embedder|proj_out|time_guidance_embed\.\w+\.linear_[12]"
    r"|(double_stream_modulation_(img|txt)|single_stream_modulation)\.linear"
)
_LUMINA = (
    r"(layers|noise_refiner|context_refiner)\.\d+\.(attn\.(to_[qkv]|to_out\.0)|feed_forward\.linear_[123]|norm1\.linear)"
    r"|x_embedder|norm_out\.linear_[12]|time_caption_embed\.timestep_embedder\.linear_[12]|time_caption_embed\.caption_embedder\.1"
)
_ZIMAGE = (
    r"(layers|noise_refiner|context_refiner)\.\d+\.(attention\.(to_[qkv]|to_out\.0)|feed_forward\.w[123]|adaLN_modulation\.[01])"
    r"|all_(final_layer\.2-1\.linear|x_embedder\.2-1)|t_embedder\.mlp\.[02]|cap_embedder\.1"
)
_WAN = (
    r"blocks\.\d+\.(attn[12]\.(to_[qkv]|to_out\.0|add_[kv]_proj)|ffn\.net\.(0\.proj|2))|proj_out"
    r"|condition_embedder\.(time_proj|(time|text)_embedder\.linear_[12])"
)
_EMBEDDER = r"emb\.timestep_embedder\.linear_[12]"
_LTX2 = (
    r"transformer_blocks\.\d+\.((audio_)?attn[12]|audio_to_video_attn|video_to_audio_attn)\.(to_[qkv]|to_out\.0)"
    r"|transformer_blocks\.\d+\.(audio_)?ff\.net\.(0\.proj|2)"
    rf"|(audio_)?(proj_in|proj_out|caption_projection\.linear_[12]|time_embed\.(linear|{_EMBEDDER}))"
    rf"|av_cross_attn_(video|audio)_\w+\.(linear|{_EMBEDDER})"
)
_BLOCKS = rf"transformer_blocks\.\d+\.({_ATTENTION}|{_FEED}|norm\d(_context)?\.linear(_[12])?)"
_LAYERS = {
    ("Flux", "FluxSchnell"): rf"{_FLUX}|{_ENDS}|{_TIME}",
    ("Chroma",): rf"{_FLUX}|{_ENDS}",
    ("Flux2",): _FLUX2,
    ("SD3",): rf"{_BLOCKS}|{_ENDS}|{_TIME}|pos_embed\.proj",
    ("AuraFlow",): rf"((joint|single)_transformer_blocks)\.\d+\.({_ATTENTION}|ff(_context)?\.\w+|norm1(_context)?\.linear)"
    r"|context_embedder|proj_out|time_step_proj\.linear_[12]|pos_embed\.proj",
    ("Lumina2",): _LUMINA,
    ("ZImage",): _ZIMAGE,
    ("WAN21_T2V", "WAN21_I2V", "WAN22_T2V"): _WAN,
    ("QwenImage",): r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|add_[qkv]_proj|to_out\.0|to_add_out)"
    r"|(img|txt)_(mlp\.net\.(0\.proj|2)|mod\.1))|img_in|txt_in|proj_out|norm_out\.linear|time_text_embed\.\w+\.linear_[12]",
    ("LTXV",): rf"{_BLOCKS}|proj_in|proj_out|time_embed\.linear|time_embed\.emb\.timestep_embedder\.linear_[12]"
    r"|caption_projection\.linear_[12]",
    ("HunyuanVideo",): rf"{_FLUX}|proj_out",
    ("LTXAV",): _LTX2,
    ("HiDream", "ErnieImage", "Kandinsky5", "Kandinsky5Image"): r"\w+(\.\w+)*",  # the paths of their layers are ComfyUI's
    ("Krea2",): r"transformer_blocks\.\d+\.(attn\.(to_[qkv]|to_out\.0|to_gate)|ff\.(gate|up|down))"
    r"|img_in|final_layer\.linear|time_embed\.linear_[12]|time_mod_proj",
}
LAYERS = {name: re.compile(pattern) for names, pattern in _LAYERS.items() for name in names}


def unet_names(aliases: Aliases) -> dict[str, str]:
    """Module path -> the name with underscores by which diffusers, and sd-scripts on SD 1.x and 2.x, know a layer of a UNet."""
    names: dict[str, str] = {}
    for name, target in aliases.items():
        if UNET.fullmatch(name):
            names.setdefault(target.path, name)
    return names
