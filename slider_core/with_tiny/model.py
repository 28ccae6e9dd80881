"""The embedded default: a small but real text-conditioned diffusion transformer with shipped weights.

Flow matching on 64 x 64 pixels: x_sigma = (1 - sigma) x0 + sigma noise, the network returns the velocity noise - x0.
Inside, it predicts the clean image (a face lies on a low-dimensional manifold, noise does not: Li and He, "Back to Basics:
Let Denoising Generative Models Denoise", 2025), so a patch fits a 128-wide token. Tokens stand 8 pixels apart and see, and
draw, 16 x 16 pixels each; where they overlap, the drawings are blended.

Layers carry the names of the general target list (attn1.to_q, attn2.to_k, proj_in, time_embedding.linear_1, ...), and
`TinyTransformer.forward` has the signature of a ComfyUI diffusion model, so the same class runs on both sides.
1.21 M parameters, 64 tokens. Made by tools/make_tiny.py.

The words of attributes (SAID) came later, by tools/make_tiny_words.py, on top of all that, frozen: each has a unit that its own
embedding alone lights up, and the unit moves the modulation of every block. Without such a word all units are exactly 0, and
the model answers as it did before it knew the words, bit for bit.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from ..backend import Conditioning, Memory, module_fingerprint, per_sample
from ..config.checks import SliderError
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength

SIZE, PATCH, WINDOW, WIDTH, DEPTH, HEADS, TEXT_WIDTH, TEXT_LENGTH = 64, 8, 16, 128, 4, 4, 64, 16
WEIGHTS = Path(__file__).with_name("tiny.safetensors")
MIN_SIGMA = 0.05  # x0 -> velocity divides by sigma; below this the division would only amplify error
CAPTION_WORDS = (
    "a face with skin on background light tan brown dark blue teal green purple gray and of the person cartoon portrait"
)
VOCABULARY: tuple[str, ...] = ("<pad>", "<unknown>", *CAPTION_WORDS.split())
SAID = ("smiling", "sad", "open", "closed", "large", "small")  # these steer the picture; "eyes" only goes with two of them
PLAIN = len(VOCABULARY)  # the words of the captions that the model was made with
VOCABULARY += (*SAID, "eyes")
WORD_IDS = {word: number for number, word in enumerate(VOCABULARY)}
UNKNOWN_WORD = 1


def tokenize(text: str) -> list[int]:
    """Word ids of a caption, TEXT_LENGTH long, padded with 0; words outside the vocabulary become 1."""
    words = re.findall(r"[a-z]+", text.lower())[:TEXT_LENGTH]
    ids = [WORD_IDS.get(word, UNKNOWN_WORD) for word in words]
    return ids + [0] * (TEXT_LENGTH - len(ids))


class TinyText(nn.Module):
    """Word and position embeddings. (B, TEXT_LENGTH) ids -> (B, TEXT_LENGTH, TEXT_WIDTH)."""

    def __init__(self, dtype: torch.dtype | None = None, device: Any = None, operations: Any = nn) -> None:
        super().__init__()
        self.word = operations.Embedding(len(VOCABULARY), TEXT_WIDTH, dtype=dtype, device=device)
        self.position = operations.Embedding(TEXT_LENGTH, TEXT_WIDTH, dtype=dtype, device=device)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.word(ids) + self.position(torch.arange(ids.shape[1], device=ids.device))


def sinusoid(value: torch.Tensor, width: int) -> torch.Tensor:
    """(...,) positions -> (..., width) sines and cosines."""
    freqs = torch.exp(-math.log(10000.0) * torch.arange(width // 2, device=value.device, dtype=torch.float32) / (width // 2))
    angle = value[..., None].float() * freqs
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


@functools.lru_cache(16)
@torch.inference_mode(False)
def image_positions(rows: int, columns: int, device: Any = None) -> torch.Tensor:
    """(1, rows * columns, WIDTH) fixed two-dimensional sine embedding."""
    y = sinusoid(torch.arange(rows, device=device) * 8.0, WIDTH // 2)[:, None].expand(rows, columns, -1)
    x = sinusoid(torch.arange(columns, device=device) * 8.0, WIDTH // 2)[None].expand(rows, columns, -1)
    return torch.cat([y, x], dim=-1).reshape(1, rows * columns, WIDTH)


def blend(patches_BNL: torch.Tensor, rows: int, columns: int, window: int = WINDOW) -> torch.Tensor:
    """(B, 3 * window^2, rows * columns) overlapping patches -> (B, 3, rows * PATCH, columns * PATCH), weighted by a tent."""
    edge = (window - PATCH) // 2
    size = (rows * PATCH + 2 * edge, columns * PATCH + 2 * edge)
    weight, total = tent(size, window, patches_BNL.dtype, patches_BNL.device)
    picture = F.fold(patches_BNL * weight.repeat(patches_BNL.shape[1] // len(weight))[:, None], size, window, stride=PATCH)
    return (picture / total)[..., edge : size[0] - edge, edge : size[1] - edge]


@functools.lru_cache(16)
@torch.inference_mode(False)
def tent(size: tuple[int, int], window: int, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """(window^2,) how much each place of a patch counts, and (1, 1, *size) the sum of it over all patches."""
    ramp = (torch.arange(window // 2, device=device, dtype=dtype) + 0.5) / (window // 2)
    side = torch.cat([ramp, ramp.flip(0)])
    weight = (side[:, None] * side).flatten()
    patches = math.prod((length - window) // PATCH + 1 for length in size)
    return weight, F.fold(weight[None, :, None].expand(1, -1, patches), size, window, stride=PATCH)


class Attention(nn.Module):
    """Multi-head attention with the field's layer names; `context` None means self-attention."""

    def __init__(self, context_width: int, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        make = {"dtype": dtype, "device": device}
        self.to_q = operations.Linear(WIDTH, WIDTH, bias=False, **make)
        self.to_k = operations.Linear(context_width, WIDTH, bias=False, **make)
        self.to_v = operations.Linear(context_width, WIDTH, bias=False, **make)
        self.to_out = nn.ModuleList([operations.Linear(WIDTH, WIDTH, **make)])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        q, k, v = (t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (self.to_q(x), self.to_k(context), self.to_v(context)))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    def __init__(self, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        self.net = nn.ModuleList(
            [
                operations.Linear(WIDTH, 3 * WIDTH, dtype=dtype, device=device),
                nn.GELU(),
                operations.Linear(3 * WIDTH, WIDTH, dtype=dtype, device=device),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.net:
            x = layer(x)
        return x


class Block(nn.Module):
    """Self-attention on the image, cross-attention to the text, feed-forward; modulation shared over blocks (PixArt)."""

    def __init__(self, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(WIDTH, elementwise_affine=False) for _ in range(3))
        self.attn1 = Attention(WIDTH, dtype, device, operations)
        self.attn2 = Attention(TEXT_WIDTH, dtype, device, operations)
        self.ff = FeedForward(dtype, device, operations)
        self.scale_shift_table = nn.Parameter(torch.zeros(6, WIDTH, dtype=dtype, device=device), requires_grad=False)

    def forward(self, x: torch.Tensor, context: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift3, scale3, gate3 = (modulation + self.scale_shift_table.to(modulation)).chunk(6, dim=1)
        x = x + gate1 * self.attn1(self.norm1(x) * (1 + scale1) + shift1)
        x = x + self.attn2(self.norm2(x), context)
        return x + gate3 * self.ff(self.norm3(x) * (1 + scale3) + shift3)


class TimeEmbedding(nn.Module):
    def __init__(self, dtype: Any, device: Any, operations: Any) -> None:
        super().__init__()
        self.linear_1 = operations.Linear(WIDTH, WIDTH, dtype=dtype, device=device)
        self.linear_2 = operations.Linear(WIDTH, WIDTH, dtype=dtype, device=device)

    def forward(self, timesteps: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return self.linear_2(F.silu(self.linear_1(sinusoid(timesteps, WIDTH).to(dtype))))


class TinyTransformer(nn.Module):
    """The diffusion model. (x (B, 3, H, W), timesteps (B,) = 1000 sigma, context (B, T, TEXT_WIDTH)) -> velocity (B, 3, H, W).

    H and W are multiples of PATCH; the model was trained at SIZE x SIZE.
    """

    def __init__(
        self,
        in_channels: int = 3,
        dtype: torch.dtype | None = None,
        device: Any = None,
        operations: Any = nn,
        window: int = WINDOW,
        **_config: Any,
    ) -> None:
        super().__init__()
        self.dtype, self.window, make = dtype, window, (dtype, device, operations)
        edge = (window - PATCH) // 2
        self.proj_in = operations.Conv2d(in_channels, WIDTH, window, stride=PATCH, padding=edge, dtype=dtype, device=device)
        self.time_embedding = TimeEmbedding(*make)
        self.modulation = operations.Linear(WIDTH, 6 * WIDTH, dtype=dtype, device=device)
        self.blocks = nn.ModuleList([Block(*make) for _ in range(DEPTH)])
        zeros = partial(torch.zeros, dtype=dtype, device=device)
        self.said_read = nn.Parameter(zeros(len(SAID), TEXT_WIDTH), requires_grad=False)
        self.said_floor = nn.Parameter(zeros(len(SAID)), requires_grad=False)
        self.said_steer = nn.Parameter(zeros(DEPTH, len(SAID), 6 * WIDTH), requires_grad=False)
        self.norm_out = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.proj_out = operations.Linear(WIDTH, in_channels * window**2, dtype=dtype, device=device)

    def said(self, context: torch.Tensor) -> torch.Tensor:
        """(B, len(SAID)) how much each of these words is said: about 1 for each time, exactly 0 where it is not."""
        words = context.float()
        return F.relu(words @ self.said_read.to(words).T - self.said_floor.to(words)).sum(dim=1)

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, context: torch.Tensor, **_unused: Any) -> torch.Tensor:
        rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
        time = self.time_embedding(timesteps, x.dtype)
        modulation = self.modulation(F.silu(time)).unflatten(-1, (6, WIDTH))
        h = self.proj_in(x).flatten(2).transpose(1, 2) + image_positions(rows, columns, x.device).to(x.dtype)
        context, said = context.to(x.dtype), self.said(context)
        for block, steer in zip(self.blocks, self.said_steer, strict=True):
            h = block(h, context, modulation + (said @ steer.to(said)).unflatten(-1, (6, WIDTH)).to(x.dtype))
        clean = blend(self.proj_out(self.norm_out(h)).transpose(1, 2), rows, columns, self.window)
        sigma = (timesteps.float() / 1000).clamp_min(MIN_SIGMA).to(x.dtype)
        return (x - clean) / sigma[:, None, None, None]


def load_weights(path: Path = WEIGHTS) -> dict[str, torch.Tensor]:
    """The shipped weights in float32, keys `text.*` and `diffusion_model.*`. SliderError when the file is missing or damaged."""
    try:
        return {key: value.float() for key, value in load_file(path).items()}
    except (OSError, SafetensorError) as fault:
        message = f"The embedded model cannot be read: {path} ({fault}). Install the pack anew."
        raise SliderError(message, "tiny.weights") from None


def part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The entries under `prefix.`, without it."""
    return {k[len(prefix) + 1 :]: v for k, v in weights.items() if k.startswith(prefix + ".")}


class TinyBackend:
    """The embedded model as a `Backend`. Latents are pixels in [-1, 1]; sigma is the flow time in (0, 1)."""

    name = "tiny"
    image_step = PATCH
    resolution = SIZE
    few_steps = 0
    dtype = torch.float32

    def __init__(self, weights: dict[str, torch.Tensor] | None = None) -> None:
        weights = load_weights() if weights is None else weights
        self.device = torch.device("cpu")
        self.memory = Memory(self.device)
        self.module: TinyTransformer = TinyTransformer().eval()
        self._text = TinyText().eval()
        self.module.load_state_dict(part(weights, "diffusion_model"))
        self._text.load_state_dict(part(weights, "text"))
        self.module.requires_grad_(False)
        self._text.requires_grad_(False)

    def load(self) -> None:
        """The embedded model is always there."""

    def training_fingerprint(self) -> dict[str, str]:
        return {"model": self.name}

    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        return image_BCHW * 2 - 1

    def encode_prompt(self, text: str) -> Conditioning:
        with torch.no_grad():
            return Conditioning(text, self._text(torch.tensor([tokenize(text)])))

    def with_reference(self, cond: Conditioning, latent_CHW: torch.Tensor) -> Conditioning:  # noqa: ARG002
        message = "The built-in model takes no reference images: set reference to none."
        raise SliderError(message, "reference.not_taken")

    def encoder_fingerprints(self) -> tuple[str, str]:
        return f"{self.name} pixels", f"{self.name} {module_fingerprint(self._text)}"

    def drawn_by(self) -> str:
        return module_fingerprint(self.module)

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """The embedded model is ours alone: frozen, in normal tensors, so there is nothing to prepare or put back."""
        yield

    def prepare(self, paths: Sequence[str], latent_CHW: torch.Tensor, cond: Conditioning) -> None:
        """The embedded model keeps samples apart everywhere."""

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        return u_B

    even_sigmas = sigmas

    def add_noise(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        sigma = per_sample(sigma_B, latent_BCHW)
        return (1 - sigma) * latent_BCHW + sigma * noise_BCHW

    def target(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, _sigma_B: torch.Tensor) -> torch.Tensor:
        return noise_BCHW - latent_BCHW

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        return self.module(x_BCHW, sigma_B * 1000, torch.cat([c.value for c in cond]))

    @torch.no_grad()
    def sample(
        self,
        cond: Conditioning,
        seed: int,
        strengths: Sequence[float],
        adapter: Adapter | None = None,
        steps: int = 16,
        cfg: float = 1.0,
    ) -> torch.Tensor:
        """One image per strength from the same noise, Euler steps evenly over sigma. Returns (S, 3, 64, 64) in [0, 1]."""
        noise = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        x = noise.repeat(len(strengths), 1, 1, 1)
        sigmas = torch.linspace(1, 0, steps + 1)
        empty = self.encode_prompt("")
        with at_strength(adapter, self.module, strengths) if adapter else nullcontext():
            for now, following in itertools.pairwise(sigmas):
                x = x + (following - now) * self._guided(x, now, cond, empty, cfg)
        return ((x + 1) / 2).clamp(0, 1)

    def _guided(self, x: torch.Tensor, sigma: torch.Tensor, cond: Conditioning, empty: Conditioning, cfg: float) -> torch.Tensor:
        """Velocity with classifier-free guidance (Ho and Salimans 2022), both halves in one call."""
        conds = [cond] if cfg == 1 else [cond, empty]
        context = [c for c in conds for _ in x]
        out = self.predict(x.repeat(len(conds), 1, 1, 1), sigma.expand(len(context)), context)
        parts = out.chunk(len(conds))
        return parts[0] if cfg == 1 else parts[1] + cfg * (parts[0] - parts[1])
