"""The memory of a model's device, as ComfyUI counts it."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch

from ..backend import Memory
from .assumptions import piece

GRADIENT = 5  # times a sampler's memory: a checkpointed step takes 2 to 5 times that (docs/memory.md)


def release_prefetched() -> None:
    """Weights that were fetched ahead for a call that has ended are no longer held on the device."""
    piece("comfy.model_prefetch:cleanup_prefetch_queues")()


class HostMemory(Memory):
    """The memory of a model's device, as ComfyUI counts it: pages of weights that dynamic VRAM gives back at once are free."""

    def __init__(self, patcher: Any) -> None:
        super().__init__(torch.device(patcher.load_device))
        self.patcher = patcher

    def free(self) -> int | None:
        return int(self.patcher.get_free_memory(self.device))

    def room(self) -> int:
        """What the host is asked to keep free beside the weights: what a step needs on the highest level with which all weights
        stay on the device; where they do not, on the highest that takes half of it at most."""
        if not self.needs:
            return self._first_room()
        total = int(comfy.model_management.get_total_memory(self.device))
        weights = int(self.patcher.model_size())
        for most in (total - weights, total // 2):
            for need in self.needs:
                if need <= most:
                    return need
        return self.needs[-1]

    def _first_room(self) -> int:
        """A guess before anything was run: by the host's formula for a sampler, one sample forwards and backwards; six samples
        at 1024 pixels where nothing is known."""
        model = self.patcher.model
        if self.latent is not None:
            return GRADIENT * int(model.memory_required([1, *self.latent]))
        side = 1024 // max(1, getattr(model.latent_format, "spacial_downscale_ratio", 8))
        return int(model.memory_required([6, model.latent_format.latent_channels, side, side]))

    def is_short(self, fault: BaseException) -> bool:
        return super().is_short(fault) or comfy.model_management.is_oom(fault)

    def peak(self) -> int | None:
        """With the pages of weights that dynamic VRAM holds: torch knows nothing of them."""
        peak = super().peak()
        if peak is None or not self.gpu or not self.patcher.is_dynamic():
            return peak
        return peak + max(0, self.patcher.loaded_size() - self.patcher.model.model_loaded_weight_memory)

    def tidy(self) -> None:
        release_prefetched()
        super().tidy()
        comfy.model_management.soft_empty_cache()
