"""What the trainable part of one target is, whoever makes it (peft_parts.py, lycoris_parts.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from .config import SliderError
from .targets import Target, find_layer, is_linear
from .weights import LayerWeight


class Trainable(Protocol):
    """One target's part of an adapter."""

    reads_output: bool  # whether `change` needs `out`, as it is without any slider

    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains, always in the same order."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What the target's rows of `out` = layer(x) change by at strength 1."""

    def look(self, layer: nn.Module) -> None:
        """Take from the base weight what `at_rest` needs of it; to be done after every change of the parameters."""

    def at_rest(self) -> LayerWeight:
        """A detached float32 copy on the CPU."""

    def to(self, device: torch.device) -> None: ...


@dataclass(frozen=True)
class Size:
    """Of one layer's LoRA-like update."""

    rank: int
    alpha: float


def at_rest_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A detached float32 copy on the CPU."""
    return tensor.detach().float().cpu().clone()


def versions(part: Trainable) -> tuple[int, ...]:
    """torch's count of changes of each parameter: the same numbers, the same values."""
    return tuple(p._version for p in part.parameters())


def shape_of(module: nn.Module, target: Target) -> tuple[int, ...]:
    """The shape of the rows of the weight that a target covers. SliderError when it has no such rows."""
    layer, rows = find_layer(module, target), target.rows
    shape = tuple(layer.weight.shape)
    if not rows:
        return shape
    if not is_linear(layer):
        raise SliderError(f'"{target.path}" is a convolution; rows are for fused Linear layers.')
    if not 0 <= rows[0] < rows[1] <= shape[0]:
        raise SliderError(f"Rows {rows} of {target.path} lie outside its {shape[0]} outputs.")
    return rows[1] - rows[0], *shape[1:]


def fill(part: Trainable, values: Sequence[torch.Tensor]) -> None:
    """Copy `values` into the parameters, in their order."""
    with torch.no_grad():
        for p, value in zip(part.parameters(), values, strict=True):
            p.copy_(value.reshape(p.shape))
