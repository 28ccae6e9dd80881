"""A tiny model as ComfyUI keeps one on the device: plainly loaded, a tenth of it, or under dynamic VRAM; and trainings on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from device.accelerator import EVICT, KEEP, NONE, Pages
from gpu.test_memory import kept_within
from gpu.trial import Trial, on_device, trainer_of
from zoo.animals import tiny
from zoo.model import conditioning

CPU = torch.device("cpu")
MODEL = "ZImage"
STEPS = 4
PLAIN, TENTH = "plain", "tenth"
WAYS = [EVICT, NONE, PLAIN, TENTH]


def patcher_of(name: str, where: torch.device, way: str, kind: str = "plain", dtype: torch.dtype = torch.float32) -> Any:
    import comfy.memory_management
    from comfy.model_patcher import ModelPatcherDynamic

    comfy.memory_management.aimdo_enabled = False
    patcher = on_device(tiny(name), where, kind, dtype)
    if way in (EVICT, KEEP, NONE):
        Pages.policy = way
        comfy.memory_management.aimdo_enabled = True
        patcher.model.diffusion_model.to(CPU)
        patcher = ModelPatcherDynamic(patcher.model, load_device=where, offload_device=CPU)
    elif way == TENTH:
        kept_within(patcher, 0.1, pytest.MonkeyPatch())
    return patcher


class Ways:
    """What is asked of the pack on a device; the answers of the CPU are computed once."""

    def __init__(self, pack: Any) -> None:
        self.pack = pack
        self._of_cpu: dict[Any, Any] = {}

    def of_cpu(self, ask: Callable[..., Any], *args: Any, **more: Any) -> Any:
        key = ask.__name__, args, tuple(more.items())
        if key not in self._of_cpu:
            self._of_cpu[key] = ask(*args, where=CPU, way=PLAIN, **more)
        return self._of_cpu[key]

    def gradient(self, name: str, checkpointing: bool, where: torch.device, way: str) -> list[torch.Tensor]:
        with torch.inference_mode():
            patcher = patcher_of(name, where, way)
        trial = Trial(self.pack, patcher, tiny(name))
        with torch.inference_mode():
            return trial.borrowed_gradient(checkpointing)

    def trainer(self, name: str, where: torch.device, way: str, patches: str = "", **more: Any) -> tuple[Any, Any]:
        """(trainer, backend) at the beginning; `patches`: a LoRA on the MODEL, on the weights whose names end so."""
        choices = {key: more.pop(key) for key in ("checkpointing",) if key in more}
        with torch.inference_mode():
            patcher = patcher_of(name, where, way, **more)
            if patches:
                put_lora(patcher, patches)
            return trainer_of(self.pack, patcher, tiny(name), **choices)

    def losses(self, patches: str = "", name: str = MODEL, *, where: torch.device, way: str, **more: Any) -> list[float]:
        trainer, backend = self.trainer(name, where, way, patches, **more)
        with torch.inference_mode():
            trainer.run(backend, STEPS, read_every=STEPS)
        return trainer.losses

    def strip(self, backend: Any, trainer: Any) -> torch.Tensor:
        entry = tiny(MODEL)
        prompts = conditioning(entry, 0), conditioning(entry, 1)
        latent = {"samples": torch.zeros(1, *entry.latent)}
        sampling = self.pack.core("use.sampling").Sampling(*prompts, latent, seed=7, steps=2, cfg=2.0)
        return self.pack.core("with_comfy.sampling").sample_latents(backend, trainer.adapter, sampling, [-1.0, 1.0]).latents


def put_lora(patcher: Any, end: str) -> None:
    """A change of the weights whose names end so, as a LoRA brings it."""
    generator = torch.Generator().manual_seed(2)
    patches = {}
    for name, weight in patcher.model.diffusion_model.named_parameters():
        if name.endswith(end):
            patches[f"diffusion_model.{name}"] = ("diff", (0.3 * torch.randn(weight.shape, generator=generator),))
    assert patches
    patcher.add_patches(patches, 1.0)


@contextmanager
def short_of_memory(backend: Any, layer: Any, extension: Any, moment: str) -> Iterator[list[str]]:
    """The device is full, once, in a forward with a graph or in its backward, until memory is tidied."""
    struck: list[str] = []

    def strike(*_args: Any) -> None:
        if not struck:
            struck.append(moment)
            extension.set_limit(extension.used() + 1)

    def hook(_layer: Any, _args: Any, out: torch.Tensor) -> None:
        if out.requires_grad:
            out.register_hook(strike) if moment == "backward" else strike()

    tidy = backend.memory.tidy

    def tidied() -> None:
        extension.set_limit(0)
        tidy()

    backend.memory.tidy = tidied
    handle = layer.register_forward_hook(hook)
    yield struck
    handle.remove()
