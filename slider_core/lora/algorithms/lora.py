"""LoRA: D = scale * up down (Hu et al. 2021). rsLoRA is a LoRA with scale = alpha / sqrt(rank) (Kalajdzievski 2023), LoCon one on
convolutions too, with an optional Tucker core: up mid down (LyCORIS).

LoRA and rsLoRA are trained by PEFT's layers, LoCon by LyCORIS' module.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.nn import functional

from ...backend import per_sample
from ...config.lora import AdapterSpec, Algorithm, Init
from ...layers.layer import Target, weight_shape
from ..algorithm import BIAS, Kind, Layer, LayerWeight, OutputSlice, Shape, Size, Trainable
from ..algorithm_layer import copy_in, serialized_copy, shape_of, shape_only
from ..algorithm_lycoris import LycorisWeight

NAME = "slider"  # PEFT's name for our adapter
UP, DOWN, MID = "lora_up.weight", "lora_down.weight", "lora_mid.weight"
Lora = TypeVar("Lora", bound="LoraWeight")


def peft_layer(layer: Layer, target: Target, size: Size, init: Init, **options: bool) -> Any:
    """PEFT's LoRA layer for a target of `layer`, with PEFT's own first values. The layer inside has no memory.

    On convolutions PEFT's orthogonal start is not defined: Kaiming there.
    """
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import

    config = LoraConfig(r=size.rank, lora_alpha=size.alpha, target_modules=["layer"], **options)
    skeleton = nn.ModuleDict({"layer": shape_only(shape_of(layer, target), layer)})
    tuned = inject_adapter_in_model(config, skeleton, adapter_name=NAME, low_cpu_mem_usage=True)["layer"]
    down = tuned.lora_A[NAME]
    for part in (down, tuned.lora_B[NAME]):
        part.to_empty(device="cpu")
    if init is Init.ORTHOGONAL and isinstance(down, nn.Linear):
        tuned.orthogonal_init(NAME)
    else:
        tuned.reset_lora_parameters(NAME, "gaussian" if init is Init.GAUSSIAN else True)
    if hasattr(layer, "dilation"):  # PEFT leaves it out
        down.dilation = layer.dilation
    return tuned


def _in(wanted: torch.dtype, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in a number format. In its own not even torch is asked, which takes a tenth of all that is done for a layer."""
    return tensor if tensor.dtype is wanted else tensor.to(wanted)


def _applied(factor: Any, x: torch.Tensor) -> torch.Tensor:
    """A factor of PEFT's, without a bias, on x in the number format of x."""
    weight = _in(x.dtype, factor.weight)
    return functional.linear(x, weight) if isinstance(factor, nn.Linear) else factor._conv_forward(x, weight, None)


class LoraPart(Trainable):
    """PEFT's LoRA on one layer, rsLoRA by its scale. Scale and strength multiply what lies between the factors.

    In a bfloat16 layer the factors are rounded to bfloat16 for the products, as the layer's own weight is; their gradients are
    float32. In float16 what lies between them could overflow: float32 there.
    """

    def __init__(self, tuned: Any, base: Shape) -> None:
        self.down = tuned.lora_A[NAME]
        self.up = tuned.lora_B[NAME]
        self.scaling: float = tuned.scaling[NAME]
        self.base = base

    def parameters(self) -> list[nn.Parameter]:
        return [self.down.weight, self.up.weight]

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self._product(x, self.scaling)

    def scaled_change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self._product(x, per_sample(self.scaling * strength_B.float(), x))

    def _product(self, x: torch.Tensor, scale: torch.Tensor | float) -> torch.Tensor:
        x = _in(self.input_format(x.dtype), x)
        between = _applied(self.down, x)
        return _applied(self.up, _in(x.dtype, between * scale))

    def input_format(self, given: torch.dtype) -> torch.dtype:
        return given if given is torch.bfloat16 else self.down.weight.dtype

    def serialized(self) -> LoraWeight:
        tensors = {DOWN: serialized_copy(self.down.weight), UP: serialized_copy(self.up.weight)}
        return LoraWeight(tensors, self.scaling * self.down.weight.shape[0], self.base)

    def to(self, device: torch.device) -> None:
        for part in (self.down, self.up):
            part.to(device=device, dtype=torch.float32)


