"""LoCon, LoHa, LoKr, full and GLoRA: LyCORIS' modules made for a live layer's shape, and LyCORIS' mathematics on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ..config.lora import AdapterSpec, Algorithm
from ..layers.layer import Target, find_layer
from .algorithm import (
    OPTIONAL,
    Kind,
    LayerWeight,
    Size,
    base_rows,
    quiet_lycoris,
    serialized_copy,
    shape_of,
    shape_only,
    versions,
)


class Lycoris:
    """A LyCORIS module on one layer."""

    reads_output = False

    def __init__(self, made: Any, kind: Kind, target: Target, base: tuple[int, ...]) -> None:
        self.made, self.kind, self.rows, self.base = made, kind, target.rows, base
        self.seen: dict[str, torch.Tensor] = {}
        self.seen_at: tuple[int, ...] = ()
        made.org_module, made.org_forward = [], None  # the skeleton that it was made on

    def parameters(self) -> list[nn.Parameter]:
        return list(self.made.parameters())

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        # LoHa makes a matrix of the weight's size and multiplies in the model's own number format, as the layer does
        return self.made.bypass_forward_diff(x if self.kind is Kind.LOHA else x.to(self.parameters()[0].dtype))

    def look(self, layer: nn.Module) -> None:
        """The factors say it all."""

    def serialized(self) -> LayerWeight:
        tensors = {name: serialized_copy(value) for name, value in self.made.custom_state_dict().items()}
        alpha = float(tensors.pop("alpha"))
        return LayerWeight(self.kind, tensors, alpha, self.base)

    def to(self, device: torch.device) -> None:
        self.made.to(device=device, dtype=torch.float32)


class Glora(Lycoris):
    """W a1 a2 + b1 b2: the layer itself runs on the first part. A slice rests as the LoRA of twice the rank that it is."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        def without_bias(z: torch.Tensor) -> torch.Tensor:
            y = layer.forward(z.to(x.dtype))
            if layer.bias is not None:
                y = y - layer.bias.to(y).as_subclass(torch.Tensor).reshape(-1, *[1] * (layer.weight.ndim - 2))
            return (y[..., self.rows[0] : self.rows[1]] if self.rows else y).to(z.dtype)

        self.made.org_forward = without_bias
        try:
            return self.made.bypass_forward_diff(x.to(self.parameters()[0].dtype))
        finally:
            self.made.org_forward = None

    def look(self, layer: nn.Module) -> None:
        if self.rows:
            a1 = serialized_copy(self.made.a1.weight)
            self.seen = {"up": base_rows(layer, self.rows).float().cpu() @ a1}
            self.seen_at = versions(self)

    def serialized(self) -> LayerWeight:
        plain = super().serialized()
        if not self.rows:
            return plain
        if self.seen_at != versions(self):
            raise RuntimeError("a GLoRA was asked for its file form without a look at its base weight")
        t = plain.tensors
        up = torch.cat([self.seen["up"], t["b1.weight"]], dim=1) * plain.scale
        down = torch.cat([t["a2.weight"], t["b2.weight"]])
        return LayerWeight(Kind.LORA, {"lora_down.weight": down, "lora_up.weight": up}, float(len(down)), self.base)


