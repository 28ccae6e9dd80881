"""Changes of several output slices of a layer as one change of the whole layer, which is what files hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from ..layers.layer import Target
from .algorithm import LayerWeight, OutputSlice
from .algorithms.full import FullWeight, as_full
from .algorithms.lora import LoraWeight


def joined(parts: Sequence[tuple[OutputSlice | None, LayerWeight]]) -> LayerWeight:
    """LoRAs side by side, DoRAs too; others as a plain difference."""
    weights = [(rows, weight.whole(rows)) for rows, weight in parts]
    first = weights[0][1]
    if len(weights) == 1:
        return first
    loras = []
    for rows, weight in weights:
        if isinstance(weight, LoraWeight) and type(weight) is type(first) and not weight.has_core:
            loras.append((rows, weight))
    if len(loras) == len(weights):
        return loras[0][1].side_by_side(loras)
    tensors: dict[str, list[torch.Tensor]] = {}
    for _, weight in weights:
        for name, tensor in as_full(weight).tensors.items():
            tensors.setdefault(name, []).append(tensor)
    return FullWeight({name: torch.stack(some).sum(0) for name, some in sorted(tensors.items())}, None, first.base)


def by_layer(weights: Mapping[Target, LayerWeight]) -> dict[str, LayerWeight]:
    """Module path -> the whole change of that layer."""
    parts: dict[str, list[tuple[OutputSlice | None, LayerWeight]]] = {}
    for target, weight in weights.items():
        parts.setdefault(target.path, []).append((target.rows, weight))
    return {path: joined(slices) for path, slices in parts.items()}


def cut(weights: Mapping[Target, LayerWeight], slices: Mapping[str, Sequence[OutputSlice]]) -> dict[Target, LayerWeight]:
    """The inverse of `by_layer`: whole layers narrowed to output slices, by path. SliderError when one changes other rows too."""
    parts: dict[Target, LayerWeight] = {}
    for target, weight in weights.items():
        of_layer = slices.get(target.path, ())
        if target.rows is not None or not of_layer:
            parts[target] = weight
            continue
        for rows in of_layer:
            parts[Target(target.path, rows)] = weight.sliced(rows, of_layer, target.path)
    return parts


def rounding_error(weights: Mapping[Target, LayerWeight], dtype: torch.dtype) -> float:
    """How much a number format changes a slider: |rounded update - update| / |update| over all layers."""
    lost = 0.0
    total = 0.0
    for weight in weights.values():
        of_layer = weight.rounding(dtype)
        lost += of_layer[0]
        total += of_layer[1]
    return math.sqrt(lost / total) if total else 0.0
