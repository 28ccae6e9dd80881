"""A second measurable world, which had no part in the tuning of anything: shaded heads of 32 x 32 pixels.

Unlike the built-in one it has soft shading instead of flat colours, hair, continuous hues, a flow transformer that predicts the
velocity and sees text and image in one attention, and attributes that a regressor reads, not a formula. Made by make_heads.py;
the same Backend as the product's own, so that every measurement runs on both worlds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from slider_core.backend import Backend, Conditioning, Memory
from slider_core.encode.alignment import line_up
from slider_core.encode.encoder import Sample
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength
from slider_core.with_tiny.model import TinyBackend, sinusoid

SIZE, PATCH, WIDTH, DEPTH, HEADS, EXTREME = 32, 4, 96, 4, 4, 0.9
WEIGHTS = Path(__file__).with_name("heads.safetensors")
ATTRIBUTES = ("smile", "eye", "size")  # what sliders are trained on
OTHERS = ("hair", "turn", "light")  # what they should leave alone
NUMBERS = (*ATTRIBUTES, *OTHERS, "skin", "sky")  # columns of a head, each U(-1, 1)
HAIRS = {"black": (0.10, 0.09, 0.10), "red": (0.62, 0.25, 0.12), "blond": (0.86, 0.72, 0.38), "white": (0.90, 0.90, 0.92)}
WORDS = ("<pad>", "a", "head", "with", "hair", *HAIRS)


def heads(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """(count, len(NUMBERS)) numbers in [-1, 1], and (count,) hair colours by place in HAIRS."""
    return torch.rand(count, len(NUMBERS), generator=generator) * 2 - 1, torch.randint(len(HAIRS), (count,), generator=generator)


def caption(hair: int) -> str:
    return f"a head with {list(HAIRS)[hair]} hair"


def _cover(distance: torch.Tensor) -> torch.Tensor:
    """Soft edge, about a pixel wide."""
    return torch.sigmoid(-distance * SIZE / 1.2)[:, None]


def _ellipse(x: torch.Tensor, y: torch.Tensor, a: Any, b: Any) -> torch.Tensor:
    """About the signed distance from an ellipse, in sides of the image."""
    q = ((x / a) ** 2 + (y / b) ** 2).sqrt()
    return (q - 1) * torch.minimum(torch.as_tensor(a), torch.as_tensor(b))


def render(numbers: torch.Tensor, hair: torch.Tensor) -> torch.Tensor:
    """(N, 3, 32, 32) in [0, 1]."""
    smile, eye, size, length, turn, light, skin, sky = (v[:, None, None] for v in numbers.unbind(1))
    axis = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    scale = 0.30 + 0.05 * size
    x = (axis[None, None] - 0.05 * turn) / scale
    y = (axis[None, :, None] - 0.02) / scale
    height = axis[None, :, None] + 0.5
    low = torch.stack([0.55 + 0.25 * sky, 0.55 + 0 * sky, 0.60 - 0.25 * sky], dim=1)
    canvas = (low * (1.15 - 0.5 * height[:, None])).expand(-1, 3, SIZE, SIZE)
    colour = torch.tensor(list(HAIRS.values()))[hair][:, :, None, None]
    fall = 0.35 + 0.55 * (length + 1) / 2
    behind = torch.maximum(_ellipse(x, y + 0.15, 1.18, 1.15), y - fall) * scale
    canvas = canvas + _cover(behind) * (colour - canvas)
    tone = torch.stack([0.80 + 0.15 * skin, 0.62 + 0.16 * skin, 0.50 + 0.16 * skin], dim=1)
    shade = 1 + 0.22 * light * x - 0.12 * (x**2 + y**2)
    face = (tone * shade[:, None]).clamp(0, 1)
    canvas = canvas + _cover(_ellipse(x, y, 0.85, 1.0) * scale) * (face - canvas)
    nose = torch.stack([0.75 * c for c in tone.unbind(1)], dim=1)
    canvas = canvas + 0.6 * _cover(_ellipse(x - 0.1 * turn, y - 0.15, 0.07, 0.2) * scale) * (nose - canvas)
    opening = 0.13 + 0.10 * eye
    for side in (-0.36, 0.36):
        white = _cover(_ellipse(x - side - 0.1 * turn, y + 0.2, 0.22, opening) * scale)
        canvas = canvas + white * (0.95 - canvas)
        iris = _cover(torch.maximum(_ellipse(x - side - 0.16 * turn, y + 0.2, 0.11, 0.13), y.abs() - 9) * scale) * white
        canvas = canvas + iris * (torch.tensor([0.15, 0.25, 0.35])[:, None, None] - canvas)
    across = x - 0.1 * turn
    curve = 0.52 + 0.14 * smile * (1 - 2 * (across / 0.42) ** 2).clamp_min(-1.2)
    thick = 0.07 + 0.02 * smile.abs()
    mouth = torch.maximum((y - curve).abs() - thick, across.abs() - 0.42) * scale
    canvas = canvas + _cover(mouth) * (torch.tensor([0.55, 0.16, 0.20])[:, None, None] - canvas)
    return canvas.clamp(0, 1).contiguous()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One attention over text and image, a feed-forward; modulated by the noise level (DiT's adaLN-Zero)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, elementwise_affine=False) for _ in range(2))
        self.attn = Attention()
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(), nn.Linear(4 * WIDTH, WIDTH))
        self.modulation = nn.Linear(WIDTH, 6 * WIDTH)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(F.silu(time))[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class HeadTransformer(nn.Module):
    """(x (B, 3, 32, 32), timesteps (B,) = 1000 sigma, context (B, T, WIDTH)) -> velocity (B, 3, 32, 32)."""

    def __init__(self) -> None:
        super().__init__()
        self.x_embedder = nn.Conv2d(3, WIDTH, 8, stride=PATCH, padding=2)
        self.place = nn.Parameter(0.02 * torch.randn(1, (SIZE // PATCH) ** 2, WIDTH))
        self.t_embedder = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH))
        self.blocks = nn.ModuleList([Block() for _ in range(DEPTH)])
        self.norm = nn.LayerNorm(WIDTH)
        self.final_layer = nn.Linear(WIDTH, 3 * PATCH**2)
        self.smooth = nn.Conv2d(6, 24, 3, padding=1)
        self.last = nn.Conv2d(24, 3, 3, padding=1)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, **_unused: Any) -> torch.Tensor:
        time = self.t_embedder(sinusoid(timesteps, WIDTH))
        tokens = torch.cat([self.x_embedder(x).flatten(2).transpose(1, 2) + self.place, context], dim=1)
        for block in self.blocks:
            tokens = block(tokens, time)
        image = self.final_layer(self.norm(tokens[:, : self.place.shape[1]])).transpose(1, 2)
        rough = F.fold(image, SIZE, PATCH, stride=PATCH)
        return rough + self.last(F.silu(self.smooth(torch.cat([rough, x], dim=1))))


class Reader(nn.Module):
    """The regressor: (N, 3, 32, 32) in [0, 1] -> (N, outputs); here the attributes of ATTRIBUTES and OTHERS."""

    def __init__(self, outputs: int = len(ATTRIBUTES) + len(OTHERS)) -> None:
        super().__init__()
        self.net = nn.Sequential(
            *(nn.Conv2d(3, 24, 3, padding=1), nn.SiLU(), nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.SiLU()),
            *(nn.Conv2d(48, 64, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(64 * 64, 96), nn.SiLU()),
            nn.Linear(96, outputs),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.net(image * 2 - 1)


class Heads(nn.Module):
    """All that is trained and kept."""

    def __init__(self) -> None:
        super().__init__()
        self.text = nn.Embedding(len(WORDS), WIDTH)
        self.diffusion_model = HeadTransformer()
        self.reader = Reader()


def tokens(text: str) -> torch.Tensor:
    """(1, 5) ids; an empty prompt is padding."""
    ids = [WORDS.index(word) for word in text.split() if word in WORDS][:5]
    return torch.tensor([ids + [0] * (5 - len(ids))])


class HeadsBackend(TinyBackend):
    """The second world's model as a Backend: pixels in [-1, 1], flow matching."""

    name = "heads"
    image_step = PATCH
    resolution = SIZE

    def __init__(self, weights: dict[str, torch.Tensor] | None = None) -> None:
        weights = weights or {key: value.float() for key, value in load_file(WEIGHTS).items()}
        self.device = torch.device("cpu")
        self.memory = Memory(self.device)
        whole = Heads().eval().requires_grad_(False)
        whole.load_state_dict(weights)
        self.module = whole.diffusion_model
        self._text = whole.text
        self.reader = whole.reader

    def encode_prompt(self, text: str) -> Conditioning:
        with torch.no_grad():
            return Conditioning(text, self._text(tokens(text)))

    def prompt(self, seed: int) -> str:
        """What is drawn from a seed's noise."""
        return caption(seed % len(HAIRS))

    @torch.no_grad()
    def draw(self, adapter: Adapter | None, strength: float, seeds: Sequence[int], steps: int = 12) -> torch.Tensor:
        """(len(seeds), 3, 32, 32) in [0, 1] at one strength, every seed its own noise and hair."""
        x = torch.stack([torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(50_000 + s)) for s in seeds])
        cond = [self.encode_prompt(self.prompt(s)) for s in seeds]
        levels = torch.linspace(1, 0, steps + 1)
        with at_strength(adapter, self.module, [strength] * len(seeds)) if adapter else nullcontext():
            for now, following in itertools.pairwise(levels):
                x = x + (following - now) * self.predict(x, now.clamp_max(0.999).expand(len(seeds)), cond)
        return ((x + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 6) attributes as the regressor sees them."""
        return self.reader(images)


def pairs(model: HeadsBackend, attribute: str, count: int, seed: int, unpaired: bool = False) -> list[Sample]:
    """Encoded heads with the attribute at both ends; unpaired ones share nothing else."""
    return captioned_pairs(model, attribute, count, seed, unpaired, lambda _numbers, hair: caption(hair))


def captioned_pairs(
    model: Backend, attribute: str, count: int, seed: int, unpaired: bool, says: Callable[[torch.Tensor, int], str]
) -> list[Sample]:
    """The same on any model of heads; `says`: the caption of a head of these numbers and this hair."""
    numbers, hair = heads(2 * count, torch.Generator().manual_seed(100 + seed))
    column = NUMBERS.index(attribute)
    sides = []
    for sign, first in ((1.0, 0), (-1.0, count if unpaired else 0)):
        ends = numbers[first : first + count].clone()
        ends[:, column] = sign * EXTREME
        sides.append((sign, ends, hair[first : first + count]))
    latents = [model.encode_images(render(ends, colours)) for _, ends, colours in sides]
    aligned = line_up(*latents)
    samples = []
    for (sign, ends, colours), latent in zip(sides, latents, strict=True):
        for number, one in enumerate(latent):
            cond = model.encode_prompt(says(ends[number], int(colours[number])))
            samples.append(Sample(one, cond, sign, number, aligned=aligned))
    return samples


def effect(
    model: HeadsBackend, adapter: Adapter, attribute: str, strength: float, seeds: Sequence[int] = range(10), steps: int = 12
) -> float:
    """How far the attribute moves in drawn pictures from -strength to +strength, share of the images' own gap."""
    plus, minus = (model.read(model.draw(adapter, sign * strength, seeds, steps)) for sign in (1, -1))
    change = (plus - minus)[:, ATTRIBUTES.index(attribute)].mean()
    return float(change) / (2 * EXTREME) if math.isfinite(change) else 0.0
