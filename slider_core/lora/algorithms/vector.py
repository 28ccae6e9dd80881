"""Vector: differences of what has one dimension, the scale of a norm (diff) and the bias of a norm or of any layer (diff_b).

ComfyUI's Train LoRA and Extract and Save LoRA write them, LyCORIS as w_norm and b_norm. On a norm

    y = norm(x) (w + s diff) + b + s diff_b,        so the change of y is norm(x) diff + diff_b
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...config.checks import SliderError
from ...config.lora import AdapterSpec
from ...layers.layer import CONVOLUTIONS, Target
from ..algorithm import BIAS, Kind, Layer, LayerWeight, Shape, Size, Trainable
from ..algorithm_layer import serialized_copy

DIFF = "diff"


class VectorPart(Trainable):
    """Both differences of one layer, beside what the layer itself gives. Cost: a norm."""

    def __init__(self, tensors: dict[str, torch.Tensor], base: Shape) -> None:
        self.vectors = nn.ParameterDict()
        for name, tensor in tensors.items():
            self.vectors[name] = nn.Parameter(tensor.detach().float().clone())
        self.base = base

    def parameters(self) -> list[nn.Parameter]:
        return list(self.vectors.values())

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        bias = self.vectors.get(BIAS)
        if bias is None or DIFF in self.vectors:
            return _affine(layer, x.float(), self.vectors[DIFF], bias)
        if isinstance(layer, (*CONVOLUTIONS, nn.GroupNorm)):  # channels come first
            return bias.reshape(-1, *[1] * (out.ndim - 2)).expand(out.shape)
        return bias.expand(out.shape)

    def serialized(self) -> VectorWeight:
        return VectorWeight({name: serialized_copy(vector) for name, vector in self.vectors.items()}, None, self.base)

    def to(self, device: torch.device) -> None:
        self.vectors.to(device=device, dtype=torch.float32)


def _affine(layer: Layer, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """A norm layer with another scale and bias."""
    if isinstance(layer, nn.GroupNorm):
        return functional.group_norm(x, layer.num_groups, weight, bias, layer.eps)
    if isinstance(layer, nn.LayerNorm):
        return functional.layer_norm(x, layer.normalized_shape, weight, bias, layer.eps)
    y = functional.rms_norm(x, layer.normalized_shape, weight, layer.eps)
    return y if bias is None else y + bias


class VectorWeight(LayerWeight):
    kind = Kind.VECTOR
    algorithms = ()
    optional = vectors = (DIFF,)
    row_tensors = linear = (DIFF,)

    @classmethod
    def recognises(cls, names: set[str]) -> bool:
        return bool(names & {DIFF, BIAS})

    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:  # noqa: ARG002
        return {DIFF: (rows,)}

    def layer_shape(self) -> Shape:
        return len(next(iter(self.tensors.values()))), 1

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        if DIFF not in self.tensors:
            return torch.zeros(self.shape())
        return self.tensors[DIFF].float().reshape(-1, 1)

    @classmethod
    def fresh(cls, layer: Layer, target: Target, size: Size, spec: AdapterSpec) -> Trainable:  # noqa: ARG003
        raise SliderError(f'"{target}": no algorithm trains norms and biases alone.', "vector.fresh")

    def revived(self, layer: Layer, target: Target) -> Trainable:
        runs = DIFF not in self.tensors or isinstance(layer, (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm))
        if not runs:
            message = f'"{target}" is a norm of a kind of its own, which cannot be trained or run live: set mode to merge.'
            raise SliderError(message, "vector.norm")
        return VectorPart(self.tensors, tuple(layer.weight.shape))


def changes_norm(weight: LayerWeight) -> bool:
    """Whether it changes the scale of a norm, and so belongs on one."""
    return weight.kind is Kind.VECTOR and DIFF in weight.tensors
