"""Full: the whole difference of a weight, D = diff, and diff_b of the bias where the layer has one."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...config.checks import SliderError
from ...config.lora import Algorithm
from ...layers.layer import Target
from ..algorithm import BIAS, Kind, Layer, LayerWeight, Shape
from ..algorithm_layer import serialized_copy
from ..algorithm_lycoris import LycorisPart, LycorisWeight


class FullPart(LycorisPart):
    """LyCORIS' full module. Cost: a matrix as large as the weight."""

    def __init__(self, module: Any, weight: type[LayerWeight], target: Target, base: Shape) -> None:
        super().__init__(module, weight, target, base)
        module._org_weight = []  # LyCORIS keeps a copy of the weight it was made on
        module.org_bias = None

    def input_format(self, given: torch.dtype) -> torch.dtype:
        return given

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        bias = self.module.bias
        if bias is not None:
            bias = bias.to(x)
        return self.module.op(x, self.module.weight.to(x), bias, **self.module.kw_dict)

    def serialized(self) -> LayerWeight:
        tensors = {"diff": serialized_copy(self.module.weight)}
        if self.module.bias is not None:
            tensors[BIAS] = serialized_copy(self.module.bias)
        return FullWeight(tensors, None, self.base)


class FullWeight(LycorisWeight):
    kind = Kind.FULL
    algorithms = (Algorithm.FULL,)
    needed = ("diff",)
    row_tensors = linear = ("diff",)
    module_class = "FullModule"
    part_class = FullPart

    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
        return {"diff": (rows, inner, *kernel)}

    def layer_shape(self) -> Shape:
        return tuple(self.tensors["diff"].shape)

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        return self.tensors["diff"].float().flatten(1)

    def fill(self, module: Any, shape: Shape) -> None:
        module.weight = nn.Parameter(self.tensors["diff"].reshape(shape).clone())
        module.bias = None  # WithBias adds it


def as_full(weight: LayerWeight) -> FullWeight:
    """The same change as a plain difference. SliderError for what depends on the base weight: DoRA and GLoRA."""
    if weight.needs_base:
        message = "A DoRA or GLoRA cannot be joined with other changes of its layer, or written as a plain difference."
        raise SliderError(message, "lora.needs_base")
    update = weight.update()
    kernel = weight.base[1:] if weight.base else update.shape[1:]
    tensors = {"diff": update.reshape(-1, *kernel)}
    if BIAS in weight.tensors:
        tensors[BIAS] = weight.tensors[BIAS]
    return FullWeight(tensors, None, weight.base)
