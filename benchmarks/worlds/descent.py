"""How the small models of the worlds are trained."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

CENTRE = 0.4  # sigma = sigmoid(1.1 normal + CENTRE)


@dataclass(frozen=True)
class Part:
    """Where a training that is done in parts is kept between them; in parts it is the same training."""

    path: Path
    generator: torch.Generator  # that the loss draws from

    def save(self, parameters: list[nn.Parameter], averages: list[torch.Tensor], optimizer: Any, at: tuple[float, int]) -> None:
        state = {"parameters": [p.data for p in parameters], "averages": averages, "optimizer": optimizer.state_dict()}
        torch.save(state | {"generator": self.generator.get_state(), "at": at}, self.path)

    @torch.no_grad()
    def load(self, parameters: list[nn.Parameter], averages: list[torch.Tensor], optimizer: Any) -> tuple[float, int]:
        state = torch.load(self.path, weights_only=True)
        for p, average, value, mean in zip(parameters, averages, state["parameters"], state["averages"], strict=True):
            p.copy_(value)
            average.copy_(mean)
        optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        return state["at"]


def descend(
    parameters: Iterable[nn.Parameter],
    lr: float,
    steps: int,
    loss: Callable[[], torch.Tensor],
    seconds: float = math.inf,
    keep: Callable[[], None] = lambda: None,
    part: Part | None = None,
) -> tuple[float, int]:
    """(running loss, steps done) of AdamW with half a cosine; the rate has come down when `seconds` are over. What stays in the
    parameters is the average of their last values; every ten minutes `keep` is called while they hold it. With a `part` the rate
    is that of the step, and when `seconds` are over all is on disk to go on from."""
    chosen = list(parameters)
    optimizer = torch.optim.AdamW(chosen, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    mean = [p.detach().clone() for p in chosen]
    start = kept = time.time()
    shown, done, way = 0.0, 0, 0.0
    if part and part.path.exists():
        shown, done = part.load(chosen, mean, optimizer)
        way = done / steps
    while way < 1:
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (done + 1) / 100) * (0.51 + 0.49 * math.cos(math.pi * way))
        value = loss()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(chosen, 1.0)
        optimizer.step()
        done += 1
        _follow(mean, chosen, done)
        shown = value.item() if done == 1 else 0.98 * shown + 0.02 * value.item()
        if done % 100 == 0:
            sys.stderr.write(f"step {done}/{steps} loss {shown:.4f} {time.time() - start:.0f} s\n")
        if time.time() - kept > 600:
            kept = time.time()
            _with_averages(keep, chosen, mean)
        way = done / steps if part else max(done / steps, (time.time() - start) / seconds)
        over = part is not None and time.time() - start > seconds
        if part and (over or done % 100 == 0):
            part.save(chosen, mean, optimizer, (shown, done))
        if over:
            break
    if part and way >= 1:
        part.path.unlink(missing_ok=True)
    _swap(chosen, mean)
    return shown, done


@torch.no_grad()
def _follow(averages: list[torch.Tensor], parameters: list[nn.Parameter], done: int) -> None:
    for average, p in zip(averages, parameters, strict=True):
        average.lerp_(p, 1 - min(0.998, done / (done + 20)))


def _with_averages(keep: Callable[[], None], parameters: list[nn.Parameter], averages: list[torch.Tensor]) -> None:
    _swap(parameters, averages)
    keep()
    _swap(parameters, averages)


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
