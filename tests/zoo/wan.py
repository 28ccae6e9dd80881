"""Wan 2.1, 2.2 and the models built on them: one naming scheme, many ways to bring in pictures, sound and movement.

FlowRVS, CausalAR and Animate 2 have the tensors of plain Wan: ComfyUI tells them apart by a file's metadata alone.

The sound encoder of HuMo and the face encoders of Animate have fixed sizes, 39 and 37 million parameters. WanDancer's 3.4 million
are two picture projections of fixed width.
"""

from __future__ import annotations

from types import SimpleNamespace

import torch

from .model import Full, Tiny

BASE = {
    "image_model": "wan2.1", "out_dim": 16, "patch_size": (1, 2, 2), "freq_dim": 256, "window_size": (-1, -1), "qk_norm": True,
    "cross_attn_norm": True, "eps": 1e-6,
}  # fmt: skip
SMALL = BASE | {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}  # "1.3B"
LARGE = BASE | {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}  # "14B"
T2V = {"model_type": "t2v", "in_dim": 16}
I2V = {"model_type": "i2v", "in_dim": 36}
TEXT = ("blocks.0.cross_attn.q", "blocks.0.cross_attn.k", "blocks.29.cross_attn.o", "text_embedding.0", "time_embedding.0")
PICTURE = ("blocks.0.cross_attn.q", "blocks.0.cross_attn.k_img", "img_emb.proj.1", "blocks.0.ffn.0")

FULL = [
    Full("WAN21_T2V", "wan", 120, SMALL | T2V, TEXT, "1.3B"),
    Full("WAN21_T2V", "wan", 160, LARGE | T2V, (*TEXT, "head.head", "patch_embedding"), "14B"),
    Full("WAN21_T2V", "wan", 160, LARGE | T2V | {"in_dim": 36}, TEXT, "2.2 I2V A14B"),  # the picture comes as channels alone
    Full("WAN21_CausalAR_T2V", "wan", 120, SMALL | T2V | {"causal_ar": True}, TEXT, detected="WAN21_T2V"),
    Full("WAN21_FlowRVS", "wan", 120, SMALL | {"model_type": "flow_rvs", "in_dim": 16}, TEXT, detected="WAN21_T2V"),
    Full("WAN21_I2V", "wan", 160, LARGE | I2V, PICTURE),
    Full("WAN21_I2V", "wan", 160, LARGE | I2V | {"flf_pos_embed_token_number": 514}, PICTURE, "first and last frame"),
    Full("WAN21_FunControl2V", "wan", 120, SMALL | I2V | {"in_dim": 48}, PICTURE, "1.3B"),
    Full("WAN21_FunControl2V", "wan", 160, LARGE | I2V | {"in_dim": 48, "in_dim_ref_conv": 16}, (*PICTURE, "ref_conv"), "14B"),
    Full(
        "WAN21_Vace",
        "wan",
        120,
        SMALL | {"model_type": "vace", "in_dim": 16, "vace_in_dim": 96, "vace_layers": 15},
        (*TEXT, "vace_blocks.0.self_attn.q", "vace_blocks.0.cross_attn.q", "vace_blocks.0.before_proj"),
        "1.3B",
    ),
    Full(
        "WAN21_Vace",
        "wan",
        160,
        LARGE | {"model_type": "vace", "in_dim": 16, "vace_in_dim": 96, "vace_layers": 8},
        (*TEXT, "vace_blocks.7.self_attn.o", "vace_blocks.0.cross_attn.k", "vace_patch_embedding"),
        "14B",
    ),
    Full("WAN21_Camera", "wan", 120, SMALL | {"model_type": "camera", "in_dim": 32}, (*PICTURE, "control_adapter.conv"), "1.3B"),
    Full("WAN21_Camera", "wan", 160, LARGE | {"model_type": "camera", "in_dim": 32}, (*PICTURE, "control_adapter.conv"), "14B"),
    Full("WAN22_Camera", "wan", 160, LARGE | {"model_type": "camera_2.2", "in_dim": 36}, (*TEXT, "control_adapter.conv")),
    Full(
        "WAN22_S2V",
        "wan",
        160,
        LARGE | {"model_type": "s2v", "in_dim": 16},
        (*TEXT, "audio_injector.injector.0.q", "audio_injector.injector.0.k", "frame_packer.proj"),
    ),
    Full(
        "WAN21_HuMo",
        "wan",
        120,
        SMALL | {"model_type": "humo", "in_dim": 16},
        (*TEXT, "blocks.0.audio_cross_attn_wrapper.audio_cross_attn.q", "audio_proj.audio_proj_glob_1.layer"),
        "1.7B",
    ),
    Full(
        "WAN21_HuMo",
        "wan",
        160,
        LARGE | {"model_type": "humo", "in_dim": 36},
        (*TEXT, "blocks.0.audio_cross_attn_wrapper.audio_cross_attn.k"),
        "17B",
    ),
    Full(
        "WAN22_Animate",
        "wan",
        160,
        LARGE | {"model_type": "animate", "in_dim": 36},
        (*PICTURE, "face_adapter.fuser_blocks.0.linear1_q", "face_encoder.out_proj", "pose_patch_embedding"),
    ),
    Full("WAN_Animate2", "wan", 160, LARGE | {"model_type": "animate2", "in_dim": 36}, PICTURE, detected="WAN21_I2V"),
    Full(
        "WAN22_T2V",
        "wan",
        120,
        BASE | T2V | {"dim": 3072, "ffn_dim": 14336, "num_heads": 24, "num_layers": 30, "in_dim": 48, "out_dim": 48},
        TEXT,
        "5B",
    ),
    Full("WAN21_SCAIL", "wan", 160, LARGE | {"model_type": "scail", "in_dim": 20}, (*PICTURE, "patch_embedding_pose")),
    Full("WAN21_SCAIL2", "wan", 160, LARGE | {"model_type": "scail2", "in_dim": 20}, (*PICTURE, "patch_embedding_mask")),
    Full(
        "WAN22_WanDancer",
        "wan",
        160,
        LARGE | {"model_type": "wandancer", "in_dim": 36},
        (*PICTURE, "music_encoder.0.self_attn.q_proj", "music_injector.injector.0.q", "head_global.head"),
    ),
]

