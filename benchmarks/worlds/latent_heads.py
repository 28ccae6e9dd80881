"""A third measurable world: the second one's heads in the latents of a small VAE, drawn by a UNet that predicts noise.

The UNet is ComfyUI's own class for SD 1.5 at a tiny width, so that a slider lies on real `input_blocks`, `attn1`, `proj_in` and
`time_embed`. Its group norms have eight channels a group (Stable Diffusion: ten and more); the class's 32 groups would leave one
or two, and a norm of each channel alone forgets the picture's colour and contrast. Text comes through cross-attention, and
pictures are sampled with classifier-free guidance. Latents are scaled to a standard deviation of 1, x = x0 + sigma noise, and the
noise levels are Stable Diffusion's 1000. Made by make_latent_heads.py.
Needs ComfyUI (COMFYUI_PATH, or where tests/rings.py looks).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from heads import HAIRS, NUMBERS, SIZE, Reader, captioned_pairs
from safetensors.torch import load_file
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests"))

from rings import find_comfyui  # noqa: E402

COMFY = find_comfyui()
if COMFY is None:
    raise SystemExit("This world needs ComfyUI: set COMFYUI_PATH to its folder.")
sys.path.append(str(COMFY))

from comfy.cli_args import args as comfy_args  # noqa: E402

comfy_args.cpu = not torch.cuda.is_available()  # read when ComfyUI's memory management is imported
comfy_args.use_pytorch_cross_attention = True

from comfy import ops  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402

from slider_core.backend import Conditioning, Memory, per_sample  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.lora.strength import at_strength  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

FACTOR, CHANNELS, TEXT_WIDTH, CFG = 4, 4, 64, 4.0
WEIGHTS = Path(__file__).with_name("latent_heads.safetensors")
TONES, SKIES = ("dark", "tan", "pale"), ("red", "grey", "blue")
WORDS = ("<pad>", "a", "head", "with", "hair", "skin", "and", *HAIRS, *TONES, "under", "sky", "grey", "blue")
LENGTH = 12
GROUP = 8  # channels


class Layers(ops.disable_weight_init):
    """ComfyUI's layers, with group norms that fit a narrow model."""

    class GroupNorm(ops.disable_weight_init.GroupNorm):
        def __init__(self, num_groups: int, num_channels: int, **rest: Any) -> None:
            super().__init__(min(num_groups, num_channels // GROUP), num_channels, **rest)


UNET: dict[str, Any] = {
    "image_size": SIZE // FACTOR,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_temporal_attention": False,
    "use_temporal_resblock": False,
    "model_channels": 64,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": TEXT_WIDTH,
    "num_heads": 4,
    "dtype": torch.float32,
    "device": "cpu",
    "operations": Layers,
}


def caption(numbers: torch.Tensor, hair: int) -> str:
    """What is said of a head: the colours of hair, skin and sky, in three words each. The rest is what sliders steer."""
    third = {name: min(2, int((float(numbers[NUMBERS.index(name)]) + 1) * 1.5)) for name in ("skin", "sky")}
    tone, sky = TONES[third["skin"]], SKIES[third["sky"]]
    return f"a head with {list(HAIRS)[hair]} hair and {tone} skin under a {sky} sky"


def tokens(text: str) -> torch.Tensor:
    """(1, LENGTH) ids; an empty prompt is padding."""
    ids = [WORDS.index(word) for word in text.split() if word in WORDS][:LENGTH]
    return torch.tensor([ids + [0] * (LENGTH - len(ids))])


class Text(nn.Module):
    """Word and place embeddings: (B, LENGTH) ids -> (B, LENGTH, TEXT_WIDTH)."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(len(WORDS), TEXT_WIDTH)
        self.place = nn.Embedding(LENGTH, TEXT_WIDTH)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.word(ids) + self.place.weight


def _convolutions(*shapes: tuple[int, int, int, int]) -> list[nn.Module]:
    """(in, out, kernel, stride) each, with SiLU between; a stride of -2 doubles the picture first."""
    found: list[nn.Module] = []
    for number, (width, out, kernel, stride) in enumerate(shapes):
        if number:
            found.append(nn.SiLU())
        if stride < 0:
            found.append(nn.Upsample(scale_factor=-stride))
        found.append(nn.Conv2d(width, out, kernel, max(1, stride), padding=(kernel - 1) // 2))
    return found


class SmallVAE(nn.Module):
    """Pictures (N, 3, 32, 32) in [-1, 1] <-> latents (N, 4, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        down = ((3, 32, 4, 2), (32, 64, 4, 2), (64, 64, 3, 1), (64, 2 * CHANNELS, 1, 1))
        up = ((CHANNELS, 64, 3, 1), (64, 64, 3, 1), (64, 48, 3, -2), (48, 32, 3, -2), (32, 3, 3, 1))
        self.encoder = nn.Sequential(*_convolutions(*down))
        self.decoder = nn.Sequential(*_convolutions(*up))

    def moments(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, spread = self.encoder(image).chunk(2, dim=1)
        return mean, spread.clamp(-12, 4)


class LatentHeads(nn.Module):
    """All that is trained and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.vae = SmallVAE()
        self.text = Text()
        self.diffusion_model = UNetModel(**UNET)
        self.reader = Reader()
        self.register_buffer("mean", torch.zeros(1, CHANNELS, 1, 1))
        self.register_buffer("spread", torch.ones(1, CHANNELS, 1, 1))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] -> latents of mean 0 and standard deviation 1."""
        return (self.vae.moments(image * 2 - 1)[0] - self.mean) / self.spread

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return ((self.vae.decoder(latent * self.spread + self.mean) + 1) / 2).clamp(0, 1)

    def read(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 6) the attributes as the regressor sees them."""
        return self.reader(image)


def noise_levels() -> torch.Tensor:
    """(1000,) Stable Diffusion's sigmas, rising."""
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, dim=0)
    return ((1 - kept) / kept).sqrt()


class LatentHeadsBackend(TinyBackend):
    """The UNet as a Backend: eps prediction, x = x0 + sigma noise."""

    name = "latent heads"
    image_step = 2 * FACTOR
    resolution = SIZE

    def __init__(self, weights: dict[str, torch.Tensor] | None = None) -> None:
        weights = weights or {key: value.float() for key, value in load_file(WEIGHTS).items()}
        self.device = torch.device("cpu")
        self.memory = Memory(self.device)
        self.whole = LatentHeads().eval().requires_grad_(False)
        self.whole.load_state_dict(weights)
        self.module = self.whole.diffusion_model
        self._text = self.whole.text
        self.levels = noise_levels()

    @torch.no_grad()
    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return self.whole.encode(image_BCHW)

    def encode_prompt(self, text: str) -> Conditioning:
        with torch.no_grad():
            return Conditioning(text, self._text(tokens(text)))

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        """The schedule's levels, spaced as its 1000 steps."""
        place = u_B.clamp(0, 1) * (len(self.levels) - 1)
        low = place.floor().long().clamp(0, len(self.levels) - 2)
        return torch.lerp(self.levels[low].log(), self.levels[low + 1].log(), place - low).exp()

    even_sigmas = sigmas

    def timestep(self, sigma_B: torch.Tensor) -> torch.Tensor:
        """The (fractional) step of a level."""
        logs = self.levels.log()
        high = torch.searchsorted(logs, sigma_B.log().contiguous()).clamp(1, len(logs) - 1)
        share = (sigma_B.log() - logs[high - 1]) / (logs[high] - logs[high - 1])
        return (high - 1 + share).clamp(0, len(logs) - 1)

    def add_noise(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        return latent_BCHW + per_sample(sigma_B, latent_BCHW) * noise_BCHW

    def target(self, _latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, _sigma_B: torch.Tensor) -> torch.Tensor:
        return noise_BCHW

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        scaled = x_BCHW / (1 + per_sample(sigma_B, x_BCHW).square()).sqrt()
        return self.module(scaled, self.timestep(sigma_B), torch.cat([c.value for c in cond]))

    @torch.no_grad()
    def draw(
        self, adapter: Adapter | None, strength: float, seeds: Sequence[int], steps: int = 12, cfg: float = CFG
    ) -> torch.Tensor:
        """(len(seeds), 3, 32, 32) in [0, 1] at one strength by Euler steps, every seed its own noise and prompt."""
        side = SIZE // FACTOR
        noise = torch.stack(
            [torch.randn(CHANNELS, side, side, generator=torch.Generator().manual_seed(50_000 + s)) for s in seeds]
        )
        prompts = [self.encode_prompt(_prompt(s)) for s in seeds]
        cond = prompts if cfg == 1 else prompts + [self.encode_prompt("")] * len(seeds)
        levels = torch.cat([self.sigmas(torch.linspace(1, 0.02, steps)), torch.zeros(1)])
        x = noise * levels[0]
        for now, following in itertools.pairwise(levels):
            rows = x if cfg == 1 else x.repeat(2, 1, 1, 1)
            noise_seen = self._with_slider(rows, now.expand(len(rows)), cond, adapter, strength)
            if cfg != 1:
                said, unsaid = noise_seen.chunk(2)
                noise_seen = unsaid + cfg * (said - unsaid)
            x = x + (following - now) * noise_seen
        return self.whole.decode(x)

    def _with_slider(
        self, x: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning], adapter: Adapter | None, strength: float
    ) -> torch.Tensor:
        if adapter is None:
            return self.predict(x, sigma_B, cond)
        with at_strength(adapter, self.module, [strength] * len(x)):
            return self.predict(x, sigma_B, cond)

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> torch.Tensor:
        return self.whole.read(images)


def _prompt(seed: int) -> str:
    return f"a head with {list(HAIRS)[seed % len(HAIRS)]} hair and {TONES[seed % 3]} skin under a {SKIES[seed // 3 % 3]} sky"


def pairs(model: LatentHeadsBackend, attribute: str, count: int, seed: int, unpaired: bool = False) -> list[Sample]:
    """Encoded heads with the attribute at both ends; unpaired ones share nothing else."""
    return captioned_pairs(model, attribute, count, seed, unpaired, caption)