class LoraWeight(LycorisWeight):
    kind = Kind.LORA
    algorithms: ClassVar[tuple[Algorithm, ...]] = (Algorithm.LORA, Algorithm.RSLORA, Algorithm.LOCON)
    needed = (DOWN, UP)
    optional: ClassVar[tuple[str, ...]] = (MID,)
    cores = (MID,)
    ranked = (DOWN,)
    row_tensors = (UP,)
    module_class = "LoConModule"

    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
        ones = (1,) * len(kernel)
        rank = self.tensors[DOWN].shape[0]
        if not self.has_core:
            return {UP: (rows, rank, *ones), DOWN: (rank, inner, *kernel)}
        last = self.tensors[MID].shape[0]
        return {UP: (rows, last, *ones), MID: (last, rank, *kernel), DOWN: (rank, inner, *ones)}

    def layer_shape(self) -> Shape:
        kernel = self.tensors[MID if self.has_core else DOWN].shape[2:]
        return self.tensors[UP].shape[0], self.tensors[DOWN].shape[1], *kernel

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        up = self.tensors[UP].float()
        down = self.tensors[DOWN].float()
        if not self.has_core:
            return up.flatten(1) @ down.flatten(1) * self.scale
        from lycoris.functional import tucker_weight_from_conv

        return tucker_weight_from_conv(up, down, self.tensors[MID].float()).reshape(self.shape()) * self.scale

    def flat(self) -> LayerWeight:
        if math.prod(self.tensors[MID].shape[2:]) > 1:
            return self
        down = self.tensors[MID].flatten(1) @ self.tensors[DOWN].flatten(1).to(self.tensors[MID].dtype)
        return dataclasses.replace(self, tensors=self.others(MID) | {DOWN: down}, alpha=self.scale * len(down))

    def products(self) -> Sequence[tuple[str, str]]:
        return () if self.has_core else ((UP, DOWN),)

    def sliced(self, rows: OutputSlice, slices: Sequence[OutputSlice] = (), path: str = "layer") -> LayerWeight:
        """Without the ranks that are silent in the slice: those of the slices that it was written together with."""
        part = super().sliced(rows, slices, path)
        acting = part.tensors[UP].any(dim=0).nonzero().flatten()
        if len(slices) < 2 or self.has_core or not len(acting):
            return part
        tensors = part.tensors | {UP: part.tensors[UP][:, acting], DOWN: part.tensors[DOWN][acting]}
        return dataclasses.replace(part, tensors=tensors, alpha=part.scale * len(acting))

    @classmethod
    def side_by_side(cls: type[Lora], parts: Sequence[tuple[OutputSlice | None, Lora]]) -> Lora:
        """LoRAs of a whole layer as one, whose rank is the sum of theirs. The slices say where each of them acts."""
        weights = [weight for _, weight in parts]
        down = torch.cat([weight.tensors[DOWN].float() for weight in weights])
        up = torch.cat([weight.tensors[UP].float() * weight.scale for weight in weights], dim=1)
        tensors = {DOWN: down, UP: up}
        biases = [weight.tensors[BIAS].float() for weight in weights if BIAS in weight.tensors]
        if biases:
            tensors[BIAS] = torch.stack(biases).sum(0)
        return cls(tensors, float(down.shape[0]), weights[0].base)

    @classmethod
    def fresh(cls, layer: Layer, target: Target, size: Size, spec: AdapterSpec) -> Trainable:
        if spec.algorithm is Algorithm.LOCON:
            return super().fresh(layer, target, size, spec)
        rslora = spec.algorithm is Algorithm.RSLORA
        tuned = peft_layer(layer, target, size, spec.init, use_rslora=rslora)
        return LoraPart(tuned, weight_shape(layer))

    def revived(self, layer: Layer, target: Target) -> Trainable:
        if self.has_core:
            return super().revived(layer, target)
        part = LoraPart(peft_layer(layer, target, self.size, Init.KAIMING), weight_shape(layer))
        copy_in(part, [self.tensors[DOWN], self.tensors[UP]])
        return part
