"""DoRA: W' = (W + update) m / |W + update|, row by row, with the update of a LoRA (Liu et al. 2024, eq. 5).

At strength s the weight is W + s (W' - W). A file for ComfyUI has dora_scale in place of the magnitude m, which is read as

    W' = (W + update) dora_scale / |W|,        dora_scale = m / ratio,        ratio = |W + update| / |W|

PEFT and LyCORIS write the magnitude itself. Both depend on the base weight: it must be that of the model as it will be used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ...config.checks import SliderError, need
from ...config.lora import AdapterSpec, Algorithm, Init
from ...layers.layer import Target
from ..algorithm import Kind, Layer, LayerWeight, OutputSlice, Shape, Size, Trainable
from ..algorithm_layer import base_rows, copy_in, serialized_copy, shape_of, versions
from .lora import DOWN, MID, NAME, UP, LoraPart, LoraWeight, peft_layer

SCALE, MAGNITUDE, RATIO = "dora_scale", "magnitude", "ratio"
OUTSIDE = "outside"  # the norms of the whole weight's rows, which stand in for dora_scale where a slice does not reach
EXACT_TENSORS = (SCALE, MAGNITUDE, OUTSIDE, RATIO)  # they multiply the base weight: kept in float32


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
        dims = layer.weight.ndim
        self.magnitude.weight = nn.Parameter(norm.reshape(1, -1, *[1] * (dims - 2)) if dims > 2 else norm)

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), self.magnitude.weight]

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        dtype = self.down.weight.dtype
        bias = layer.bias
        if bias is not None:
            bias = bias[slice(*self.rows or (None,))].to(device=x.device, dtype=dtype)
        base = SimpleNamespace(weight=base_rows(layer, self.rows).to(device=x.device, dtype=dtype), bias=bias)
        return self.magnitude(
            x.to(dtype), lora_A=self.down, lora_B=self.up, scaling=self.scaling, base_layer=base, base_result=out.to(dtype)
        )

    def read_base(self, layer: Layer) -> None:
        if self._read_at == versions(self):
            return
        magnitude = serialized_copy(self.magnitude.weight)
        magnitude = magnitude.transpose(0, 1) if magnitude.ndim > 1 else magnitude.unsqueeze(1)
        self._read = _scale_tensors(magnitude, super().serialized(), layer, self.rows)
        self._read_at = versions(self)

    def serialized(self) -> DoraWeight:
        if self._read_at != versions(self):
            raise RuntimeError("a DoRA was to be serialized before its base weight was read")
        lora = super().serialized()
        return DoraWeight(lora.tensors | self._read, lora.alpha, lora.base)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.magnitude.to(device=device, dtype=torch.float32)


class DoraWeight(LoraWeight):
    """A LoRA with a dora_scale or, out of PEFT's and LyCORIS' files until it meets its model, a magnitude."""

    kind = Kind.DORA
    algorithms = (Algorithm.DORA,)
    optional = (MID, SCALE)
    vectors = (SCALE, MAGNITUDE)
    needs_base = True

    @classmethod
    def recognises(cls, names: set[str]) -> bool:
        return super().recognises(names) and bool(names & {SCALE, MAGNITUDE})

    @classmethod
    def unknown(cls, names: Iterable[str]) -> list[str]:
        return super().unknown(set(names) - {MAGNITUDE})

    def file_tensors(self) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if name not in (OUTSIDE, RATIO)}

    def fit(self, name: str, tensor: torch.Tensor, expected: Shape | None, shape: Shape, where: str) -> torch.Tensor:
        """A scale has one number for each row; or, as the first ones were (and no magnitude is), one for each column."""
        if name not in EXACT_TENSORS:
            return super().fit(name, tensor, expected, shape, where)
        rows = shape[0]
        by_row = name == MAGNITUDE
        if name in (OUTSIDE, RATIO):
            return tensor
        if tensor.numel() == rows and (by_row or tensor.shape[0] == rows):
            return tensor.reshape(rows, *[1] * (len(shape) - 1))
        columns = tensor.ndim == len(shape) and tuple(tensor.shape[:2]) == (1, shape[1]) and tensor.numel() == shape[1]
        if columns and not by_row:
            return tensor
        message = f"{where} has {rows} rows here, and the DoRA of the file scales {tensor.numel()}: another model's."
        raise SliderError(message, "lora.shape")

    def by_row(self) -> torch.Tensor:
        """dora_scale. SliderError when it scales columns."""
        message = "This DoRA scales columns, as the first ones did; load it with ComfyUI's LoRA loader."
        need(self.tensors[SCALE].shape[0] == self.shape()[0], message, "dora.columns")
        return self.tensors[SCALE]

    def delta(self, base: torch.Tensor | None = None) -> torch.Tensor:
        if base is None or SCALE not in self.tensors:
            raise SliderError("A DoRA scales the weight it is laid on: its base model is needed here.", "lora.needs_base")
        update = self.update()
        scale = self.by_row().float().reshape(-1, 1)
        rows = base.detach().float().flatten(1).to(update.device)
        norm = rows.norm(dim=1, keepdim=True) + torch.finfo(torch.float32).eps
        return (rows + update) * (scale / norm) - rows

    def scaled(self, factor: float) -> DoraWeight:  # noqa: ARG002
        message = "A DoRA multiplies the base weight: its strength cannot be written into it."
        raise SliderError(message, "dora.strength")

    def whole(self, rows: OutputSlice | None) -> LayerWeight:
        weight = super().whole(rows)
        if rows is None or SCALE not in self.tensors:
            return weight
        tensors = dict(weight.tensors)
        outside = self.tensors[OUTSIDE]
        for name, rest in ((SCALE, outside), (RATIO, torch.ones_like(outside))):
            if name in tensors:
                tensors[name] = torch.cat([rest[: rows[0]], tensors[name], rest[rows[1] :]])
        return dataclasses.replace(weight, tensors=tensors)

    def sliced(self, rows: OutputSlice, slices: Sequence[OutputSlice] = (), path: str = "layer") -> LayerWeight:
        part = super().sliced(rows, slices, path)
        if SCALE not in self.tensors:
            return part
        tensors = part.tensors | {OUTSIDE: self.tensors[SCALE]}
        for name in (SCALE, RATIO):
            if name in tensors:
                tensors[name] = tensors[name][rows[0] : rows[1]]
        return dataclasses.replace(part, tensors=tensors)

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

    # --- the magnitude

    def with_scale(self, layer: Layer, rows: OutputSlice | None) -> DoraWeight:
        """With the dora_scale that ComfyUI's loader wants in place of a magnitude."""
        if MAGNITUDE not in self.tensors:
            return self
        tensors = dict(self.tensors)
        magnitude = tensors.pop(MAGNITUDE).float()
        return dataclasses.replace(self, tensors=tensors | _scale_tensors(magnitude, self, layer, rows))

    def with_ratio(self, layer: Layer, rows: OutputSlice | None) -> DoraWeight:
        """With what a magnitude is worked out from."""
        scale = self.tensors.get(SCALE)
        if scale is None or RATIO in self.tensors or scale.shape[0] != self.shape()[0]:
            return self
        ratio = _norm_ratio(self, layer, rows).reshape(scale.shape)
        return dataclasses.replace(self, tensors=self.tensors | {RATIO: ratio})

    def magnitude(self, path: str) -> torch.Tensor:
        """The norm of each row of the changed weight, as PEFT and LyCORIS write it."""
        message = f'The DoRA of "{path}" needs its base model to be written this way: connect the model.'
        need(RATIO in self.tensors, message, "lora.needs_base")
        return self.tensors[SCALE] * self.tensors[RATIO]

    def for_lycoris(self, path: str) -> DoraWeight:
        return dataclasses.replace(self, tensors=self.tensors | {SCALE: self.magnitude(path)})

    def from_lycoris(self) -> DoraWeight:
        """What LyCORIS wrote as dora_scale is the magnitude itself."""
        tensors = dict(self.tensors)
        if SCALE in tensors:
            tensors[MAGNITUDE] = tensors.pop(SCALE)
        return dataclasses.replace(self, tensors=tensors)

    # --- trained

    @classmethod
    def fresh(cls, layer: Layer, target: Target, size: Size, spec: AdapterSpec) -> Trainable:
        tuned = peft_layer(layer, shape_of(layer, target), size, spec.init, use_dora=True)
        part = DoraPart(tuned, tuple(layer.weight.shape), target.rows)
        part.start(layer, target)
        return part

    def revived(self, layer: Layer, target: Target) -> Trainable:
        message = f'"{target}": a DoRA with a core tensor cannot be trained or run live; load it with ComfyUI\'s LoRA loader.'
        need(not self.has_core, message, "dora.core")
        part = DoraWeight.fresh(layer, target, self.size, AdapterSpec(algorithm=Algorithm.DORA, init=Init.KAIMING))
        magnitude = self.by_row().flatten() * _norm_ratio(self, layer, target.rows)
        copy_in(part, [self.tensors[DOWN], self.tensors[UP], magnitude])
        return part


def _norm_ratio(weight: LoraWeight, layer: Layer, rows: OutputSlice | None) -> torch.Tensor:
    """(rows,) |W + update| / |W| for each row of the weight W that a change covers."""
    base = base_rows(layer, rows).float().flatten(1)
    changed = base + weight.update().to(base.device)
    return (changed.norm(dim=1) / base.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)).cpu()


def _scale_tensors(
    magnitude: torch.Tensor, weight: LoraWeight, layer: Layer, rows: OutputSlice | None
) -> dict[str, torch.Tensor]:
    """What a DoRA of this magnitude keeps beside its LoRA for a file."""
    ratio = _norm_ratio(weight, layer, rows).reshape(magnitude.shape)
    tensors = {SCALE: magnitude.cpu() / ratio, RATIO: ratio}
    if rows:
        norms = base_rows(layer, None).float().flatten(1).norm(dim=1).cpu()
        tensors[OUTSIDE] = norms.reshape(-1, *magnitude.shape[1:])
    return tensors
