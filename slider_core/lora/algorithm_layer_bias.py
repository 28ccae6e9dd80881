"""A change of a layer's bias beside a change of its weight of any kind: both at the same strength."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from ..layers.layer import weight_shape
from .algorithm import BIAS, Layer, LayerWeight, Trainable
from .algorithm_layer import serialized_copy


class WithBias(Trainable):
    """Another trainable part, and what is added to the layer's bias at strength 1."""

    def __init__(self, part: Trainable, bias: torch.Tensor) -> None:
        self.part = part
        self.bias = nn.Parameter(bias.detach().float().clone())
        self.reads_output = part.reads_output

    def parameters(self) -> list[nn.Parameter]:
        return [*self.part.parameters(), self.bias]

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        change = self.part.change(layer, x, out)
        return change + self.bias.reshape(-1, *[1] * (len(weight_shape(layer)) - 2))

    def input_format(self, given: torch.dtype) -> torch.dtype:
        return self.part.input_format(given)

    def read_base(self, layer: Layer) -> None:
        self.part.read_base(layer)

    def serialized(self) -> LayerWeight:
        weight = self.part.serialized()
        return dataclasses.replace(weight, tensors=weight.tensors | {BIAS: serialized_copy(self.bias)})

    def to(self, device: torch.device) -> None:
        self.part.to(device)
        with torch.no_grad():
            self.bias.data = self.bias.data.to(device=device, dtype=torch.float32)
