"""Pictures and prompts as CLIP has them, by the CLIP_VISION and CLIP that ComfyUI has loaded."""

from __future__ import annotations

from typing import Any

import torch

from ..config.checks import need

AT_ONCE = 16  # pictures in one call
PROJECTED = (
    "Take the CLIP text encoder that belongs to the vision model, from a file of its own: clip_l with CLIP-ViT-L, "
    "SDXL's CLIP with CLIP-ViT-bigG. A checkpoint of SD 1.5 leaves its projection out."
)


def embed_images(clip_vision: Any, images: torch.Tensor) -> torch.Tensor:
    """(rows, strengths, 3, H, W) in [0, 1] -> (rows, strengths, E)."""
    flat = images.flatten(0, 1).movedim(1, -1)
    parts = [clip_vision.encode_image(part)["image_embeds"].float().cpu() for part in flat.split(AT_ONCE)]
    return torch.cat(parts).unflatten(0, images.shape[:2])


def embed_prompt(clip: Any, prompt: str, width: int) -> torch.Tensor:
    """(E,) in the space of pictures of `width` numbers. SliderError where the encoder has no such projection."""
    _, pooled = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True)
    need(pooled is not None, f"This CLIP gives no embedding of a whole prompt. {PROJECTED}", "report_card.clip_space")
    vector = pooled.float().cpu().flatten()
    message = f"The prompt has {len(vector)} numbers in CLIP, a picture {width}. {PROJECTED}"
    need(len(vector) == width, message, "report_card.clip_space")
    usable = bool(vector.isfinite().all()) and float(vector.norm()) > 0
    need(usable, f"This CLIP's projection is empty. {PROJECTED}", "report_card.clip_projection")
    return vector
