"""The second world as an edit model: heads.py's transformer, shown the picture that it is to edit.

Trained here from the shipped weights (five minutes of one core, kept in build/) on pairs of one head in two hair colours: the
reference has one, the prompt asks for another, and all else is to stay. One batch in eight has no reference. The reference
comes in as InstructPix2Pix has it, beside the picture's own pixels, and each token says how far its pixels are copied; models
that take it as further tokens were not tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from descent import CENTRE, descend
from heads import HAIRS, PATCH, SIZE, WIDTH, HeadsBackend, HeadTransformer, caption, heads, render, tokens
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from slider_core.backend import Conditioning
from slider_core.with_tiny.model import sinusoid

KEPT = Path(__file__).resolve().parents[2] / "build" / "edits.safetensors"
RENDERS, BATCH, RATE, STEPS, LEAST_SIGMA = 6000, 16, 1e-3, 900, 0.1


class EditTransformer(HeadTransformer):
    """`reference` (B, 3, 32, 32): pictures to edit, part of each of the picture's tokens and of its pixels; `copied` says which
    pixels are drawn as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = nn.Conv2d(3, WIDTH, 8, stride=PATCH, padding=2)
        self.kept = nn.Conv2d(3, 3, 3, padding=1)
        self.copied = nn.Linear(WIDTH, PATCH**2)
        for layer in (self.shown, self.kept, self.copied):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        reference: torch.Tensor | None = None,
        **_other: Any,
    ) -> torch.Tensor:
        if reference is None:
            return super().forward(x, timesteps, context)
        time = self.t_embedder(sinusoid(timesteps, WIDTH))
        picture = (self.x_embedder(x) + self.shown(reference)).flatten(2).transpose(1, 2) + self.place
        hidden = torch.cat([picture, context], dim=1)
        for block in self.blocks:
            hidden = block(hidden, time)
        last = self.norm(hidden[:, : self.place.shape[1]])
        rough, copied = (
            F.fold(layer(last).transpose(1, 2), SIZE, PATCH, stride=PATCH) for layer in (self.final_layer, self.copied)
        )
        fine = self.last(F.silu(self.smooth(torch.cat([rough, x + self.kept(reference)], dim=1))))
        to_reference = (x - reference) / (timesteps / 1000).clamp_min(LEAST_SIGMA)[:, None, None, None]
        return torch.lerp(rough + fine, to_reference, torch.sigmoid(copied))


class EditsBackend(HeadsBackend):
    """A conditioning's value is the prompt's tokens, or a pair of them and the reference."""

    name = "edits"

    def __init__(self) -> None:
        super().__init__()
        plain = self.module.state_dict()
        edit = EditTransformer().eval().requires_grad_(False)
        edit.load_state_dict(plain, strict=False)
        if KEPT.exists():
            edit.load_state_dict(load_file(KEPT))
        else:
            _train(edit, self._text)
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            save_file(edit.state_dict(), KEPT)
        self.module = edit

    def with_reference(self, cond: Conditioning, latent_CHW: torch.Tensor) -> Conditioning:
        return Conditioning(cond.text, (cond.value, latent_CHW[None]))

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        if not isinstance(cond[0].value, tuple):
            return super().predict(x_BCHW, sigma_B, cond)
        context, reference = (torch.cat([c.value[part] for c in cond]) for part in (0, 1))
        return self.module(x_BCHW, sigma_B * 1000, context, reference)


def _train(module: EditTransformer, text: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers, _ = heads(RENDERS, generator)
    pictures = []
    for hair in range(len(HAIRS)):
        parts = [render(some, torch.full((len(some),), hair)) for some in numbers.split(500)]
        pictures.append(torch.cat(parts).mul(255).round().to(torch.uint8))
    by_hair = torch.stack(pictures)
    ids = torch.cat([tokens(caption(hair)) for hair in range(len(HAIRS))])

    def loss() -> torch.Tensor:
        pick = torch.randint(RENDERS, (BATCH,), generator=generator)
        before, after = (torch.randint(len(HAIRS), (BATCH,), generator=generator) for _ in range(2))
        reference, x0 = (by_hair[hair, pick].float() / 127.5 - 1 for hair in (before, after))
        shown = reference if float(torch.rand((), generator=generator)) > 1 / 8 else None
        sigma = torch.sigmoid(1.1 * torch.randn(BATCH, generator=generator) + CENTRE)
        noise = torch.randn(x0.shape, generator=generator)
        s = sigma[:, None, None, None]
        velocity = module((1 - s) * x0 + s * noise, sigma * 1000, text(ids[after]), shown)
        return (velocity - (noise - x0)).square().mean()

    module.requires_grad_(True)
    descend(module.parameters(), RATE, STEPS, loss)
    module.requires_grad_(False)
