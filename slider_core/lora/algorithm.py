"""A slider's weights at rest: for every layer the tensors that say what changes there, by the names LyCORIS gave them.

The change of a weight W at strength 1, scale = alpha / rank (1 without an alpha, or where nothing has a rank):

    lora    scale * up down         (up mid down with a Tucker core: LoCon)       Hu et al. 2021; LyCORIS
    loha    scale * (w1_a w1_b) . (w2_a w2_b)     entry by entry                  Hyeon-Woo et al. 2021
    lokr    scale * w1 (x) w2       Kronecker product, either factor low-rank     LyCORIS, Yeh et al. 2023
    full    diff, and diff_b of the bias
    glora   scale * (W a1 a2 + b1 b2)                                             Chavan et al. 2023
    + dora_scale on a lora:  (W + update) * dora_scale / |W| - W, row by row, the way ComfyUI's loader reads it

Each is a fixed matrix D, and strength s means W + s D: that is what ComfyUI's loader does for every s, DoRA included.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import torch
from torch import nn
from torch.nn.functional import pad
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..config.checks import SliderError
from ..layers.layer import Target, find_layer, is_linear


class Kind(str, Enum):
    """How a layer's change is made up in a file. Several algorithms share one: rsLoRA, DoRA and LoCon are `lora` here."""

    LORA = "lora"
    LOHA = "loha"
    LOKR = "lokr"
    FULL = "full"
    GLORA = "glora"


BY_COLUMN = "This DoRA scales columns, as the first ones did; load it with ComfyUI's LoRA loader."
# what a kind must have, and what it may have
NEEDED = {
    Kind.LORA: ("lora_down.weight", "lora_up.weight"),
    Kind.LOHA: ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
    Kind.LOKR: (),  # each factor whole or in two parts
    Kind.FULL: ("diff",),
    Kind.GLORA: ("a1.weight", "a2.weight", "b1.weight", "b2.weight"),
}
OPTIONAL = {
    Kind.LORA: ("lora_mid.weight", "dora_scale"),
    Kind.LOHA: ("hada_t1", "hada_t2"),
    Kind.LOKR: ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
    Kind.FULL: ("diff_b",),
    Kind.GLORA: (),
}
# the tensors whose rows are the layer's; a LoKr has blocks of rows instead
TALL = {
    Kind.LORA: ("lora_up.weight",),
    Kind.LOHA: ("hada_w1_a", "hada_w2_a"),
    Kind.LOKR: (),
    Kind.FULL: ("diff", "diff_b"),
    Kind.GLORA: ("b1.weight",),
}
# Of a DoRA, beside its dora_scale. `outside`: the norms of the whole weight's rows, which stand in for dora_scale where a slice
# does not reach. `ratio`: |W + update| / |W|, which turns dora_scale into the magnitude that PEFT and LyCORIS write.
OUTSIDE, RATIO, MAGNITUDE = "outside", "ratio", "magnitude"
ASIDE = (OUTSIDE, RATIO)  # never in a file of ours
# ComfyUI's marks of a layer whose LoRAs are laid on when it runs, because it lies outside the GPU
ON_THE_FLY = ("weight_function", "weight_lowvram_function")
EXACT_TENSORS = ("dora_scale", MAGNITUDE, OUTSIDE, RATIO)  # they multiply the base weight: kept in float32


