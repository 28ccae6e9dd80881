"""An SDXL of 12 MB: the host's own classes, schedule, keys, size conditions and both text encoders with all their layers, but in
few channels. `install` makes the host's own loader read such a file.

The host knows a checkpoint by the widths of its layers, and has but one width for the text encoders (1.6 GB) and the VAE. So the
narrow one is one more entry in its list of models, and its smallest VAE class is replaced by mean colours.
"""

from __future__ import annotations

from typing import Any, ClassVar

import comfy.supported_models
import comfy.taesd.taesd
import torch
from comfy.sdxl_clip import SDXLClipModel, SDXLTokenizer
from comfy.supported_models_base import ClipTarget
from torch import nn

FACTOR = 8  # pixels to a latent
TEXT = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 1}
UNET = {
    "model_channels": 32,
    "use_linear_in_transformer": True,
    "transformer_depth": [1],
    "context_dim": 2 * TEXT["hidden_size"],
    "adm_in_channels": TEXT["hidden_size"] + 6 * 256,
    "use_temporal_attention": False,
}
LEVELS = {"num_res_blocks": [0, 0, 0, 1], "channel_mult": [1, 1, 1, 2], "transformer_depth_output": [0, 0, 0, 1, 1]}


class NarrowClip(SDXLClipModel):
    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None) -> None:
        narrow = {"clip_l_model_config": TEXT, "clip_g_model_config": TEXT}
        super().__init__(device, dtype, {**(model_options or {}), **narrow})


class SDXL(comfy.supported_models.SDXL):
    unet_config: ClassVar = UNET

    def __init__(self, unet_config: dict[str, Any]) -> None:
        """The host reads the width of a level off its residual blocks, which three of the levels do without."""
        super().__init__(unet_config | LEVELS)

    def clip_target(self, state_dict: dict[str, torch.Tensor] | None = None) -> ClipTarget:  # noqa: ARG002
        return ClipTarget(SDXLTokenizer, NarrowClip)


class MeanColours(nn.Module):
    """A VAE whose latents are the mean colours of FACTOR x FACTOR pixels, and their brightness."""

    def __init__(self, latent_channels: int = 4) -> None:
        super().__init__()
        self.taesd_encoder = nn.Conv2d(3, latent_channels, 1)
        self.taesd_decoder = nn.Sequential(nn.Identity(), nn.Conv2d(latent_channels, 3, 1))  # the name that the host looks for

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.taesd_encoder(nn.functional.avg_pool2d(pixels, FACTOR))

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.taesd_decoder(latent), scale_factor=FACTOR, mode="bilinear")


def install() -> None:
    comfy.supported_models.models.insert(0, SDXL)
    comfy.taesd.taesd.TAESD = MeanColours
