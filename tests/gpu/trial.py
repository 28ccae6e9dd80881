"""A tiny model on the device of the ring, an adapter on it, and what is asked of both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from zoo import measure
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
    backend = core("with_comfy.model_backend").ComfyBackend(patcher, None, None)
    targets, spec = core("layers.select").select(backend.module), core("config.lora").AdapterSpec(rank=2, alpha=2.0)
    adapter = core("lora.slider_adapter").Adapter.create(backend.module, targets, spec, device=backend.device)
    generator = torch.Generator().manual_seed(1)
    prompt = core("backend").Conditioning("", conditioning(entry, 0))
    sample = core("encode.encoder").Sample
    samples = [
        sample(torch.randn(entry.latent, generator=generator), prompt, sign, pair)
        for sign in (1.0, -1.0)
        for pair in range(pairs)
    ]
    chosen = core("config.training").TrainSpec(**{"steps": 100, "batch": 2, "lr": 1e-2, "warmup": 0} | choices)
    return core("train.trainer").Trainer(adapter, samples, chosen), backend


class Trial(measure.Trial):
    """The host ring's trial, of a model on the ring's device."""

    def __init__(self, pack: Any, patcher: Any, entry: Tiny) -> None:
        super().__init__(pack.core, entry, patcher=patcher)

    def borrowed_gradient(self, checkpointing: bool = False) -> list[torch.Tensor]:
        with self.backend.borrowed(), torch.enable_grad():
            return [g.cpu() for g in self.gradient(checkpointing)[0]]

    def borrowed_slope(self) -> float:
        with self.backend.borrowed(), torch.enable_grad():
            return self.worst_slope(self.gradient(False)[0], STEPS, 0.01)


def relative(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor]) -> float:
    a, b = (torch.cat([t.flatten().double().cpu() for t in some]) for some in (found, wanted))
    return float((a - b).norm() / b.norm())