@dataclass(frozen=True)
class LayerWeight:
    """What one layer's change is made of. `base` is the shape of the layer's whole weight, where it is known."""

    kind: Kind
    tensors: dict[str, torch.Tensor]
    alpha: float | None = None
    base: tuple[int, ...] | None = None

    @property
    def rank(self) -> int | None:
        """The number that alpha is divided by; None where nothing has a rank."""
        low = {
            Kind.LORA: ("lora_down.weight",),
            Kind.LOHA: ("hada_w1_b",),
            Kind.LOKR: ("lokr_w2_b", "lokr_w1_b"),
            Kind.FULL: (),
            Kind.GLORA: ("a2.weight",),
        }[self.kind]
        return next((self.tensors[name].shape[0] for name in low if name in self.tensors), None)

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank

    @property
    def is_dora(self) -> bool:
        return "dora_scale" in self.tensors or MAGNITUDE in self.tensors

    def to(self, device: torch.device) -> LayerWeight:
        return dataclasses.replace(self, tensors={name: value.to(device) for name, value in self.tensors.items()})

    def shape(self) -> tuple[int, int]:
        """(rows, numbers per row) of the change."""
        t = self.tensors
        if self.kind is Kind.LORA:
            mid = t["lora_mid.weight"][0, 0].numel() if "lora_mid.weight" in t else 1
            return t["lora_up.weight"].shape[0], t["lora_down.weight"][0].numel() * mid
        if self.kind is Kind.LOHA:
            if "hada_t1" in t:
                return t["hada_w1_a"].shape[1], t["hada_w1_b"].shape[1] * t["hada_t1"][0, 0].numel()
            return t["hada_w1_a"].shape[0], t["hada_w1_b"].shape[1]
        if self.kind is Kind.LOKR:
            first, second = self.kron_shapes()
            return first[0] * second[0], first[1] * second[1]
        if self.kind is Kind.FULL:
            return t["diff"].shape[0], t["diff"][0].numel()
        return t["b1.weight"].shape[0], t["b2.weight"][0].numel()

    def kron_shapes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(rows, numbers per row) of the two Kronecker factors."""
        t, shapes = self.tensors, []
        for name in ("lokr_w1", "lokr_w2"):
            if name in t:
                shapes.append((t[name].shape[0], t[name][0].numel()))
            elif name == "lokr_w2" and "lokr_t2" in t:
                shapes.append((t["lokr_w2_a"].shape[1], t["lokr_w2_b"].shape[1] * t["lokr_t2"][0, 0].numel()))
            else:
                shapes.append((t[f"{name}_a"].shape[0], t[f"{name}_b"].shape[1]))
        return shapes[0], shapes[1]

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:
        """(rows, numbers per row) the change at strength 1, but for a dora_scale. GLoRA needs the rows of the base weight."""
        t = {name: value.float() for name, value in self.tensors.items()}
        if self.kind is Kind.FULL:
            return t["diff"].flatten(1)
        if self.kind is Kind.LORA and "lora_mid.weight" not in t:
            return t["lora_up.weight"].flatten(1) @ t["lora_down.weight"].flatten(1) * self.scale
        if self.kind is Kind.GLORA:
            if base is None:
                raise SliderError("A GLoRA changes a weight by what it is: its base model is needed here.")
            a1, a2, b1, b2 = (t[name].flatten(1) for name in NEEDED[Kind.GLORA])
            rows = base.detach().float().flatten(2) if base.ndim > 2 else base.detach().float().unsqueeze(-1)
            shifted = torch.einsum("oik,ij->ojk", rows, a1 @ a2).flatten(1)
            return (shifted + b1 @ b2) * self.scale
        from lycoris import functional

        if self.kind is Kind.LORA:
            found = functional.tucker_weight_from_conv(t["lora_up.weight"], t["lora_down.weight"], t["lora_mid.weight"])
        elif self.kind is Kind.LOHA:
            names = ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a", "hada_t1", "hada_t2")
            found = functional.loha.diff_weight(*(t.get(name) for name in names), gamma=t["hada_w1_a"].new_tensor(1.0))
        else:
            found = functional.lokr.kron_weight(*(t.get(name) for name in OPTIONAL[Kind.LOKR]))
        return found.reshape(self.shape()) * self.scale

    def delta(self, base: torch.Tensor | None = None) -> torch.Tensor:
        """(rows, numbers per row) D, the change at strength 1. DoRA and GLoRA need `base`, the rows of the base weight."""
        update = self.update(base)
        if not self.is_dora:
            return update
        if base is None or "dora_scale" not in self.tensors:
            raise SliderError("A DoRA scales the weight it is laid on: its base model is needed here.")
        if self.tensors["dora_scale"].shape[0] != update.shape[0]:
            raise SliderError(BY_COLUMN)
        rows = base.detach().float().flatten(1).to(update.device)
        norm = rows.norm(dim=1, keepdim=True) + torch.finfo(torch.float32).eps
        return (rows + update) * (self.tensors["dora_scale"].float().reshape(-1, 1) / norm) - rows


def scaled(weight: LayerWeight, by: float) -> LayerWeight:
    """The same change times `by`. SliderError for a DoRA, whose change is no multiple of anything in it."""
    if weight.is_dora:
        raise SliderError("A DoRA multiplies the base weight: its strength cannot be written into it.")
    loud = {"diff", "diff_b"} | ({"lokr_w2"} if weight.rank is None else set())
    tensors = {name: value * by if name in loud else value for name, value in weight.tensors.items()}
    alpha = weight.alpha if weight.rank is None else (weight.rank if weight.alpha is None else weight.alpha) * by
    return dataclasses.replace(weight, tensors=tensors, alpha=alpha)


def _rows_of(tensor: torch.Tensor, rows: tuple[int, int], height: int, dim: int = 0) -> torch.Tensor:
    """`tensor` with zeros before and after its rows, so that it is `height` tall along `dim`."""
    widths = [0, 0] * (tensor.ndim - 1 - dim) + [rows[0], height - rows[1]]
    return pad(tensor, widths)


def as_full(weight: LayerWeight) -> LayerWeight:
    """The same change as a plain difference. SliderError for what depends on the base weight: DoRA and GLoRA."""
    if weight.is_dora or weight.kind is Kind.GLORA:
        raise SliderError("A DoRA or GLoRA cannot be joined with other changes of its layer, or written as a plain difference.")
    update = weight.update()
    shape = weight.base[1:] if weight.base else update.shape[1:]
    bias = {"diff_b": weight.tensors["diff_b"]} if "diff_b" in weight.tensors else {}
    return LayerWeight(Kind.FULL, {"diff": update.reshape(-1, *shape)} | bias, None, weight.base)


def whole(weight: LayerWeight, rows: tuple[int, int] | None) -> LayerWeight:
    """A slice's change as one of the full height, nothing outside its rows: what every loader reads.

    A LoKr whose blocks do not end where the slice does becomes a plain difference.
    """
    if rows is None:
        return weight
    height, t = weight.base[0] if weight.base else rows[1], dict(weight.tensors)
    if weight.kind is Kind.LOKR:
        step = weight.kron_shapes()[1][0]
        if rows[0] % step or height % step:
            return whole(as_full(weight), rows)
        part = "lokr_w1" if "lokr_w1" in t else "lokr_w1_a"
        t[part] = _rows_of(t[part], (rows[0] // step, rows[1] // step), height // step)
    for name in TALL[weight.kind]:
        if name in t:
            t[name] = _rows_of(t[name], rows, height, dim=1 if "hada_t1" in t else 0)
    if "dora_scale" in t:
        for name, outside in (("dora_scale", t[OUTSIDE]), (RATIO, torch.ones_like(t[OUTSIDE]))):
            if name in t:
                t[name] = torch.cat([outside[: rows[0]], t[name], outside[rows[1] :]])
    return dataclasses.replace(weight, tensors=t)


def sliced(
    weight: LayerWeight, rows: tuple[int, int], slices: Sequence[tuple[int, int]] = (), path: str = "layer"
) -> LayerWeight:
    """The inverse of `whole`: the part in `rows`. SliderError when the change reaches outside all of the layer's `slices`."""
    t = dict(weight.tensors)
    if weight.kind is Kind.GLORA:
        raise SliderError(f'"{path}": a GLoRA changes all rows of its layer, and the chosen layers leave some alone.')
    step = weight.kron_shapes()[1][0] if weight.kind is Kind.LOKR else 1
    every = [rows, *slices]
    if max(stop for _, stop in every) > weight.shape()[0]:
        raise SliderError(f'"{path}" has {weight.shape()[0]} rows, and the slices end at {max(stop for _, stop in every)}.')
    if any(end % step for part in every for end in part):
        raise SliderError(f'"{path}": the LoKr moves blocks of {step} rows, which do not end at {rows[0]} and {rows[1]}.')
    for name in TALL[weight.kind] or [n for n in ("lokr_w1", "lokr_w1_a") if n in t]:
        if name not in t:
            continue
        dim = 1 if "hada_t1" in t else 0
        outside = torch.ones(t[name].shape[dim], dtype=torch.bool)
        for start, stop in every:
            outside[start // step : stop // step] = False
        if bool(t[name].index_select(dim, outside.nonzero().flatten()).any()):
            words = " and ".join(f"{start} to {stop}" for start, stop in slices or [rows])
            raise SliderError(f'"{path}": the file changes rows outside {words}, which the chosen layers leave alone.')
        t[name] = t[name].narrow(dim, rows[0] // step, (rows[1] - rows[0]) // step).clone()
    if "dora_scale" in t:
        t[OUTSIDE] = t["dora_scale"]
        t |= {name: t[name][rows[0] : rows[1]] for name in ("dora_scale", RATIO) if name in t}
    part = dataclasses.replace(weight, tensors=t)
    return _trimmed(part) if len(slices) > 1 else part


def _trimmed(weight: LayerWeight) -> LayerWeight:
    """A LoRA without the ranks that are silent in its slice: those of the slices that it was written together with."""
    if weight.kind is not Kind.LORA or "lora_mid.weight" in weight.tensors:
        return weight
    up, down = weight.tensors["lora_up.weight"], weight.tensors["lora_down.weight"]
    acting = up.any(dim=0).nonzero().flatten()
    if not len(acting):
        return weight
    tensors = weight.tensors | {"lora_up.weight": up[:, acting], "lora_down.weight": down[acting]}
    return dataclasses.replace(weight, tensors=tensors, alpha=weight.scale * len(acting))


def joined(parts: Sequence[tuple[tuple[int, int] | None, LayerWeight]]) -> LayerWeight:
    """Changes of several slices of one layer as one change of the whole: LoRAs side by side, others as a plain difference."""
    tall = [whole(weight, rows) for rows, weight in parts]
    if len(tall) == 1:
        return tall[0]
    mixed = len({w.is_dora for w in tall}) > 1
    if mixed or any(w.kind is not Kind.LORA or "lora_mid.weight" in w.tensors for w in tall):
        flat = [as_full(w).tensors for w in tall]
        names = {name for tensors in flat for name in tensors}
        summed = {name: torch.stack([tensors[name] for tensors in flat if name in tensors]).sum(0) for name in sorted(names)}
        return LayerWeight(Kind.FULL, summed, None, tall[0].base)
    tensors = {
        "lora_down.weight": torch.cat([w.tensors["lora_down.weight"] for w in tall]),
        "lora_up.weight": torch.cat([w.tensors["lora_up.weight"] * w.scale for w in tall], dim=1),
    }
    for name in ("dora_scale", RATIO):  # each slice has its own rows; the others are alike
        if all(name in w.tensors for w in tall):
            tensors[name] = tall[0].tensors[name].clone()
            for (rows, _), w in zip(parts, tall, strict=True):
                tensors[name][slice(*rows) if rows else slice(None)] = w.tensors[name][slice(*rows) if rows else slice(None)]
    return LayerWeight(Kind.LORA, tensors, float(tensors["lora_down.weight"].shape[0]), tall[0].base)


def by_layer(weights: Mapping[Target, LayerWeight]) -> dict[str, LayerWeight]:
    """Module path -> the whole change of that layer."""
    parts: dict[str, list[tuple[tuple[int, int] | None, LayerWeight]]] = {}
    for target, weight in weights.items():
        parts.setdefault(target.path, []).append((target.rows, weight))
    return {path: joined(slices) for path, slices in parts.items()}


def base_rows(layer: nn.Module, rows: tuple[int, int] | None) -> torch.Tensor:
    """The rows of a layer's weight that a target covers. SliderError where its numbers cannot be read off it."""
    weight = layer.weight.detach()
    patched = any(getattr(layer, name, None) for name in ON_THE_FLY)
    if is_traceable_wrapper_subclass(weight) and not patched:
        weight = weight.dequantize()
    elif patched or not weight.is_floating_point():
        how = "a LoRA is laid on it only while it runs" if patched else "it is packed by its loader"
        raise SliderError(f"A DoRA or GLoRA needs the weight of a layer, and here {how}. Choose another algorithm, such as lora.")
    return weight[rows[0] : rows[1]] if rows else weight


def norm_ratio(weight: LayerWeight, layer: nn.Module, rows: tuple[int, int] | None) -> torch.Tensor:
    """(rows,) |W + update| / |W| for each row of the weight W that a change covers."""
    base = base_rows(layer, rows).float().flatten(1)
    changed = base + weight.update().to(base.device)
    return (changed.norm(dim=1) / base.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)).cpu()


def _square(b: torch.Tensor, a: torch.Tensor) -> float:
    """The squared norm of b (out, rank) times a (rank, in), from the factors: the product itself may be a hundred megabytes."""
    return max(0.0, float((b.T @ b * (a @ a.T)).sum()))


def _factored(weight: LayerWeight, dtype: torch.dtype) -> tuple[float, float]:
    """Squared norms of what rounding changes in a product of two factors, and of the product."""
    pairs = {
        Kind.LORA: (("lora_up.weight", "lora_down.weight"),),
        Kind.GLORA: (("a1.weight", "a2.weight"), ("b1.weight", "b2.weight")),
    }
    lost = all_ = 0.0
    for up, down in pairs[weight.kind]:
        b, a = (weight.tensors[name].flatten(1).double() for name in (up, down))
        b_file, a_file = (weight.tensors[name].to(dtype).flatten(1).double() for name in (up, down))
        all_ += _square(b, a)
        lost += _square(torch.cat([b_file - b, b_file], dim=1), torch.cat([a, a_file - a]))
    return weight.scale**2 * lost, weight.scale**2 * all_


def rounding_error(weights: Mapping[Target, LayerWeight], dtype: torch.dtype) -> float:
    """How much a number format changes a slider: |rounded update - update| / |update| over all layers."""
    lost = all_ = 0.0
    for weight in weights.values():
        if weight.kind in (Kind.LORA, Kind.GLORA) and "lora_mid.weight" not in weight.tensors:
            some, every = _factored(weight, dtype)
        else:
            rounded = {name: value.to(dtype) for name, value in weight.tensors.items()}
            update = weight.update().double()
            some = float((dataclasses.replace(weight, tensors=rounded).update().double() - update).square().sum())
            every = float(update.square().sum())
        lost, all_ = lost + some, all_ + every
    return math.sqrt(lost / all_) if all_ else 0.0


@contextmanager
def quiet_lycoris() -> Iterator[None]:
    """LyCORIS warns of every layer for which a LoKr's rank is larger than it can use, which our docs say once."""
    from lycoris.logging import logger

    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def shape_only(shape: Sequence[int], like: nn.Module | None = None) -> nn.Module:
    """A Linear or convolution with a weight of that shape, on the meta device (no memory); stride and so on of `like`."""
    if len(shape) == 2:
        return nn.Linear(shape[1], shape[0], bias=getattr(like, "bias", None) is not None, device="meta")
    kind = {3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}[len(shape)]
    window = (like.stride, like.padding, like.dilation) if like is not None else (1, 0, 1)
    biased = getattr(like, "bias", None) is not None
    return kind(shape[1], shape[0], tuple(shape[2:]), *window, bias=biased, device="meta")


class Trainable(Protocol):
    """One target's part of an adapter."""

    reads_output: bool  # whether `change` needs `out`, as it is without any slider

    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains, always in the same order."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What the target's rows of `out` = layer(x) change by at strength 1."""

    def look(self, layer: nn.Module) -> None:
        """Take from the base weight what `at_rest` needs of it; to be done after every change of the parameters."""

    def serialized(self) -> LayerWeight:
        """A detached float32 copy on the CPU."""

    def to(self, device: torch.device) -> None: ...


@dataclass(frozen=True)
class Size:
    """Of one layer's LoRA-like update."""

    rank: int
    alpha: float


def serialized_copy(tensor: torch.Tensor) -> torch.Tensor:
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


def scale_tensors(
    magnitude: torch.Tensor, weight: LayerWeight, layer: nn.Module, rows: tuple[int, int] | None
) -> dict[str, torch.Tensor]:
    """What a DoRA of this magnitude keeps beside its LoRA: dora_scale = magnitude |W| / |W + update|, and that ratio."""
    ratio = norm_ratio(weight, layer, rows).reshape(magnitude.shape)
    tensors = {"dora_scale": magnitude.cpu() / ratio, RATIO: ratio}
    if rows:
        every = base_rows(layer, None).float().flatten(1).norm(dim=1).cpu()
        tensors[OUTSIDE] = every.reshape(-1, *magnitude.shape[1:])
    return tensors
