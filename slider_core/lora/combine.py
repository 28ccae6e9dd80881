"""Changes of several output slices of a layer as one change of the whole layer, which is what files hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from ..layers.layer import Target
from .algorithm import BIAS, LayerWeight, OutputSlice
from .algorithms.dora import OUTSIDE, SCALE
from .algorithms.full import FullWeight, as_full
from .algorithms.lora import LoraWeight
from .algorithms.lora_dora import DoraWeight


def joined(parts: Sequence[tuple[OutputSlice | None, LayerWeight]]) -> LayerWeight:
    """LoRAs side by side, DoRAs too; others as a plain difference."""
    weights = [(rows, weight.whole(rows)) for rows, weight in _alike(parts)]
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


def _alike(parts: Sequence[tuple[OutputSlice | None, LayerWeight]]) -> Sequence[tuple[OutputSlice | None, LayerWeight]]:
    """Slices of a layer with its LoRAs as DoRAs that keep the norms of its rows, where others of it are DoRAs."""
    norms = [weight.tensors[OUTSIDE] for _, weight in parts if isinstance(weight, DoraWeight) and OUTSIDE in weight.tensors]
    if not norms:
        return parts
    alike: list[tuple[OutputSlice | None, LayerWeight]] = []
    for rows, weight in parts:
        if rows and type(weight) is LoraWeight and not weight.has_core:
            tensors = weight.tensors | {SCALE: norms[0][rows[0] : rows[1]], OUTSIDE: norms[0]}
            alike.append((rows, DoraWeight(tensors, weight.alpha, weight.base)))
        else:
            alike.append((rows, weight))
    return alike


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


def norm(weight: LayerWeight) -> float:
    """The norm of the change at strength 1, that of the bias with it; what it owes to the base weight is left out."""
    return math.sqrt(_squares(weight, None)[1])


def rounding_error(weights: Mapping[Target, LayerWeight], dtype: torch.dtype) -> float:
    """How much a number format changes a slider: |rounded update - update| / |update| over all layers."""
    lost = 0.0
    total = 0.0
    for weight in weights.values():
        of_layer = _squares(weight, dtype)
        lost += of_layer[0]
        total += of_layer[1]
    return math.sqrt(lost / total) if total else 0.0


def _squares(weight: LayerWeight, dtype: torch.dtype | None) -> tuple[float, float]:
    """Squared norms of what a number format changes in a change, and of the change."""
    lost, total = _squares_of_products(weight, dtype) if weight.products() else _squares_of_update(weight, dtype)
    if BIAS in weight.tensors:
        bias = weight.tensors[BIAS].double()
        total += float(bias.square().sum())
        if dtype is not None:
            lost += float((bias.to(dtype).double() - bias).square().sum())
    return lost, total


def _squares_of_update(weight: LayerWeight, dtype: torch.dtype | None) -> tuple[float, float]:
    update = weight.update().double()
    total = float(update.square().sum())
    if dtype is None:
        return 0.0, total
    return float((weight.to(dtype).update().double() - update).square().sum()), total


def _squares_of_products(weight: LayerWeight, dtype: torch.dtype | None) -> tuple[float, float]:
    lost = 0.0
    total = 0.0
    for up, down in weight.products():
        b = weight.tensors[up].flatten(1).double()
        a = weight.tensors[down].flatten(1).double()
        total += _product_square(b, a)
        if dtype is not None:
            b_file = weight.tensors[up].to(dtype).flatten(1).double()
            a_file = weight.tensors[down].to(dtype).flatten(1).double()
            lost += _product_square(torch.cat([b_file - b, b_file], dim=1), torch.cat([a, a_file - a]))
    return weight.scale**2 * lost, weight.scale**2 * total


def _product_square(b: torch.Tensor, a: torch.Tensor) -> float:
    """The squared norm of b (out, rank) times a (rank, in), from the factors: the product itself may be a hundred megabytes."""
    return max(0.0, float((b.T @ b * (a @ a.T)).sum()))
