"""Where the inputs of a block that is computed twice wait for the backward: on the device, or in the host's memory.

In the host's memory a large model keeps next to nothing of a forward on the device. The copies are exact, so the gradients are
the same bit for bit; each input goes over the bus twice.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import torch

HERE = ("cpu", "mps")  # devices whose memory is the host's own


def in_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in the host's memory, pinned for a GPU where that can be had: the GPU goes on while it is filled."""
    tensor = tensor.detach()
    if tensor.is_cuda:
        with suppress(RuntimeError):  # no more memory can be pinned
            return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
    return tensor.to("cpu", copy=True)


@dataclass
class BlockInputs:
    """The inputs that a gradient flows to; what else a block is given is there anyway. `bytes`: of those that wait now."""

    host: bool = False
    bytes: int = 0

    def put(self, tensor: torch.Tensor) -> torch.Tensor:
        """What is kept of it."""
        self.bytes += tensor.nbytes
        return in_host(tensor) if self.host else tensor

    def get(self, kept: torch.Tensor, device: torch.device) -> torch.Tensor:
        """It again, on the device."""
        self.bytes -= kept.nbytes
        return kept.to(device, non_blocking=True)
