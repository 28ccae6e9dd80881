"""Layers whose weights are not what they compute with: quantised, in another number format, patched on the fly, outside the GPU.

Such a layer makes the weight it computes with anew at every call, and autograd would keep each of these until the backward: a
whole model in full size. ComfyUI also lends them out of buffers that the next layer overwrites. So nothing is kept: the
layer's own forward runs without a graph, as it does in a sampler, and the backward makes the weight once more, by the host's
own cast, LoRA patches included:

    Linear        dL/dx = dL/dy W
    convolution   dL/dx = dL/dy * W, transposed (torch's convolution_backward)

For a quantised layer that rounds its input too (fp8) that is the gradient at the rounded input: rounding itself has none.
Both run in inference mode, because the host's buffers were made in it and may be written to nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import comfy.ops
import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..config.checks import SliderError
from ..layers.layer import is_linear
from ..layers.past_reads import replaced
from .assumptions import piece

QuantizedTensor = piece("comfy.quant_ops:QuantizedTensor")
BypassForwardHook = piece("comfy.weight_adapter.bypass:BypassForwardHook")
PLAIN = (torch.Tensor, nn.Parameter)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
CASTING = ("comfy_cast_weights", "weight_function", "bias_function")  # attributes of ComfyUI's layers that cast


def normal(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as a tensor that autograd may save, of the same class. Call outside inference mode."""
    view = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    view.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())
    if type(tensor) not in PLAIN:
        view = view.as_subclass(type(tensor))
    elif isinstance(tensor, nn.Parameter):
        view = nn.Parameter(view, requires_grad=False)
    view.__dict__.update(tensor.__dict__)
    return view


def _tensors(layer: nn.Module) -> list[torch.Tensor]:
    return [t for t in layer._parameters.values() if t is not None]


def _ready(layer: nn.Module, device: torch.device) -> bool:
    """Whether a layer computes with its tensors as they lie."""
    casts = any(getattr(layer, name, None) for name in CASTING)
    return not casts and all(type(t) in PLAIN and t.device.type == device.type and t.is_floating_point() for t in _tensors(layer))


def _castable(layer: nn.Module) -> bool:
    """Whether it is known how the layer makes the weight that it computes with."""
    casts = isinstance(layer, comfy.ops.CastWeightBiasOp) or hasattr(layer, "cast_bias_weight")
    return casts and (is_linear(layer) or isinstance(layer, (*CONVOLUTIONS, nn.Embedding)))


def _unreadable(layer: nn.Module) -> bool:
    """Whether a layer without a known cast holds numbers that only its own kernels can read."""
    return any(is_traceable_wrapper_subclass(t) or not (t.is_floating_point() or t.is_complex()) for t in _tensors(layer))


def frozen_layers(module: nn.Module, device: torch.device) -> dict[str, nn.Module]:
    """The layers of `module` that must not be seen by autograd, by path. SliderError for one whose weight cannot be made."""
    frozen = {}
    for path, layer in module.named_modules():
        if not _tensors(layer) or _ready(layer, device):
            continue
        if _castable(layer):
            frozen[path] = layer
        elif _unreadable(layer):
            raise SliderError(
                f'The layer "{path}" ({type(layer).__name__}) keeps its weights in a way of its own, which cannot be trained '
                "through: load the model as fp16, bf16, fp8 or GGUF.",
                "model.weights",
            )
    return frozen


def _forward_of(layer: nn.Module, path: str) -> tuple[dict[str, Any], str]:
    """Where the layer's own forward is looked up: on the layer, or on a bypass LoRA that took its place there."""
    holder: Any = layer
    name = "forward"
    while isinstance(hook := getattr(holder.__dict__.get(name), "__self__", None), BypassForwardHook):
        holder = hook
        name = "original_forward"
    if holder is layer and name in layer.__dict__:
        message = f'Something has replaced the forward of the layer "{path}": it cannot be trained through as it lies.'
        raise SliderError(message, "model.forward_replaced")
    return holder.__dict__, name


@contextmanager
def _weight(layer: nn.Module, like: torch.Tensor) -> Iterator[torch.Tensor]:
    """The weight that the layer computes with, in `like`'s number format; lent for the length of the block."""
    cast = getattr(layer, "cast_bias_weight", None)
    if cast is not None:  # the layers of GGUF loaders
        yield cast(like)[0]
        return
    with comfy.ops.CastBiasWeightContext(layer, like, offloadable=True) as (weight, _bias):
        if isinstance(weight, QuantizedTensor):
            weight = weight.dequantize()
        yield weight.to(like.dtype)


def _back_linear(layer: nn.Module, grad: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    grad = grad @ weight
    scale = getattr(layer, "pre_quant_scale", None)
    return grad if scale is None else grad * scale.to(grad)


def _back_conv(
    layer: Any, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size, choices: Mapping[str, Any]
) -> torch.Tensor:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):  # by torch's own graph of one convolution
        with torch.inference_mode(False), torch.enable_grad():
            x = grad.new_zeros(shape, requires_grad=True)
            return torch.autograd.grad(layer._conv_forward(x, normal(weight), None), x, grad)[0]
    if choices.get("autopad") == "causal_zero":  # as the host's Conv3d has it
        weight = weight[:, :, -shape[2] :]
    x = grad.new_empty(1).expand(shape)  # its numbers do not matter
    window = layer.stride, layer.padding, layer.dilation, layer.transposed, layer.output_padding, layer.groups
    return torch.ops.aten.convolution_backward(grad, x, weight, None, *window, (True, False, False))[0]


class _Frozen(torch.autograd.Function):
    """The layer without a graph; its weight made again for the backward. Saves no tensor."""

    @staticmethod
    def forward(ctx: Any, call: FrozenForward, x: torch.Tensor, choices: Mapping[str, Any]) -> torch.Tensor:
        ctx.layer = call.layer
        ctx.shape = x.shape
        ctx.dtype = x.dtype
        ctx.choices = choices
        return call.run(x.detach(), choices)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        with torch.inference_mode(), _weight(ctx.layer, grad) as weight:
            if is_linear(ctx.layer):
                grad = _back_linear(ctx.layer, grad, weight)
            else:
                grad = _back_conv(ctx.layer, grad, weight, ctx.shape, ctx.choices)
            grad = grad.to(ctx.dtype)
        return None, normal(grad), None


class FrozenForward:
    """Takes the place of a layer's own forward. Hooks on the layer see inputs and outputs as ever, in the graph."""

    def __init__(self, layer: nn.Module, forward: Any) -> None:
        self.layer = layer
        self.forward = forward

    def run(self, x: torch.Tensor, choices: Mapping[str, Any]) -> torch.Tensor:
        if isinstance(self.layer, comfy.ops.fp8_ops.Linear):
            x = x.clone()  # it clamps what it is given, in place
        with torch.inference_mode():
            out = self.forward(x, **choices)
        return normal(out.as_subclass(torch.Tensor))

    def __call__(self, x: torch.Tensor, **choices: Any) -> torch.Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            return _Frozen.apply(self, x, choices)
        return self.run(x, choices)


def frozen(layers: Mapping[str, nn.Module]) -> AbstractContextManager[None]:
    """Within the block autograd sees none of the weights of these layers. Their forwards are back afterwards."""
    entries = []
    for path, layer in layers.items():
        attributes, name = _forward_of(layer, path)
        entries.append((attributes, name, FrozenForward(layer, attributes.get(name) or layer.forward)))
    return replaced(entries)
