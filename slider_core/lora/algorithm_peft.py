"""LoRA, rsLoRA and DoRA: PEFT's layers made for a live layer's shape, and PEFT's mathematics on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from ..config.checks import SliderError
from ..config.lora import Algorithm, Init
from ..layers.layer import Target, find_layer
from .algorithm import (
    BY_COLUMN,
    Kind,
    LayerWeight,
    Size,
    Trainable,
    base_rows,
    fill,
    norm_ratio,
    scale_tensors,
    serialized_copy,
    shape_of,
    shape_only,
    versions,
)

NAME = "slider"  # PEFT's name for our adapter


class Lora:
    """PEFT's LoRA on one layer, rsLoRA by its scale."""

    reads_output = False

    def __init__(self, tuned: Any, base: tuple[int, ...]) -> None:
        self.down, self.up = tuned.lora_A[NAME], tuned.lora_B[NAME]
        self.scaling: float = tuned.scaling[NAME]
        self.base = base

    def parameters(self) -> list[nn.Parameter]:
        return [self.down.weight, self.up.weight]

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.up(self.down(x.to(self.down.weight.dtype))) * self.scaling

    def look(self, layer: nn.Module) -> None:
        """The factors say it all."""

    def serialized(self) -> LayerWeight:
        tensors = {"lora_down.weight": serialized_copy(self.down.weight), "lora_up.weight": serialized_copy(self.up.weight)}
        return LayerWeight(Kind.LORA, tensors, self.scaling * self.down.weight.shape[0], self.base)

    def to(self, device: torch.device) -> None:
        for part in (self.down, self.up):
            part.to(device=device, dtype=torch.float32)


class Dora(Lora):
    """PEFT's DoRA: a LoRA and the norm of each row of the changed weight."""

    reads_output = True

    def __init__(self, tuned: Any, base: tuple[int, ...], rows: tuple[int, int] | None) -> None:
        super().__init__(tuned, base)
        self.magnitude = tuned.lora_magnitude_vector[NAME]
        self.rows = rows
        self.seen: dict[str, torch.Tensor] = {}
        self.seen_at: tuple[int, ...] = ()

    def start(self, layer: nn.Module) -> None:
        """The magnitude of the base weight: no change."""
        norm = base_rows(layer, self.rows).float().flatten(1).norm(dim=1)
        if not bool(norm.all()):
            raise SliderError("Some rows of the weight are zero, which a DoRA cannot scale: exclude the layer, or choose lora.")
        conv = layer.weight.ndim > 2
        self.magnitude.weight = nn.Parameter(norm.reshape(1, -1, *[1] * (layer.weight.ndim - 2)) if conv else norm)

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), self.magnitude.weight]

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        dtype = self.down.weight.dtype
        bias = layer.bias
        if bias is not None:
            bias = (bias[self.rows[0] : self.rows[1]] if self.rows else bias).to(device=x.device, dtype=dtype)
        base = SimpleNamespace(weight=base_rows(layer, self.rows).to(device=x.device, dtype=dtype), bias=bias)
        return self.magnitude(
            x.to(dtype), lora_A=self.down, lora_B=self.up, scaling=self.scaling, base_layer=base, base_result=out.to(dtype)
        )

    def look(self, layer: nn.Module) -> None:
        if self.seen_at == versions(self):
            return
        magnitude = serialized_copy(self.magnitude.weight)
        magnitude = magnitude.transpose(0, 1) if magnitude.ndim > 1 else magnitude.unsqueeze(1)
        self.seen = scale_tensors(magnitude, super().serialized(), layer, self.rows)
        self.seen_at = versions(self)

    def serialized(self) -> LayerWeight:
        if self.seen_at != versions(self):
            raise RuntimeError("a DoRA was asked for its file form without a look at its base weight")
        plain = super().serialized()
        return LayerWeight(plain.kind, plain.tensors | self.seen, plain.alpha, plain.base)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.magnitude.to(device=device, dtype=torch.float32)


def _tuned(skeleton: nn.ModuleDict, size: Size, algorithm: Algorithm) -> nn.ModuleDict:
    """PEFT's LoRA layers on layers of that shape, still without memory."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import

    config = LoraConfig(
        r=size.rank,
        lora_alpha=size.alpha,
        target_modules=list(skeleton),
        use_rslora=algorithm is Algorithm.RSLORA,
        use_dora=algorithm is Algorithm.DORA,
    )
    return inject_adapter_in_model(config, skeleton, adapter_name=NAME, low_cpu_mem_usage=True)


def _initialise(layer: Any, init: Init) -> None:
    """Memory and PEFT's own first values. On convolutions its orthogonal start is not defined: Kaiming there."""
    for part in (layer.lora_A[NAME], layer.lora_B[NAME]):
        part.to_empty(device="cpu")
    if init is Init.ORTHOGONAL and isinstance(layer.lora_A[NAME], nn.Linear):
        layer.orthogonal_init(NAME)
    else:
        layer.reset_lora_parameters(NAME, "gaussian" if init is Init.GAUSSIAN else True)


def with_peft(
    module: nn.Module, targets: Sequence[Target], sizes: Mapping[Target, Size], algorithm: Algorithm, init: Init
) -> dict[Target, Lora]:
    key = {target: f"t{number}" for number, target in enumerate(targets)}
    skeleton = nn.ModuleDict({key[t]: shape_only(shape_of(module, t), find_layer(module, t)) for t in targets})
    tuned: dict[str, Any] = {}
    for size in dict.fromkeys(sizes[t] for t in targets):  # PEFT tries every pattern on every layer: no patterns
        some = nn.ModuleDict({key[t]: skeleton[key[t]] for t in targets if sizes[t] == size})
        tuned |= dict(_tuned(some, size, algorithm).items())
    made: dict[Target, Lora] = {}
    for target in targets:
        layer, base = tuned[key[target]], find_layer(module, target)
        _initialise(layer, init)
        if hasattr(base, "dilation"):  # PEFT leaves it out
            layer.lora_A[NAME].dilation = base.dilation
        shape = tuple(base.weight.shape)
        if algorithm is Algorithm.DORA:
            made[target] = Dora(layer, shape, target.rows)
            try:
                made[target].start(base)
            except SliderError as fault:
                raise SliderError(f'"{target}": {fault}') from None
        else:
            made[target] = Lora(layer, shape)
    return made


def revive_peft(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> dict[Target, Trainable]:
    """PEFT's layers with these weights in them."""
    parts: dict[Target, Trainable] = {}
    for algorithm, dora in ((Algorithm.LORA, False), (Algorithm.DORA, True)):
        some = {t: w for t, w in weights.items() if w.is_dora is dora}
        if not some:
            continue
        sizes = {t: Size(w.rank or 1, w.scale * (w.rank or 1)) for t, w in some.items()}
        made = with_peft(module, list(some), sizes, algorithm, Init.KAIMING)
        for target, weight in some.items():
            values = [weight.tensors["lora_down.weight"], weight.tensors["lora_up.weight"]]
            if dora:
                values.append(_magnitude(weight, find_layer(module, target), target.rows))
            fill(made[target], values)
        parts |= made
    return parts


def _magnitude(weight: LayerWeight, layer: nn.Module, rows: tuple[int, int] | None) -> torch.Tensor:
    """PEFT's magnitude out of ComfyUI's dora_scale, on this layer."""
    scale = weight.tensors["dora_scale"]
    if scale.shape[0] != weight.shape()[0]:
        raise SliderError(BY_COLUMN)
    return scale.flatten() * norm_ratio(weight, layer, rows)