class Full(Lycoris):
    """The whole difference of a weight, and of the bias where there is one."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        bias = None if self.made.bias is None else self.made.bias.to(x)
        return self.made.op(x, self.made.weight.to(x), bias, **self.made.kw_dict)

    def serialized(self) -> LayerWeight:
        names = {"diff": self.made.weight, "diff_b": self.made.bias}
        return LayerWeight(self.kind, {name: serialized_copy(p) for name, p in names.items() if p is not None}, None, self.base)


_OURS: dict[Kind, type[Lycoris]] = {Kind.FULL: Full, Kind.GLORA: Glora}
_KIND = {
    Algorithm.LOCON: Kind.LORA,
    Algorithm.LOHA: Kind.LOHA,
    Algorithm.LOKR: Kind.LOKR,
    Algorithm.FULL: Kind.FULL,
    Algorithm.GLORA: Kind.GLORA,
}


def _module(kind: Kind, layer: nn.Module, shape: Sequence[int], size: Size, **options: Any) -> Any:
    """LyCORIS' own module for a layer like `layer`, of `shape`, with its own first values."""
    from lycoris.modules import FullModule, GLoRAModule, LoConModule, LohaModule, LokrModule

    kinds = {
        Kind.LORA: LoConModule,
        Kind.LOHA: LohaModule,
        Kind.LOKR: LokrModule,
        Kind.FULL: FullModule,
        Kind.GLORA: GLoRAModule,
    }
    skeleton = shape_only(shape, layer).to_empty(device="cpu")
    if options.get("use_tucker") and len(shape) != 4:
        options = options | {"use_tucker": False}  # ComfyUI reads the core of a 2-D kernel only
    with quiet_lycoris():
        made = kinds[kind]("slider", skeleton, 1.0, size.rank, size.alpha, **options)
    if kind is Kind.FULL:
        made._org_weight, made.org_bias = [], None  # LyCORIS keeps a copy of the weight it was made on
    for name in ("lora_down", "lora_mid", "b2"):  # LyCORIS leaves the dilation out
        window = getattr(made, name, None)
        if isinstance(window, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and any(k > 1 for k in window.kernel_size):
            window.dilation = layer.dilation
    return made


def with_lycoris(
    module: nn.Module, targets: Sequence[Target], sizes: Mapping[Target, Size], spec: AdapterSpec
) -> dict[Target, Lycoris]:
    kind = _KIND[spec.algorithm]
    options: dict[str, Any] = {"use_tucker": spec.tucker}
    if spec.algorithm is Algorithm.LOKR:
        options |= {"factor": spec.factor, "full_matrix": spec.full_matrix, "decompose_both": spec.decompose_both}
    made: dict[Target, Lycoris] = {}
    for target in targets:
        layer = find_layer(module, target)
        part = _module(kind, layer, shape_of(module, target), sizes[target], **options)
        made[target] = _OURS.get(kind, Lycoris)(part, kind, target, tuple(layer.weight.shape))
    return made


def revive_lycoris(layer: nn.Module, target: Target, weight: LayerWeight, shape: Sequence[int]) -> Lycoris:
    """LyCORIS' module with these tensors in it, whatever sizes it would have chosen itself."""
    t = weight.tensors
    tucker = any(name in t for name in ("lora_mid.weight", "hada_t1", "lokr_t2"))
    made = _module(weight.kind, layer, shape, Size(weight.rank or 1, weight.scale * (weight.rank or 1)), use_tucker=tucker)
    if weight.kind is Kind.FULL:
        made.weight = nn.Parameter(t["diff"].reshape(tuple(shape)).clone())
        made.bias = nn.Parameter(t["diff_b"].clone()) if "diff_b" in t else None
        return Full(made, weight.kind, target, tuple(layer.weight.shape))
    if weight.kind is Kind.LOKR:
        for name in OPTIONAL[Kind.LOKR]:
            made._parameters.pop(name, None)
        made.use_w1, made.use_w2, made.tucker = "lokr_w1" in t, "lokr_w2" in t, "lokr_t2" in t
        made.lora_dim, made.scale = weight.rank or 1, weight.scale
        made.alpha = torch.tensor(weight.scale * made.lora_dim)
    for name, value in t.items():
        owner, _, leaf = name.rpartition(".")
        part = made.get_submodule(owner)
        before = getattr(part, leaf, None)
        if name == "lokr_w2" and value.ndim == 2 and len(shape) > 2:  # as ComfyUI wants it in a file
            value = value.reshape(value.shape[0], -1, *shape[2:])
        setattr(part, leaf, nn.Parameter((value if before is None else value.reshape(before.shape)).clone()))
    return _OURS.get(weight.kind, Lycoris)(made, weight.kind, target, tuple(layer.weight.shape))
