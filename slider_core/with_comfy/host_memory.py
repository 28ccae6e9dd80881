"""The memory of a model's device, as ComfyUI counts it."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch

from ..backend import Memory
from .assumptions import piece


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
