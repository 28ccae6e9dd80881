"""DoRA: a LoRA whose changed rows have a norm of their own (Liu et al. 2024). The formula: dora.py; trained by PEFT's layer."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ...config.checks import need
from ...config.lora import AdapterSpec, Algorithm, Init
from ...layers.layer import Target, weight_shape
from ..algorithm import Kind, Layer, OutputSlice, Shape, Size, Trainable
from ..algorithm_layer import base_rows, copy_in, serialized_copy, versions, weight_rows
from .dora import RATIO, SCALE, ScaledRows, norm_ratio, scale_tensors
from .lora import DOWN, MID, NAME, UP, LoraPart, LoraWeight, peft_layer


class DoraPart(LoraPart):
    """PEFT's DoRA: a LoRA and the norm of each row of the changed weight. Cost: that norm in every forward."""

    reads_output = True

    def __init__(self, tuned: Any, base: Shape, rows: OutputSlice | None) -> None:
        super().__init__(tuned, base)
        self.magnitude = tuned.lora_magnitude_vector[NAME]
        self.rows = rows
        self._read: dict[str, torch.Tensor] = {}
        self._read_at: tuple[int, ...] = ()

    def start(self, layer: Layer, target: Target) -> None:
        """The magnitude of the base weight: no change."""
        norm = base_rows(layer, self.rows).float().flatten(1).norm(dim=1)
        message = f'"{target}": some rows of the weight are zero, which a DoRA cannot scale: exclude the layer, or choose lora.'
        need(bool(norm.all()), message, "dora.zero_rows")
        dims = len(weight_shape(layer))
        if dims > 2:
            norm = norm.reshape(1, -1, *[1] * (dims - 2))
        self.magnitude.weight = nn.Parameter(norm)

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), self.magnitude.weight]

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        dtype = self.down.weight.dtype
        bias = layer.bias
        if bias is not None:
            bias = weight_rows(bias, self.rows).to(device=x.device, dtype=dtype)
        base = SimpleNamespace(weight=base_rows(layer, self.rows).to(device=x.device, dtype=dtype), bias=bias)
        return self.magnitude(
            x.to(dtype), lora_A=self.down, lora_B=self.up, scaling=self.scaling, base_layer=base, base_result=out.to(dtype)
        )

    def scaled_change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
        return Trainable.scaled_change(self, layer, x, out, strength_B)

    def input_format(self, given: torch.dtype) -> torch.dtype:  # noqa: ARG002
        return self.down.weight.dtype

    def read_base(self, layer: Layer) -> None:
        if self._read_at == versions(self):
            return
        magnitude = serialized_copy(self.magnitude.weight)
        magnitude = magnitude.transpose(0, 1) if magnitude.ndim > 1 else magnitude.unsqueeze(1)
        self._read = scale_tensors(magnitude, super().serialized(), layer, self.rows)
        self._read_at = versions(self)

    def serialized(self) -> DoraWeight:
        if self._read_at != versions(self):
            raise RuntimeError("a DoRA was to be serialized before its base weight was read")
        lora = super().serialized()
        return DoraWeight(lora.tensors | self._read, lora.alpha, lora.base)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.magnitude.to(device=device, dtype=torch.float32)


class DoraWeight(ScaledRows, LoraWeight):
    """A LoRA with a dora_scale or, out of PEFT's and LyCORIS' files until it meets its model, a magnitude."""

    kind = Kind.DORA
    algorithms = (Algorithm.DORA,)
    optional = (MID, SCALE)

    @classmethod
    def side_by_side(cls, parts: Sequence[tuple[OutputSlice | None, DoraWeight]]) -> DoraWeight:
        """Each slice has its own rows of the scale; the others are alike."""
        joined = super().side_by_side(parts)
        for name in (SCALE, RATIO):
            if all(name in weight.tensors for _, weight in parts):
                joined.tensors[name] = parts[0][1].tensors[name].clone()
                for rows, weight in parts:
                    place = slice(*rows or (None,))
                    joined.tensors[name][place] = weight.tensors[name][place]
        return joined

    # --- trained

    @classmethod
    def fresh(cls, layer: Layer, target: Target, size: Size, spec: AdapterSpec) -> Trainable:
        tuned = peft_layer(layer, target, size, spec.init, use_dora=True)
        part = DoraPart(tuned, weight_shape(layer), target.rows)
        part.start(layer, target)
        return part

    def revived(self, layer: Layer, target: Target) -> Trainable:
        message = f'"{target}": a DoRA with a core tensor cannot be trained or run live: set mode to merge.'
        need(not self.has_core, message, "dora.core")
        part = DoraWeight.fresh(layer, target, self.size, AdapterSpec(algorithm=Algorithm.DORA, init=Init.KAIMING))
        magnitude = self.by_row().flatten() * norm_ratio(self, layer, target.rows)
        copy_in(part, [self.tensors[DOWN], self.tensors[UP], magnitude])
        return part
