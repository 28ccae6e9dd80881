"""The second world as an edit model: heads.py's transformer, shown the picture that it is to edit as further tokens.

Trained here from the shipped weights, on pairs of one head in two hair colours: the reference has one, the prompt asks for
another, and all else is to stay. One picture in eight comes without a reference. Kept in build/.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from heads import HAIRS, HeadsBackend, HeadTransformer, caption, heads, render, tokens
from safetensors.torch import load_file, save_file
from torch import nn

from slider_core.backend import Conditioning

KEPT = Path(__file__).resolve().parents[2] / "build" / "edits.safetensors"
RENDERS, BATCH, RATE = 6000, 16, 1e-3
PLACES = 64


class EditTransformer(HeadTransformer):
    """`reference` (B, 3, 32, 32): pictures to edit, in tokens after the prompt's."""

    def __init__(self) -> None:
        super().__init__()
        self.mark = nn.Parameter(torch.zeros(1, 1, self.place.shape[2]))

    def forward(
        self,
        x: torch.Tensor,
        timesteps: torch.Tensor,
        context: torch.Tensor,
        reference: torch.Tensor | None = None,
        **_other: Any,
    ) -> torch.Tensor:
        if reference is not None:
            shown = self.x_embedder(reference).flatten(2).transpose(1, 2) + self.place + self.mark
            context = torch.cat([context, shown], dim=1)
        return super().forward(x, timesteps, context)


class EditsBackend(HeadsBackend):
    """A conditioning's value is the prompt's tokens, or a pair of them and the reference."""

    name = "edits"

    def __init__(self, seconds: float = 600.0, steps: int = 2000) -> None:
        super().__init__()
        plain = self.module.state_dict()
        self.module = EditTransformer().eval().requires_grad_(False)
        self.module.load_state_dict(plain, strict=False)
        if KEPT.exists():
            self.module.load_state_dict(load_file(KEPT))
        else:
            _train(self.module, self._text, seconds, steps)
            KEPT.parent.mkdir(parents=True, exist_ok=True)
            save_file(self.module.state_dict(), KEPT)

    def with_reference(self, cond: Conditioning, latent_CHW: torch.Tensor) -> Conditioning:
        return Conditioning(cond.text, (cond.value, latent_CHW[None]))

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        if not isinstance(cond[0].value, tuple):
            return super().predict(x_BCHW, sigma_B, cond)
        context, reference = (torch.cat([c.value[part] for c in cond]) for part in (0, 1))
        return self.module(x_BCHW, sigma_B * 1000, context, reference)


def _train(module: EditTransformer, text: nn.Module, seconds: float, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    numbers, _ = heads(RENDERS, generator)
    hairs = [torch.full((RENDERS,), hair) for hair in range(len(HAIRS))]
    pictures = torch.stack([render(numbers, hair).mul(255).round().to(torch.uint8) for hair in hairs])
    ids = torch.cat([tokens(caption(hair)) for hair in range(len(HAIRS))])
    module.requires_grad_(True)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, weight_decay=0.01)
    start, shown = time.monotonic(), 0.1
    for step in range(steps):
        way = max(step / steps, (time.monotonic() - start) / seconds)
        if way >= 1:
            break
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 - 0.95 * way)
        pick = torch.randint(RENDERS, (BATCH,), generator=generator)
        before, after = (torch.randint(len(HAIRS), (BATCH,), generator=generator) for _ in range(2))
        reference, x0 = (pictures[hair, pick].float() / 127.5 - 1 for hair in (before, after))
        sigma = torch.sigmoid(1.1 * torch.randn(BATCH, generator=generator) + 0.4)
        noise = torch.randn(x0.shape, generator=generator)
        s = sigma[:, None, None, None]
        velocity = module((1 - s) * x0 + s * noise, sigma * 1000, text(ids[after]), None if step % 8 == 0 else reference)
        loss = (velocity - (noise - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        shown += 0.02 * (float(loss.detach()) - shown)
        if step % 100 == 0:
            sys.stderr.write(f"step {step}/{steps} loss {shown:.4f} {time.monotonic() - start:.0f} s\n")
    module.requires_grad_(False)