TINY_BASE = BASE | {"dim": 24, "ffn_dim": 48, "freq_dim": 16, "text_dim": 16, "num_heads": 2, "num_layers": 2}
LATENT, WORDS = (16, 2, 8, 8), (5, 16)


def _fixed(*shape: int, seed: int = 0) -> torch.Tensor:
    """One batch entry of noise, the same for every prompt."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed))


# as CLIPVisionEncode gives it, of three patches; the width is fixed in the class
CLIP_VISION = SimpleNamespace(penultimate_hidden_states=_fixed(3, 1280))
REFERENCE = [_fixed(16, 1, 8, 8, seed=1)]
ANIMATE = "comfy.ldm.wan.model_animate"
FACE = dict.fromkeys((32, 64, 128, 256, 512), 2)  # channels of the steps that halve a face, seven times
MOTION = {1024: 8, 4 * 1024: 4 * 8}

TINY = [
    Tiny("WAN21_T2V", "wan", TINY_BASE | T2V, LATENT, WORDS),
    Tiny("WAN21_CausalAR_T2V", "wan", TINY_BASE | T2V | {"causal_ar": True}, LATENT, WORDS),
    Tiny("WAN21_FlowRVS", "wan", TINY_BASE | {"model_type": "flow_rvs", "in_dim": 16}, LATENT, WORDS),
    Tiny(
        "WAN21_I2V",
        "wan",
        TINY_BASE | I2V,
        LATENT,
        WORDS,
        cond={"clip_vision_output": CLIP_VISION, "concat_latent_image": LATENT, "concat_mask": (1, 2, 8, 8)},
    ),
    Tiny(
        "WAN21_Vace",
        "wan",
        TINY_BASE | {"model_type": "vace", "in_dim": 16, "vace_in_dim": 96, "vace_layers": 1},
        LATENT,
        WORDS,
        cond={"vace_frames": [_fixed(32, 2, 8, 8)], "vace_mask": [torch.zeros(1, 64, 2, 8, 8)]},
    ),
    Tiny(
        "WAN22_Camera",
        "wan",
        TINY_BASE | {"model_type": "camera_2.2", "in_dim": 36, "in_dim_control_adapter": 1},
        LATENT,
        WORDS,
        cond={"camera_conditions": (1, 2, 64, 64)},
    ),
    Tiny(
        "WAN22_S2V",
        "wan",
        TINY_BASE | {"model_type": "s2v", "in_dim": 16, "audio_dim": 8, "audio_inject_layers": [0]},
        LATENT,
        WORDS,
        cond={
            "audio_embed": (25, 8, 8),
            "reference_latents": REFERENCE,
            "reference_motion": (16, 3, 8, 8),
            "control_video": LATENT,
        },
    ),
    Tiny(
        "WAN21_HuMo",
        "wan",
        TINY_BASE | {"model_type": "humo", "in_dim": 16},
        LATENT,
        WORDS,
        cond={"audio_embed": (2, 8, 5, 8), "reference_latents": REFERENCE},
        shrunk={"comfy.ldm.wan.model.AudioProjModel": {1280: 8, 512: 16}},  # Whisper's width, the one between
    ),
    Tiny(
        "WAN22_Animate",
        "wan",
        TINY_BASE | {"model_type": "animate", "in_dim": 36, "num_layers": 5},  # faces go in at every fifth block
        LATENT,
        WORDS,
        cond={
            "clip_vision_output": CLIP_VISION,
            "pose_video_latent": (16, 1, 8, 8),
            "face_video_pixels": (3, 1, 128, 128),  # of 512: halved to one pixel
        },
        shrunk={
            f"{ANIMATE}.EqualConv2d": FACE | {4: 1},  # the last one spans what is left
            f"{ANIMATE}.FusedLeakyReLU": FACE,
            f"{ANIMATE}.EqualLinear": FACE,
            "comfy.ops.disable_weight_init.Conv1d": MOTION,
            "comfy.ops.disable_weight_init.Linear": MOTION,
            "comfy.ops.disable_weight_init.LayerNorm": MOTION,
        },
    ),
    Tiny(
        "WAN_Animate2",
        "wan",
        TINY_BASE | {"model_type": "animate2", "in_dim": 36},
        LATENT,
        WORDS,
        cond={"clip_vision_output": CLIP_VISION, "pose_video_latent": (16, 1, 8, 8), "pose_strength": 0.5},
        idle=2,  # its blocks are called by other names
    ),
    Tiny("WAN22_T2V", "wan", TINY_BASE | T2V | {"in_dim": 48, "out_dim": 48}, (48, 2, 8, 8), WORDS),
    Tiny(
        "WAN21_SCAIL",
        "wan",
        TINY_BASE | {"model_type": "scail", "in_dim": 20},
        LATENT,
        WORDS,
        cond={"clip_vision_output": CLIP_VISION, "reference_latents": REFERENCE, "pose_video_latent": (16, 2, 4, 4)},
    ),
    Tiny(
        "WAN21_SCAIL2",
        "wan",
        TINY_BASE | {"model_type": "scail2", "in_dim": 20},
        LATENT,
        WORDS,
        cond={
            "clip_vision_output": CLIP_VISION,
            "reference_latents": REFERENCE,
            "pose_video_latent": (16, 2, 4, 4),
            "driving_mask_28ch": (2, 28, 4, 4),
            "ref_mask_28ch": (3, 28, 8, 8),
            "ref_mask_flag": False,
        },
    ),
    Tiny(
        "WAN22_WanDancer",
        "wan",
        TINY_BASE
        | {"model_type": "wandancer", "in_dim": 36}
        | {"audio_inject_layers": [0], "music_dim": 16, "music_heads": 2, "music_latent_dim": 16},
        LATENT,
        WORDS,
        cond={"clip_vision_output": CLIP_VISION, "audio_embed": (9, 35), "fps": 24.0},
    ),
]
