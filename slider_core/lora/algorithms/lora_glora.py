"""GLoRA: D = scale * (W a1 a2 + b1 b2) (Chavan et al. 2023). A slice is written as the LoRA of twice the rank that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...config.checks import SliderError
from ...config.lora import Algorithm
from ...layers.layer import weight_shape
from ..add_in_place import output_slice
from ..algorithm import Kind, Layer, LayerWeight, Shape
from ..algorithm_layer import base_rows, serialized_copy, versions
from ..algorithm_lycoris import LycorisPart, LycorisWeight
from .lora import DOWN, UP, LoraWeight


class GloraPart(LycorisPart):
    """LyCORIS' GLoRA: the layer itself runs on the first part."""

    _product = torch.empty(0)  # W a1 of a slice, when the parameters were at
    _read_at: tuple[int, ...] = ()

    def input_format(self, given: torch.dtype) -> torch.dtype:
        return given

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        def without_bias(z: torch.Tensor) -> torch.Tensor:
            y = layer.forward(z.to(x.dtype))
            if layer.bias is not None:
                y = y - layer.bias.to(y).as_subclass(torch.Tensor).reshape(-1, *[1] * (len(weight_shape(layer)) - 2))
            return output_slice(y, self.rows).to(z.dtype)

        self.module.org_forward = without_bias
        try:
            return super().change(layer, x, out)
        finally:
            self.module.org_forward = None

    def read_base(self, layer: Layer) -> None:
        if self.rows and self._read_at != versions(self):
            self._product = base_rows(layer, self.rows).float().cpu() @ serialized_copy(self.module.a1.weight)
            self._read_at = versions(self)

    def serialized(self) -> LayerWeight:
        weight = super().serialized()
        if not self.rows:
            return weight
        if self._read_at != versions(self):
            raise RuntimeError("a GLoRA was to be serialized before its base weight was read")
        up = torch.cat([self._product, weight.tensors["b1.weight"]], dim=1) * weight.scale
        down = torch.cat([weight.tensors["a2.weight"], weight.tensors["b2.weight"]])
        return LoraWeight({DOWN: down, UP: up}, float(len(down)), self.base)


class GloraWeight(LycorisWeight):
    kind = Kind.GLORA
    algorithms = (Algorithm.GLORA,)
    needed = ("a1.weight", "a2.weight", "b1.weight", "b2.weight")
    ranked = ("a2.weight",)
    halved = ("b1.weight",)
    needs_base = True
    module_class = "GLoRAModule"
    part_class = GloraPart

    @classmethod
    def of_file(cls, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """LyCORIS once had D = W a2 a1 + b2 b1: the two matrices of each product change their names. Told by the shapes, as
        ComfyUI's loader does; of square ones today's order is meant."""
        a1, a2, b1, b2 = (tensors[name].shape for name in cls.needed)
        if min(len(a1), len(a2), len(b1), len(b2)) < 2 or b2[0] == b1[1] == a1[1] == a2[0]:
            return tensors
        if not a1[0] == a2[1] == b1[0] == b2[1]:
            return tensors
        renamed = dict(tensors)
        for one, other in (("a1.weight", "a2.weight"), ("b1.weight", "b2.weight")):
            renamed[one], renamed[other] = tensors[other], tensors[one]
        return renamed

    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
        ones = (1,) * len(kernel)
        rank = self.tensors["a2.weight"].shape[0]
        other = self.tensors["b2.weight"].shape[0]
        return {
            "a1.weight": (inner, rank, *ones),
            "a2.weight": (rank, inner, *ones),
            "b1.weight": (rows, other, *ones),
            "b2.weight": (other, inner, *kernel),
        }

    def layer_shape(self) -> Shape:
        return self.tensors["b1.weight"].shape[0], *self.tensors["b2.weight"].shape[1:]

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:
        if base is None:
            message = "A GLoRA changes a weight by what it is: connect its base model."
            raise SliderError(message, "lora.needs_base")
        a1, a2, b1, b2 = (self.tensors[name].float().flatten(1) for name in self.needed)
        rows = base.detach().float().reshape(*base.shape[:2], -1)
        shifted = torch.einsum("oik,ij->ojk", rows, a1 @ a2).flatten(1)
        return (shifted + b1 @ b2) * self.scale

    def products(self) -> Sequence[tuple[str, str]]:
        return ("a1.weight", "a2.weight"), ("b1.weight", "b2.weight")
