"""How the small models of the worlds are trained."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable

import torch
from torch import nn

CENTRE = 0.4  # sigma = sigmoid(1.1 normal + CENTRE)


def descend(
    parameters: Iterable[nn.Parameter],
    lr: float,
    steps: int,
    loss: Callable[[], torch.Tensor],
    seconds: float = math.inf,
    keep: Callable[[], None] = lambda: None,
) -> tuple[float, int]:
    """(running loss, steps done) of AdamW with half a cosine; the rate has come down when `seconds` are over. What stays in the
    parameters is the average of their last values; every ten minutes `keep` is called while they hold it."""
    chosen = list(parameters)
    optimizer = torch.optim.AdamW(chosen, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    mean = [p.detach().clone() for p in chosen]
    start = time.time()
    kept = start
    shown, done, way = 0.0, 0, 0.0
    while way < 1:
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (done + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * way))
        value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(chosen, 1.0)
        optimizer.step()
        done += 1
        with torch.no_grad():
            for average, p in zip(mean, chosen, strict=True):
                average.lerp_(p, 1 - min(0.998, done / (done + 20)))
        shown = value.item() if done == 1 else 0.98 * shown + 0.02 * value.item()
        if done % 100 == 0:
            sys.stderr.write(f"step {done}/{steps} loss {shown:.4f} {time.time() - start:.0f} s\n")
        if time.time() - kept > 600:
            kept = time.time()
            _swap(chosen, mean)
            keep()
            _swap(chosen, mean)
        way = max(done / steps, (time.time() - start) / seconds)
    _swap(chosen, mean)
    return shown, done


@torch.no_grad()
def _swap(parameters: list[nn.Parameter], averages: list[torch.Tensor]) -> None:
    for p, average in zip(parameters, averages, strict=True):
        value = p.clone()
        p.copy_(average)
        average.copy_(value)


def flow_loss(model: nn.Module, images: torch.Tensor, ids: torch.Tensor, batch: int, generator: torch.Generator) -> torch.Tensor:
    """Of flow matching, on a batch of `images` (N, 3, H, W) in bytes with their words `ids` (N, length); a tenth has none."""
    pick = torch.randint(len(images), (batch,), generator=generator)
    x0 = images[pick].float() / 127.5 - 1
    words = torch.where(torch.rand(batch, 1, generator=generator) < 0.1, torch.zeros_like(ids[pick]), ids[pick])
    sigma = torch.sigmoid(1.1 * torch.randn(batch, generator=generator) + CENTRE)
    noise = torch.randn(x0.shape, generator=generator)
    s = sigma[:, None, None, None]
    velocity = model.diffusion_model((1 - s) * x0 + s * noise, sigma * 1000, model.text(words))
    return (velocity - (noise - x0)).square().mean()
