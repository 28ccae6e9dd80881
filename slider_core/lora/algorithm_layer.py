"""The live layer that an algorithm works on: its shape, its weight where that can be read, a twin of it without memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..config.checks import SliderError, need
from ..layers.layer import Target, is_linear, weight_shape
from .algorithm import Layer, OutputSlice, Shape, Trainable

# ComfyUI's marks of a layer whose LoRAs are laid on when it runs, because it lies outside the GPU
UNREADABLE = "layer.weight_unreadable"
ON_THE_FLY = ("weight_function", "weight_lowvram_function")


def shape_of(layer: Layer, target: Target) -> Shape:
    """The shape of the rows of the weight that a target covers. SliderError when it has no such rows."""
    shape = weight_shape(layer)
    rows = target.rows
    if not rows:
        return shape
    need(is_linear(layer), f'"{target.path}" is a convolution; rows are for fused Linear layers.', "target.convolution")
    inside = 0 <= rows[0] < rows[1] <= shape[0]
    need(inside, f"Rows {rows} of {target.path} lie outside its {shape[0]} outputs.", "target.rows")
    return rows[1] - rows[0], *shape[1:]


def shape_only(shape: Sequence[int], like: Layer = None) -> nn.Module:
    """A Linear or convolution with a weight of that shape, on the meta device (no memory); stride and so on of `like`."""
    biased = getattr(like, "bias", None) is not None
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], bias=biased, device="meta")
    convolution: Any = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)]
    window = (1, 0, 1) if like is None else (like.stride, like.padding, like.dilation)
    return convolution(shape[1], shape[0], tuple(shape[2:]), *window, bias=biased, device="meta")


def base_rows(layer: Layer, rows: OutputSlice | None) -> torch.Tensor:
    """The rows of a layer's weight that a target covers. SliderError where its numbers cannot be read off it."""
    need(layer.weight is not None, "A DoRA or GLoRA needs the weight of a layer, and here it is not loaded.", UNREADABLE)
    weight = layer.weight.detach()
    patched = any(getattr(layer, name, None) for name in ON_THE_FLY)
    wrapped = is_traceable_wrapper_subclass(weight)
    if wrapped and not patched:
        weight = weight.dequantize()
    elif patched or not weight.is_floating_point():
        how = "a LoRA is laid on it only while it runs" if patched else "it is packed by its loader"
        message = f"A DoRA or GLoRA needs the weight of a layer, and here {how}. Choose another algorithm, such as lora."
        raise SliderError(message, UNREADABLE)
    return weight_rows(weight, rows)


def weight_rows(tensor: torch.Tensor, rows: OutputSlice | None) -> torch.Tensor:
    """Its rows from the first to before the last; None: all."""
    return tensor[rows[0] : rows[1]] if rows else tensor


def serialized_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A detached float32 copy on the CPU."""
    return tensor.detach().float().cpu().clone()


def versions(part: Trainable) -> tuple[int, ...]:
    """torch's count of changes of each parameter: the same numbers, the same values."""
    return tuple(p._version for p in part.parameters())


def copy_in(part: Trainable, values: Sequence[torch.Tensor]) -> None:
    """Copy `values` into the parameters, in their order."""
    with torch.no_grad():
        for parameter, value in zip(part.parameters(), values, strict=True):
            parameter.copy_(value.reshape(parameter.shape))
