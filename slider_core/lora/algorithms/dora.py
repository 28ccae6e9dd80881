"""DoRA on any update (Liu et al. 2024, eq. 5): W' = (W + update) m / |W + update|, row by row.

At strength s the weight is W + s (W' - W). A file for ComfyUI has dora_scale in place of the magnitude m, which is read as

    W' = (W + update) dora_scale / |W|,        dora_scale = m / ratio,        ratio = |W + update| / |W|

PEFT and LyCORIS write the magnitude itself. Both depend on the base weight: it must be that of the model as it will be used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch

from ...config.checks import SliderError, need
from ..algorithm import Layer, LayerWeight, OutputSlice, Shape
from ..algorithm_layer import base_rows

SCALE, MAGNITUDE, RATIO = "dora_scale", "magnitude", "ratio"
OUTSIDE = "outside"  # the norms of the whole weight's rows, which stand in for dora_scale where a slice does not reach
EXACT_TENSORS = (SCALE, MAGNITUDE, OUTSIDE, RATIO)  # they multiply the base weight: kept in float32
Dora = TypeVar("Dora", bound="ScaledRows")


class ScaledRows(LayerWeight):
    """What a DoRA adds to a change of another kind, which is the next class of a subclass."""

    vectors = (SCALE, MAGNITUDE)
    needs_base = True

    @classmethod
    def recognises(cls, names: set[str]) -> bool:
        return super().recognises(names) and bool(names & {SCALE, MAGNITUDE})

    @classmethod
    def unknown(cls, names: Iterable[str]) -> list[str]:
        return super().unknown(set(names) - {MAGNITUDE})

    def file_tensors(self) -> dict[str, torch.Tensor]:
        return self.others(OUTSIDE, RATIO)

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
        message = f"{where} has {rows} rows here, and the DoRA of the file scales {tensor.numel()}."
        raise SliderError(message, "lora.shape")

    def by_row(self) -> torch.Tensor:
        """dora_scale. SliderError when it scales columns."""
        message = "This DoRA scales columns, as the first ones did; load it with ComfyUI's LoRA loader."
        need(self.tensors[SCALE].shape[0] == self.shape()[0], message, "dora.columns")
        return self.tensors[SCALE]

    def delta(self, base: torch.Tensor | None = None) -> torch.Tensor:
        if base is None or SCALE not in self.tensors:
            raise SliderError("A DoRA scales the weight that it is laid on: connect its base model.", "lora.needs_base")
        update = self.update()
        rows = base.detach().float().flatten(1).to(update.device)
        if self.tensors[SCALE].shape[0] != self.shape()[0]:
            changed = (rows + update).reshape(*base.shape[:2], -1)
            norm = changed.norm(dim=(0, 2), keepdim=True) + torch.finfo(torch.float32).eps
            return (changed * self.tensors[SCALE].float().reshape(1, -1, 1) / norm).flatten(1) - rows
        scale = self.tensors[SCALE].float().reshape(-1, 1)
        norm = rows.norm(dim=1, keepdim=True) + torch.finfo(torch.float32).eps
        return (rows + update) * (scale / norm) - rows

    def scaled(self: Dora, factor: float) -> Dora:  # noqa: ARG002
        message = "A DoRA multiplies the base weight: its strength cannot be written into it."
        raise SliderError(message, "dora.strength")

    def whole(self, rows: OutputSlice | None) -> LayerWeight:
        weight = super().whole(rows)
        if rows is None or SCALE not in self.tensors:
            return weight
        self.by_row()
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

    def swapped(self) -> LayerWeight:
        weight = super().swapped()
        rows = self.shape()[0]
        tensors = dict(weight.tensors)
        for name in (SCALE, MAGNITUDE, RATIO):
            if name in tensors and tensors[name].shape[0] == rows:
                tensors[name] = tensors[name].roll(rows // 2, 0)
        return dataclasses.replace(weight, tensors=tensors)

    # --- the magnitude

    def with_scale(self: Dora, layer: Layer, rows: OutputSlice | None) -> Dora:
        """With the dora_scale that ComfyUI's loader wants in place of a magnitude, and what stands beside that of a slice."""
        tensors = dict(self.tensors)
        if MAGNITUDE in tensors:
            tensors |= scale_tensors(tensors.pop(MAGNITUDE).float(), self, layer, rows)
        elif rows and OUTSIDE not in tensors:
            tensors[OUTSIDE] = _row_norms(layer, tensors[SCALE])
        return dataclasses.replace(self, tensors=tensors)

    def with_ratio(self: Dora, layer: Layer, rows: OutputSlice | None) -> Dora:
        """With what a magnitude is worked out from."""
        scale = self.tensors.get(SCALE)
        if scale is None or RATIO in self.tensors or scale.shape[0] != self.shape()[0]:
            return self
        ratio = norm_ratio(self, layer, rows).reshape(scale.shape)
        return dataclasses.replace(self, tensors=self.tensors | {RATIO: ratio})

    def magnitude(self, path: str) -> torch.Tensor:
        """The norm of each row of the changed weight, as PEFT and LyCORIS write it."""
        message = f'The DoRA of "{path}" needs its base model to be written this way: connect the model.'
        need(RATIO in self.tensors, message, "lora.needs_base")
        return self.tensors[SCALE] * self.tensors[RATIO]

    def for_lycoris(self: Dora, path: str) -> Dora:
        return dataclasses.replace(self, tensors=self.tensors | {SCALE: self.magnitude(path)})

    def from_lycoris(self: Dora) -> Dora:
        """What LyCORIS wrote as dora_scale is the magnitude itself."""
        tensors = dict(self.tensors)
        if SCALE in tensors:
            tensors[MAGNITUDE] = tensors.pop(SCALE)
        return dataclasses.replace(self, tensors=tensors)


def norm_ratio(weight: LayerWeight, layer: Layer, rows: OutputSlice | None) -> torch.Tensor:
    """(rows,) |W + update| / |W| for each row of the weight W that a change covers."""
    base = base_rows(layer, rows).float().flatten(1)
    changed = base + weight.update().to(base.device)
    return (changed.norm(dim=1) / base.norm(dim=1).clamp_min(torch.finfo(torch.float32).tiny)).cpu()


def scale_tensors(
    magnitude: torch.Tensor, weight: LayerWeight, layer: Layer, rows: OutputSlice | None
) -> dict[str, torch.Tensor]:
    """What a DoRA of this magnitude keeps beside its LoRA for a file."""
    ratio = norm_ratio(weight, layer, rows).reshape(magnitude.shape)
    tensors = {SCALE: magnitude.cpu() / ratio, RATIO: ratio}
    if rows:
        tensors[OUTSIDE] = _row_norms(layer, magnitude)
    return tensors


def _row_norms(layer: Layer, like: torch.Tensor) -> torch.Tensor:
    """The norm of each row of a layer's weight, with as many dimensions as `like`."""
    norms = base_rows(layer, None).float().flatten(1).norm(dim=1).cpu()
    return norms.reshape(-1, *[1] * (like.ndim - 1))
