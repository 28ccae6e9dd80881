"""The UNets: SD 1.x and 2.x, SDXL and its distillations, and those that take a picture along.

In Stable Video Diffusion (SVD_img2vid, SV3D_u, SV3D_p) a batch is one video and its samples are the frames. A training sample is
a video of one frame, which keeps to itself in a batch and leaves the attention over time nothing to choose between: `time_stack`
to_q and to_k get no gradient (with three frames every target gets one). A sampling call of several strengths would be one video.
"""

from __future__ import annotations

from .model import Full, Tiny

# what detection reads off a checkpoint; the number of heads, and of classes, comes from the class
SD15 = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False,
    "model_channels": 320, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4], "adm_in_channels": None,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1, "context_dim": 768, "use_linear_in_transformer": False, "use_temporal_attention": False,
    "use_temporal_resblock": False, "use_checkpoint": False,
}  # fmt: skip
SD20 = SD15 | {"context_dim": 1024, "use_linear_in_transformer": True}
SDXL = SD20 | {
    "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "adm_in_channels": 2816, "num_classes": "sequential",
    "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10, "context_dim": 2048,
}  # fmt: skip
REFINER = SD20 | {
    "model_channels": 384, "adm_in_channels": 2560, "num_classes": "sequential", "context_dim": 1280,
    "transformer_depth": [0, 0, 4, 4, 4, 4, 0, 0], "transformer_depth_output": [0, 0, 0, 4, 4, 4, 4, 4, 4, 0, 0, 0],
    "transformer_depth_middle": 4,
}  # fmt: skip
SSD1B = SDXL | {
    "transformer_depth": [0, 0, 2, 2, 4, 4], "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4],
    "transformer_depth_middle": -1,
}  # fmt: skip
VEGA = SDXL | {
    "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2],
    "transformer_depth_middle": -1,
}  # fmt: skip
KOALA = SDXL | {
    "num_res_blocks": [1, 1, 1], "transformer_depth": [0, 2, 5], "transformer_depth_output": [0, 0, 2, 2, 5, 5],
    "transformer_depth_middle": -2,
}  # fmt: skip
KOALA_1B = KOALA | {
    "transformer_depth": [0, 2, 6], "transformer_depth_output": [0, 0, 2, 2, 6, 6], "transformer_depth_middle": 6,
}  # fmt: skip
SVD = SD20 | {
    "in_channels": 8, "adm_in_channels": 768, "num_classes": "sequential", "use_temporal_attention": True,
    "use_temporal_resblock": True, "extra_ff_mix_layer": True, "use_spatial_context": True, "merge_factor": 0.0,
    "merge_strategy": "learned_with_images", "video_kernel_size": [3, 1, 1], "disable_temporal_crossattention": False,
}  # fmt: skip
UPSCALER = SD20 | {
    "in_channels": 7, "model_channels": 256, "channel_mult": [1, 2, 2, 4], "transformer_depth": [0, 0, 1, 1, 1, 1, 1, 1],
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1], "disable_self_attentions": [True, True, True, False],
}  # fmt: skip
SDXS = SD20 | {
    "num_res_blocks": [1, 1, 1], "channel_mult": [1, 2, 4], "transformer_depth": [1, 1, 1],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1], "transformer_depth_middle": -2,
    "disable_self_attentions": [True, False, False],
}  # fmt: skip
PROJECTION = {"cc_projection.weight": (768, 772), "cc_projection.bias": (768,)}  # Zero123's own, outside the diffusion model

# 4 layers outside the transformers (two of the time embedding, first and last convolution), 2 projections in each of them,
# 4 layers of self-attention in each of their blocks
TEXT = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"
PLAIN = (
    TEXT,
    "input_blocks.1.1.transformer_blocks.0.ff.net.0.proj",
    "input_blocks.1.0.emb_layers.1",
    "input_blocks.2.0.in_layers.2",
)
MIXED = ("label_emb.0.0", "input_blocks.5.1.transformer_blocks.1.attn2.to_out.0", "output_blocks.5.2.conv", "input_blocks.3.0.op")
SMALL = ("label_emb.0.0", "input_blocks.3.1.transformer_blocks.1.attn2.to_q", "output_blocks.3.2.conv", "input_blocks.2.0.op")
FRAMES = (
    TEXT,
    "label_emb.0.0",
    "input_blocks.1.1.time_stack.0.attn2.to_q",
    "input_blocks.1.1.time_pos_embed.0",
    "input_blocks.1.1.time_stack.0.ff_in.net.0.proj",
)
CROSS_ONLY = "transformer_blocks.0.attn1.to_"  # an attention named as if it were self-attention

