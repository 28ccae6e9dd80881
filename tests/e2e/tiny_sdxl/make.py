"""Write the narrow SDXL as a file: python tests/e2e/tiny_sdxl/make.py FILE. About a minute of one core, always the same weights.

The text encoders are random. The UNet learns the 12 shipped smile images by their captions, enough to draw such faces in one step
as SDXL Turbo does. It predicts v, a kind of SDXL that the host knows too: at the highest noise an error of the network is then as
large in the picture, and not fifteen times larger.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402

from slider_core.with_comfy.start import find_comfyui, start  # noqa: E402

PAIRS = ROOT / "demo_pairs" / "smile"
SIDE = 64  # of the latents at 512 pixels: the shipped images have one pixel for each
BATCH, STEPS, WARM_UP, RATE = 4, 160, 10, 4e-3
CONTRAST = 1.5  # of latents, over that of pixels in [-1, 1]
QUIET = 0.1  # what ends a branch, over weights that keep the size of what passes


def at_random(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights that keep the size of what passes through; norms at 1, biases at 0; branches begin quiet."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        p.requires_grad_(True)
        if p.ndim > 1:
            gain = QUIET if name.endswith(("out_layers.3.weight", "proj_out.weight", "out.2.weight")) else 1.0
            p.data = gain * torch.randn(p.shape, generator=generator) / p[0].numel() ** 0.5
        else:
            p.data = torch.full(p.shape, float(name.endswith("weight")))
    return module


def mean_colours(vae: torch.nn.Module, scale: float) -> torch.nn.Module:
    """The VAE's weights: three colours and their mean, in latents of CONTRAST once the host has scaled them."""
    colours = torch.cat([torch.eye(3), torch.full((1, 3), 1 / 3)]) * CONTRAST / scale
    for conv, weight in ((vae.taesd_encoder, colours), (vae.taesd_decoder[1], torch.linalg.pinv(colours))):
        conv.weight.data = weight[..., None, None].contiguous()
        conv.bias.data.zero_()
    return vae


def images() -> tuple[torch.Tensor, list[str]]:
    """((12, 4, SIDE, SIDE) latents as the model sees them, captions)"""
    files = sorted(PAIRS.glob("*/*.png"))
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB"), dtype=np.float32) for file in files]) / 127.5 - 1
    colours = torch.from_numpy(pixels).permute(0, 3, 1, 2) * CONTRAST
    captions = [file.with_suffix(".txt").read_text().strip() for file in files]
    return torch.cat([colours, colours.mean(1, keepdim=True)], 1), captions


def learn(model: Any, latents: torch.Tensor, context: torch.Tensor, size: torch.Tensor) -> None:
    """Denoise at all levels, the more often the more noise; each error in units of the velocity."""
    network, sampling = model.diffusion_model, model.model_sampling
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = RATE * min(1, (step + 1) / WARM_UP) * max(0.05, 1 - step / STEPS)
        rows = torch.randperm(len(latents), generator=generator)[:BATCH]
        place = ((torch.arange(BATCH) + torch.rand(BATCH, generator=generator)) / BATCH).sqrt()
        time = (place * len(sampling.sigmas)).floor()
        sigma = sampling.sigma(time)[:, None, None, None]
        noised = latents[rows] + sigma * torch.randn(BATCH, *latents.shape[1:], generator=generator)
        unit = (sigma**2 + 1).sqrt()
        velocity = (noised / unit - latents[rows] * unit) / sigma
        error = network(noised / unit, time, context[rows], y=size[rows]) - velocity
        optimizer.zero_grad()
        error.square().mean().backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()


def write(out: Path) -> None:
    import narrow
    from comfy.utils import save_torch_file

    shape = {"image_size": 32, "in_channels": 4, "out_channels": 4, "use_spatial_transformer": True, "legacy": False}
    blocks = {"num_classes": "sequential", "transformer_depth_middle": 1, "use_temporal_resblock": False}
    config = narrow.SDXL(narrow.UNET | shape | blocks)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({"v_pred": True})
    at_random(model.diffusion_model, 0)
    clip = at_random(narrow.NarrowClip(dtype=torch.float32), 1)
    vae = mean_colours(narrow.MeanColours(), config.latent_format.scale_factor)
    latents, captions = images()
    with torch.no_grad():
        tokenizer = narrow.SDXLTokenizer()
        encoded = [clip.encode_token_weights(tokenizer.tokenize_with_weights(caption)) for caption in captions]
        context = torch.cat([states for states, _ in encoded]).float()
        side = narrow.FACTOR * SIDE
        size = torch.cat([model.encode_adm(pooled_output=pooled, width=side, height=side) for _, pooled in encoded]).float()
    learn(model, latents, context, size)
    parts = model.diffusion_model.state_dict(), clip.state_dict(), vae.state_dict()
    save_torch_file(model.state_dict_for_saving(*parts), str(out))


if __name__ == "__main__":
    start(find_comfyui())
    partial = Path(sys.argv[1]).with_suffix(f".{os.getpid()}")
    write(partial)
    partial.replace(sys.argv[1])
