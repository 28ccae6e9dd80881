"""A tiny model on the device of the ring, an adapter on it, and what is asked of both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from zoo.measure import norm, shaken
from zoo.model import Tiny, conditioning
from zoo.quantised import build

STEPS = (1e-1, 2e-2)  # of finite differences in float32: against a kink nearby, and against rounding


def on_device(entry: Tiny, device: torch.device, kind: str = "plain", dtype: torch.dtype = torch.float32) -> Any:
    """The model as ComfyUI has one before it is loaded: its weights in main memory, meant for `device`."""
    from comfy.model_patcher import ModelPatcher

    model = build(entry, kind, dtype).model
    model.device = torch.device("cpu")
    return ModelPatcher(model, load_device=device, offload_device=torch.device("cpu"))


def numbers(module: nn.Module) -> dict[str, str]:
    """The bits of every weight, wherever it lies."""
    found = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        stored = getattr(tensor, "_qdata", tensor).detach().cpu().contiguous().as_subclass(torch.Tensor)
        found[name] = hashlib.sha256(stored.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
    return found


def trainer_of(pack: Any, patcher: Any, entry: Tiny, pairs: int = 2, **choices: Any) -> tuple[Any, Any]:
    """(trainer, backend) of a slider at its beginning, on images of noise."""
    core = pack.core
    backend = core("comfy_host").ComfyBackend(patcher, None, None)
    targets, spec = core("targets").select(backend.module), core("config").AdapterSpec(rank=2, alpha=2.0)
    adapter = core("adapter").Adapter.create(backend.module, targets, spec, device=backend.device)
    generator = torch.Generator().manual_seed(1)
    prompt = core("backend").Conditioning("", conditioning(entry, 0))
    sample = core("cache").Sample
    samples = [
        sample(torch.randn(entry.latent, generator=generator), prompt, sign, pair)
        for sign in (1.0, -1.0)
        for pair in range(pairs)
    ]
    chosen = core("config").TrainSpec(**{"steps": 100, "batch": 2, "lr": 1e-2, "warmup": 0} | choices)
    return core("trainer").Trainer(adapter, samples, chosen), backend


class Trial:
    """One loss of both signs in a batch; its gradient, and its slope."""

    def __init__(self, pack: Any, patcher: Any, entry: Tiny) -> None:
        self.core, self.backend = pack.core, pack.core("comfy_host").ComfyBackend(patcher, None, None)
        device = self.backend.device
        targets = pack.core("targets").select(self.backend.module)
        self.adapter = shaken(pack.core, self.backend.module, targets, torch.float32)
        self.adapter.to(device)
        self.cond = [pack.core("backend").Conditioning(str(i), conditioning(entry, i)) for i in range(2)]
        generator = torch.Generator().manual_seed(4)
        self.x, self.weight = (torch.randn(2, *entry.latent, generator=generator).to(device) for _ in range(2))
        self.sigma = self.backend.sigmas(torch.tensor([0.3, 0.7]))

    def loss(self) -> torch.Tensor:
        with self.adapter.at(self.backend.module, [1.0, -1.0]):
            out = self.backend.predict(self.x, self.sigma, self.cond)
        return (out * self.weight).double().sum() + out.double().square().mean()

    def gradient(self, checkpointing: bool = False) -> list[torch.Tensor]:
        """Of each factor; to be called on a borrowed model."""
        gradients = self.core("gradients")
        twice = gradients.checkpointed(self.backend.module, self.adapter) if checkpointing else nullcontext()
        with twice, gradients.forgiving(True):
            found = torch.autograd.grad(self.loss(), self.adapter.parameters(), allow_unused=True)
        return [torch.zeros_like(p) if g is None else g for p, g in zip(self.adapter.parameters(), found, strict=True)]

    def borrowed_gradient(self, checkpointing: bool = False) -> list[torch.Tensor]:
        with self.backend.borrowed(), torch.enable_grad():
            return [g.cpu() for g in self.gradient(checkpointing)]

    @torch.no_grad()
    def slope(self, direction: Sequence[torch.Tensor], h: float) -> float:
        """Five-point finite differences along `direction`."""
        value = {}
        for step in (1, -1, 2, -2):
            before = [p.clone() for p in self.adapter.parameters()]
            for p, d in zip(self.adapter.parameters(), direction, strict=True):
                p.add_(d, alpha=step * h)
            value[step] = float(self.loss())
            for p, old in zip(self.adapter.parameters(), before, strict=True):
                p.copy_(old)
        return (8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * h)

    def worst_slope(self, directions: int = 3) -> float:
        """The largest error of the gradient against finite differences, relative to the gradient's length."""
        with self.backend.borrowed(), torch.enable_grad():
            found, errors = self.gradient(), []
            generator = torch.Generator().manual_seed(5)
            for _ in range(directions):
                direction = [torch.randn(g.shape, generator=generator).to(g.device) for g in found]
                size = norm(direction)
                direction = [d / size for d in direction]
                expected = float(sum((g * d).sum() for g, d in zip(found, direction, strict=True)))
                errors.append(min(abs(self.slope(direction, h) - expected) for h in STEPS) / (abs(expected) + 0.01 * norm(found)))
        return max(errors)


def relative(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    a, b = (torch.cat([t.flatten().double().cpu() for t in some]) for some in (found, wanted))
    return float((a - b).norm() / b.norm())