FULL = [
    Full("SD15", "unet", 100, SD15, PLAIN),
    Full("SD15", "unet", 100, SD15 | {"in_channels": 9}, PLAIN, variant="inpainting"),
    Full("SD20", "unet", 100, SD20, PLAIN),
    Full(
        "SD20",
        "sdxs",
        46,  # 9 transformers, of which the 3 of the highest level have no self-attention
        SDXS,
        (f"input_blocks.1.1.{CROSS_ONLY}k", f"output_blocks.5.1.{CROSS_ONLY}q", f"output_blocks.4.1.{CROSS_ONLY}out.0", TEXT),
        variant="SDXS 0.9",
    ),
    Full("SD21UnclipL", "unet", 100, SD20 | {"adm_in_channels": 1536, "num_classes": "sequential"}, (*PLAIN, "label_emb.0.0")),
    Full("SD21UnclipH", "unet", 100, SD20 | {"adm_in_channels": 2048, "num_classes": "sequential"}, (*PLAIN, "label_emb.0.2")),
    Full("SDXLRefiner", "unet", 202, REFINER, MIXED),  # 11 transformers, 44 blocks
    Full("SDXL", "unet", 306, SDXL, MIXED),  # 11 transformers, 70 blocks
    Full("SSD1B", "unet", 160, SSD1B, MIXED),  # 10 transformers, 34 blocks
    Full("Segmind_Vega", "unet", 84, VEGA, ("label_emb.0.2", "input_blocks.8.1.transformer_blocks.1.attn2.to_v")),  # 10, 15
    Full("KOALA_700M", "unet", 100, KOALA, SMALL),  # 6 transformers, 21 blocks
    Full("KOALA_1B", "unet", 138, KOALA_1B, (*SMALL, "middle_block.1.transformer_blocks.5.attn2.to_k")),  # 7, 30
    Full("SVD_img2vid", "unet", 164, SVD, FRAMES),  # 16 transformers, each with a block for space and one for time
    Full("SV3D_u", "unet", 164, SVD | {"adm_in_channels": 256}, FRAMES),
    Full("SV3D_p", "unet", 164, SVD | {"adm_in_channels": 1280}, FRAMES),
    Full(
        "Stable_Zero123",
        "unet",
        100,
        SD15 | {"in_channels": 8},
        PLAIN,
        detected="SD15_instructpix2pix",  # the projection of the camera tells them apart, and lies outside
        state=PROJECTION,
    ),
    Full(
        "SD_X4Upscaler",
        "upscaler",
        60,  # 16 transformers, of which the 6 of the lowest level have self-attention
        UPSCALER,
        (
            f"input_blocks.4.1.{CROSS_ONLY}k",
            f"input_blocks.8.1.{CROSS_ONLY}q",
            f"output_blocks.3.1.{CROSS_ONLY}v",
            f"output_blocks.8.1.{CROSS_ONLY}out.0",
            "middle_block.1.transformer_blocks.0.attn2.to_k",
        ),
    ),
    Full("SD15_instructpix2pix", "unet", 100, SD15 | {"in_channels": 8}, PLAIN),
    Full("SDXL_instructpix2pix", "unet", 306, SDXL | {"in_channels": 8}, MIXED),
    Full("LotusD", "unet", 100, SD20 | {"adm_in_channels": 4, "num_classes": "sequential"}, (*PLAIN, "label_emb.0.0")),
]

TWO_LEVELS = {
    "model_channels": 32, "num_res_blocks": [1, 1], "channel_mult": [1, 2], "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1], "context_dim": 16,
}  # fmt: skip
# one head of 64 channels, on the lower level
ONE_HEAD = TWO_LEVELS | {
    "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1],
    "transformer_depth_middle": 1,
}  # of 64

TINY = [
    Tiny("SD15", "unet", SD15 | TWO_LEVELS, latent=(4, 8, 8), text=(5, 16)),
    Tiny(
        "SDXL",
        "unet",
        SDXL | ONE_HEAD | {"adm_in_channels": 16 + 6 * 256},
        latent=(4, 8, 8),
        text=(5, 16),
        cond={"pooled_output": (16,)},
    ),
    Tiny(
        "SVD_img2vid",
        "unet",
        SVD | ONE_HEAD,
        latent=(4, 8, 8),
        text=(1, 16),
        cond={"concat_latent_image": (4, 8, 8)},
        video=True,
    ),
    Tiny(
        "Stable_Zero123",
        "unet",
        SD15 | TWO_LEVELS | {"in_channels": 8},
        latent=(4, 8, 8),
        text=(1, 20),
        cond={"concat_latent_image": (4, 8, 8)},
        state={"cc_projection.weight": (16, 20), "cc_projection.bias": (16,)},
    ),
    Tiny(
        "SD_X4Upscaler",
        "upscaler",
        UPSCALER | {"model_channels": 32, "channel_mult": [1, 1, 1, 1], "context_dim": 16},
        latent=(4, 16, 16),
        text=(5, 16),
        cond={"concat_image": (3, 16, 16)},
    ),
    Tiny(
        "SD20",
        "sdxs",
        SDXS | {"model_channels": 64, "channel_mult": [1, 1, 1], "context_dim": 16},
        latent=(4, 16, 16),
        text=(5, 16),
        variant="SDXS 0.9",
    ),
    Tiny(
        "SD15_instructpix2pix",
        "unet",
        SD15 | TWO_LEVELS | {"in_channels": 8},
        latent=(4, 8, 8),
        text=(5, 16),
        cond={"concat_latent_image": (4, 8, 8)},
    ),
]
