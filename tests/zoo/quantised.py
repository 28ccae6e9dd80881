"""Models whose weights are not what they compute with: raw fp8, ComfyUI's quantised tensors, a GGUF loader's layers, offloaded.

`GgufLinear` does what the layers of ComfyUI-GGUF do, written from a reading of that pack: the weight is a tensor subclass that
holds raw bytes, says another shape than it has and hands itself out for a copy; the layer unpacks it at each call, by a cast of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .model import Tiny, build_tiny

BLOCK = 32  # numbers that share a scale, in GGUF's Q8_0: two bytes of float16 and 32 of int8


def q8_0(weight: torch.Tensor) -> torch.Tensor:
    """(out, in) numbers as (out, in / 32 * 34) bytes."""
    blocks = weight.float().reshape(-1, BLOCK)
    scale = (blocks.abs().amax(dim=1, keepdim=True) / 127).half()
    whole = (blocks / scale.float().clamp_min(1e-8)).round().clamp(-127, 127).to(torch.int8)
    return torch.cat([scale.view(torch.uint8), whole.view(torch.uint8)], dim=1).reshape(len(weight), -1)


def from_q8_0(raw: torch.Tensor, shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    blocks = raw.reshape(-1, BLOCK + 2)
    return (blocks[:, :2].view(torch.float16).to(dtype) * blocks[:, 2:].view(torch.int8).to(dtype)).reshape(shape)


class GgufTensor(torch.Tensor):
    """Raw bytes that say the shape of the numbers they stand for; plain numbers where `kind` is None."""

    def __new__(cls, raw: torch.Tensor, kind: str | None, meant: torch.Size) -> GgufTensor:  # noqa: ARG004
        return super().__new__(cls, raw)

    def __init__(self, _raw: torch.Tensor, kind: str | None, meant: torch.Size) -> None:
        super().__init__()
        self.kind, self.meant, self.patches = kind, meant, []

    def to(self, *args: Any, **kwargs: Any) -> GgufTensor:
        shifted = super().to(*args, **kwargs)
        shifted.kind, shifted.meant = getattr(self, "kind", None), getattr(self, "meant", shifted.size())
        shifted.patches = list(getattr(self, "patches", []))
        return shifted

    def clone(self, *_args: Any, **_kwargs: Any) -> GgufTensor:
        return self

    def detach(self, *_args: Any, **_kwargs: Any) -> GgufTensor:
        return self

    @property
    def shape(self) -> torch.Size:
        return getattr(self, "meant", self.size())


def gguf_layer(layer: nn.Module) -> None:
    """Turn a Linear of ComfyUI's into one of a GGUF loader, in place: quantised where its rows are whole blocks."""
    import comfy.ops

    class GgufLinear(comfy.ops.manual_cast.Linear):
        def get_weight(self, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
            weight = from_q8_0(tensor.data, tensor.meant, dtype) if tensor.kind else tensor.to(dtype)
            return torch.Tensor(weight) if isinstance(weight, GgufTensor) else weight

        def cast_bias_weight(self, input: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            bias = None if self.bias is None else self.get_weight(self.bias.to(input.device), input.dtype)
            return self.get_weight(self.weight.to(input.device), input.dtype), bias

        def forward_comfy_cast_weights(self, input: torch.Tensor) -> torch.Tensor:
            if self.weight.kind is None:
                out = super().forward_comfy_cast_weights(input)
                return torch.Tensor(out) if isinstance(out, GgufTensor) else out
            return nn.functional.linear(input, *self.cast_bias_weight(input))

    layer.__class__ = GgufLinear
    for name, tensor in list(layer._parameters.items()):
        if tensor is not None:
            packed = name == "weight" and tensor.shape[-1] % BLOCK == 0
            raw = q8_0(tensor) if packed else tensor.detach().clone()
            layer._parameters[name] = nn.Parameter(GgufTensor(raw, "Q8_0" if packed else None, tensor.shape), requires_grad=False)


def gguf_norm(layer: nn.Module) -> None:
    """What such a loader makes of a small layer: the same numbers in its own tensor class, cast at each call."""
    layer.comfy_cast_weights = True
    for name, tensor in list(layer._parameters.items()):
        if tensor is not None:
            layer._parameters[name] = nn.Parameter(GgufTensor(tensor.detach().clone(), None, tensor.shape), requires_grad=False)


def raw_fp8(layer: nn.Module) -> None:
    """Weights in fp8 without a scale, cast at each call: an fp8 checkpoint on a device that cannot compute in it."""
    layer.comfy_cast_weights = True
    layer.weight = nn.Parameter(layer.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)


def held_only() -> set[str]:
    """Formats that ComfyUI keeps packed on this device and computes with as plain numbers, as pick_operations chooses."""
    import comfy.model_management as host

    asked = {"nvfp4": host.supports_nvfp4_compute, "mxfp8": host.supports_mxfp8_compute}
    return {form for form, supported in asked.items() if not supported(host.get_torch_device())}


def quantised(form: str, full_precision: bool = False, product: bool = False) -> Callable[[nn.Module], nn.Module]:
    """Makes ComfyUI's own quantised Linear out of a plain one, through its own loading path. `product`: as on a device that
    computes with it packed, this one or not."""
    import comfy.ops
    from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

    def make(layer: nn.Module) -> nn.Module:
        dtype, weight = layer.weight.dtype, layer.weight.detach().float()
        disabled = set() if product else held_only()
        ops = comfy.ops.mixed_precision_ops({}, dtype, full_precision_mm=full_precision, disabled=disabled)
        fresh = ops.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="cpu", dtype=dtype)
        whole = QuantizedTensor.from_float(weight, QUANT_ALGOS[form]["comfy_tensor_layout"], scale="recalculate")
        state = whole.state_dict("weight")
        state["comfy_quant"] = torch.tensor(list(json.dumps({"format": form}).encode()), dtype=torch.uint8)
        if layer.bias is not None:
            state["bias"] = layer.bias.detach()
        fresh.load_state_dict(state)
        return fresh.requires_grad_(False)

    return make


def linears(module: nn.Module) -> dict[str, nn.Module]:
    return {path: part for path, part in module.named_modules() if isinstance(part, nn.Linear)}


def put(module: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)


def build(entry: Tiny, kind: str, dtype: torch.dtype = torch.float32, product: bool = False) -> Any:
    """A tiny model with all its Linears of that kind, made in inference mode as a loader does: "plain", "fp8", "gguf",
    "offloaded" or a format of ComfyUI's quantised tensors."""
    patcher = build_tiny(entry, dtype)
    module = patcher.model.diffusion_model
    with torch.inference_mode():
        for path, layer in linears(module).items():
            if kind == "gguf":
                gguf_layer(layer)
            elif kind == "fp8":
                raw_fp8(layer)
            elif kind not in ("plain", "offloaded"):
                put(module, path, quantised(kind, product=product)(layer))
        for part in module.modules():
            if kind == "gguf" and isinstance(part, (nn.LayerNorm, nn.RMSNorm)):
                gguf_norm(part)
            elif kind == "offloaded" and hasattr(part, "comfy_cast_weights"):
                part.comfy_cast_weights = True  # as the host marks what does not fit
    return patcher


def weight_of(layer: nn.Module) -> torch.Tensor:
    """A plain copy of the numbers that the layer's weight stands for."""
    weight = layer.weight
    if isinstance(weight, GgufTensor):
        return (
            from_q8_0(weight.data, weight.meant, torch.float32)
            if weight.kind
            else torch.Tensor(weight.data.as_subclass(torch.Tensor))
        )
    return (weight.dequantize() if hasattr(weight, "_qdata") else weight).detach().float().clone()


def plain_twin(entry: Tiny, patcher: Any, dtype: torch.dtype = torch.float32) -> Any:
    """The same model with every weight as the plain numbers that it stands for: the oracle."""
    twin = build_tiny(entry, dtype)
    with torch.inference_mode():
        for path, layer in linears(twin.model.diffusion_model).items():
            layer.weight.copy_(weight_of(patcher.model.diffusion_model.get_submodule(path)))
    return twin
