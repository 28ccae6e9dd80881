"""LoHa: D = scale * (w1_a w1_b) . (w2_a w2_b), entry by entry (Hyeon-Woo et al. 2021, FedPara; LyCORIS).

With Tucker cores t1 and t2 each factor is w_a^T t w_b, kernel place by kernel place.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch

from ...config.lora import Algorithm
from ..algorithm import Kind, Layer, LayerWeight, Shape
from ..algorithm_lycoris import LycorisPart, LycorisWeight


class LohaPart(LycorisPart):
    """LyCORIS' LoHa. Cost: a matrix as large as the weight."""

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.module.bypass_forward_diff(x)  # it multiplies in the model's own number format, as the layer does


class LohaWeight(LycorisWeight):
    kind = Kind.LOHA
    algorithms: ClassVar[tuple[Algorithm, ...]] = (Algorithm.LOHA,)
    needed = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
    cores = ("hada_t1", "hada_t2")  # both or none
    optional: ClassVar[tuple[str, ...]] = cores
    ranked = ("hada_w1_b",)
    row_tensors = ("hada_w1_a", "hada_w2_a")
    module_class = "LohaModule"
    part_class = LohaPart

    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for n in (1, 2):
            rank = self.tensors[f"hada_w{n}_b"].shape[0]
            if f"hada_t{n}" in self.tensors:
                shapes |= {f"hada_w{n}_a": (rank, rows), f"hada_w{n}_b": (rank, inner), f"hada_t{n}": (rank, rank, *kernel)}
            else:
                shapes |= {f"hada_w{n}_a": (rows, rank), f"hada_w{n}_b": (rank, inner * math.prod(kernel))}
        return shapes

    def flat(self) -> LayerWeight:
        tensors = dict(self.tensors)
        for n in (1, 2):
            core = tensors.pop(f"hada_t{n}", None)
            if core is None or math.prod(core.shape[2:]) > 1:
                return self
            tensors[f"hada_w{n}_a"] = tensors[f"hada_w{n}_a"].T @ core.flatten(1).to(tensors[f"hada_w{n}_a"].dtype)
        return dataclasses.replace(self, tensors=tensors)

    @property
    def row_dim(self) -> int:
        return int(self.has_core)

    def layer_shape(self) -> Shape:
        shape = (self.tensors["hada_w1_a"].shape[self.row_dim], self.tensors["hada_w1_b"].shape[1])
        return (*shape, *self.tensors["hada_t1"].shape[2:]) if self.has_core else shape

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        from lycoris.functional import loha

        names = ("hada_w1_b", "hada_w1_a", "hada_w2_b", "hada_w2_a", "hada_t1", "hada_t2")
        matrix = loha.diff_weight(*self.factors(names), gamma=torch.tensor(1.0, device=self.tensors["hada_w1_a"].device))
        return matrix.reshape(self.shape()) * self.scale
