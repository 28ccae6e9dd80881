"""Whether a change fits a layer: each of its tensors against the layer's shape, before anything is laid on a model.

ComfyUI's loader only logs what does not fit and goes on without it; here it is an error, and nothing is applied.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import nn

from ..config.checks import SliderError
from ..layers.layer import Target, find_layer
from .algorithm import ASIDE, MAGNITUDE, Kind, LayerWeight

Shape = tuple[int, ...]


def _lora(t: dict[str, torch.Tensor], rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
    ones = (1,) * len(kernel)
    rank = t["lora_down.weight"].shape[0]
    if "lora_mid.weight" not in t:
        return {"lora_up.weight": (rows, rank, *ones), "lora_down.weight": (rank, inner, *kernel)}
    last = t["lora_mid.weight"].shape[0]
    return {
        "lora_up.weight": (rows, last, *ones),
        "lora_mid.weight": (last, rank, *kernel),
        "lora_down.weight": (rank, inner, *ones),
    }


def _loha(t: dict[str, torch.Tensor], rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    for n in (1, 2):
        rank = t[f"hada_w{n}_b"].shape[0]
        if f"hada_t{n}" in t:
            found |= {f"hada_w{n}_a": (rank, rows), f"hada_w{n}_b": (rank, inner), f"hada_t{n}": (rank, rank, *kernel)}
        else:
            found |= {f"hada_w{n}_a": (rows, rank), f"hada_w{n}_b": (rank, inner * math.prod(kernel))}
    return found


def _lokr(t: dict[str, torch.Tensor], rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
    """The first factor says how rows and inputs are divided; the second must have the rest."""
    first = t["lokr_w1"].shape if "lokr_w1" in t else (t["lokr_w1_a"].shape[0], t["lokr_w1_b"].shape[1])
    out_k, in_n = rows // first[0], inner // first[1]
    if len(first) != 2 or out_k * first[0] != rows or in_n * first[1] != inner:
        return {next(iter(t)): (-1,)}  # no shape fits
    found: dict[str, Shape] = {}
    if "lokr_w1" in t:
        found["lokr_w1"] = (first[0], first[1])
    else:
        rank = t["lokr_w1_b"].shape[0]
        found |= {"lokr_w1_a": (first[0], rank), "lokr_w1_b": (rank, first[1])}
    if "lokr_w2" in t:
        return found | {"lokr_w2": (out_k, in_n, *kernel)}
    rank = t["lokr_w2_b"].shape[0]
    if "lokr_t2" in t:
        return found | {"lokr_w2_a": (rank, out_k), "lokr_w2_b": (rank, in_n), "lokr_t2": (rank, rank, *kernel)}
    return found | {"lokr_w2_a": (out_k, rank), "lokr_w2_b": (rank, in_n * math.prod(kernel))}


def _glora(t: dict[str, torch.Tensor], rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
    ones, rank, other = (1,) * len(kernel), t["a2.weight"].shape[0], t["b2.weight"].shape[0]
    return {
        "a1.weight": (inner, rank, *ones),
        "a2.weight": (rank, inner, *ones),
        "b1.weight": (rows, other, *ones),
        "b2.weight": (other, inner, *kernel),
    }


def _full(_t: dict[str, torch.Tensor], rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
    return {"diff": (rows, inner, *kernel), "diff_b": (rows,)}


_WANTED = {Kind.LORA: _lora, Kind.LOHA: _loha, Kind.LOKR: _lokr, Kind.FULL: _full, Kind.GLORA: _glora}


def _reshaped(value: torch.Tensor, wanted: Shape) -> torch.Tensor | None:
    """`value` in that shape when it holds the same numbers in the same order, flattened behind its rows at most."""
    flat = (wanted[0], math.prod(wanted[1:]))
    same = tuple(value.shape) in (wanted, flat) or (value.ndim == 2 and value.shape == wanted[:2])
    return value.reshape(wanted) if same and value.numel() == math.prod(wanted) else None


def fitted(weight: LayerWeight, target: Target, layer: nn.Module, source: str = "The slider") -> LayerWeight:
    """The change with its tensors in the shapes that the layer asks for. SliderError that names a tensor that has another."""
    whole = tuple(layer.weight.shape)
    rows, where = whole[0], f'{source}: layer "{target}"'
    if target.rows:
        if not 0 <= target.rows[0] < target.rows[1] <= whole[0] or len(whole) != 2:
            raise SliderError(f"{where} has no such rows here: it was trained on another model.")
        rows = target.rows[1] - target.rows[0]
    wanted = _WANTED[weight.kind](weight.tensors, rows, whole[1], whole[2:])
    shape, tensors = (rows, *whole[1:]), {}
    for name, value in weight.tensors.items():
        if name in ASIDE:
            tensors[name] = value
        elif name in ("dora_scale", MAGNITUDE):
            tensors[name] = _scale(value, shape, where, by_row=name == MAGNITUDE)
        else:
            found = _reshaped(value, wanted[name]) if name in wanted else None
            if found is None:
                raise SliderError(
                    f"{where} has shape {shape} here, and the {name} of the file, {tuple(value.shape)}, does not fit: "
                    "it was trained on another model, or the file is damaged."
                )
            tensors[name] = found
    if "diff_b" in tensors and layer.bias is None:
        raise SliderError(f"{where} has no bias here, but the file changes one: it was trained on another model.")
    if len(whole) == 2 and any(name in tensors for name in ("lora_mid.weight", "hada_t1", "lokr_t2")):
        raise SliderError(f"{where} is no convolution here, but the file has a kernel for it: it was trained on another model.")
    return dataclasses.replace(weight, tensors=tensors, base=whole)


def _scale(value: torch.Tensor, shape: Shape, where: str, by_row: bool) -> torch.Tensor:
    """A DoRA's scale, one number for each row; or, as the first ones were (and no magnitude is), one for each column."""
    rows, ones = shape[0], (1,) * (len(shape) - 1)
    if value.numel() == rows and (by_row or value.shape[0] == rows):
        return value.reshape(rows, *ones)
    if not by_row and value.ndim == len(shape) and tuple(value.shape[:2]) == (1, shape[1]) and value.numel() == shape[1]:
        return value
    raise SliderError(f"{where} has {rows} rows here, and the DoRA of the file scales {value.numel()}: another model's.")


def check_fits(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> None:
    """SliderError unless every layer of a slider is in `module`, with the shape it was trained on."""
    for target, weight in weights.items():
        fitted(weight, target, find_layer(module, target))
