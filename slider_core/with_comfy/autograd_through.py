"""What a loaded ComfyUI model needs before autograd can run through it, and all of it put back afterwards.

1. A graph runs under inference mode, whose tensors autograd refuses to save: each is seen through a new view of the same
   memory while the model is borrowed, and the old objects are back afterwards. Nothing is copied. Layers that cast their
   weights (autograd_frozen.py) are kept out of the graph.
2. `model_management.in_training` turns fused kernels and in-place operations off, where a model asks for it.
3. Some models call comfy_kitchen's rotary kernels without asking; these have no gradient, so its plain versions stand in.
4. Attention without a gradient (sage, flash, 8 bit; the host's choice or a user's patch) gives way to torch's own.
5. The stop button is heard at every block, forward and backward.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakSet

import comfy.ldm.modules.attention as attention
import comfy.model_management
import comfy.quant_ops
import torch
from comfy.patcher_extension import CallbacksMP
from comfy.weight_adapter.bypass import BypassForwardHook
from torch import nn

from ..layers.blocks import blocks
from .autograd_frozen import frozen, frozen_layers, normal, replaced

OVERRIDE = "optimized_attention_override"  # transformer_options key: a user's own attention
DIFFERENTIABLE = ("attention_basic", "attention_sub_quad", "attention_split", "attention_pytorch", "attention_xformers")
RESIDENT = ("_v_weight", "_v_bias")  # dynamic VRAM's own: what a layer has on the GPU at the moment
# Users' own attention functions that gave no gradient once, for as long as they live: they are not tried at every call.
_WITHOUT_GRADIENT: WeakSet[Callable[..., Any]] = WeakSet()


def bypass_loras(module: nn.Module) -> Iterator[Any]:
    """The layers' LoRAs of ComfyUI's bypass loader that are in force on `module`: each stands in the place of a forward."""
    for part in module.modules():
        hook = getattr(part.__dict__.get("forward"), "__self__", None)
        while isinstance(hook, BypassForwardHook):
            yield hook
            hook = getattr(hook.original_forward, "__self__", None)


def _normal_inside(value: Any) -> Any:
    """A tensor, or a tuple or list with tensors somewhere in it, as autograd may save it."""
    if isinstance(value, (tuple, list)):
        return type(value)(_normal_inside(part) for part in value)
    return normal(value) if isinstance(value, torch.Tensor) and value.is_inference() else value


def _replacements(
    module: nn.Module, device: torch.device, untouched: Collection[nn.Module]
) -> tuple[list[tuple[Any, str, Any]], list[torch.Tensor]]:
    """What takes the place of tensors that autograd may not save, and the tensors that are to be frozen meanwhile."""
    replacements: list[tuple[Any, str, Any]] = []
    trainable: list[torch.Tensor] = []
    for part in module.modules():
        if part in untouched:
            continue
        for entries in (part._parameters, part._buffers, part.__dict__):
            for key, tensor in _tensors(entries).items():
                casts = entries is part._parameters and hasattr(part, "comfy_cast_weights")
                if casts and tensor.device.type != device.type:
                    replacements.append((entries, key, _copied(tensor, device)))
                elif tensor.is_inference():
                    replacements.append((entries, key, normal(tensor)))
                elif tensor.requires_grad:
                    trainable.append(tensor)
    for hook in bypass_loras(module):
        weights = hook.adapter.__dict__.get("weights")
        replacements.append((hook.adapter.__dict__, "weights", _normal_inside(weights)))
    return replacements, trainable


@contextmanager
def normal_tensors(module: nn.Module, device: torch.device, untouched: Collection[nn.Module]) -> Iterator[None]:
    """Within the block autograd may save the weights of `module`; they stay frozen and in place. The old objects come back.

    A small layer's weight that lies outside `device` is copied there. Layers in `untouched` are left as they are.
    """
    replacements, trainable = _replacements(module, device, untouched)
    with replaced(replacements), ExitStack() as restore:
        for parameter in trainable:
            parameter.requires_grad_(False)
            restore.callback(parameter.requires_grad_, True)
        yield


def _copied(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    copy = nn.Parameter(tensor.detach().to(device), requires_grad=False)
    copy.__dict__.update(tensor.__dict__)
    return copy


@contextmanager
def interruptible(module: nn.Module) -> Iterator[None]:
    """Within the block the stop button ends a forward or a backward pass at the next block of `module`, not only a step."""
    check = comfy.model_management.throw_exception_if_processing_interrupted

    def before(_block: nn.Module, _args: object) -> None:
        check()

    def after(_block: nn.Module, _args: object, output: object) -> None:
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
                tensor.register_hook(lambda _gradient: check())
                return

    with ExitStack() as stack:
        for block in blocks(module):
            stack.callback(block.register_forward_pre_hook(before).remove)
            stack.callback(block.register_forward_hook(after).remove)
        yield


@contextmanager
def nothing_left_behind(module: nn.Module) -> Iterator[None]:
    """Tensors that a model's forward leaves on the model as plain attributes go afterwards: they may hold a graph."""
    attributes = [(part.__dict__, _tensors(part.__dict__)) for part in module.modules()]
    try:
        yield
    finally:
        for entries, before in attributes:
            for key in _tensors(entries).keys() - before.keys():
                del entries[key]
            entries.update(before)


def _tensors(entries: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors among a module's attributes, but for those that the host manages by itself."""
    return {key: value for key, value in entries.items() if isinstance(value, torch.Tensor) and key not in RESIDENT}


def plain_kernels() -> list[tuple[Any, str, Any]]:
    """comfy_kitchen's rotary kernels with its own plain torch versions, which have a gradient, for `replaced`."""
    kitchen = getattr(comfy.quant_ops, "ck", None)
    if kitchen is None:  # ComfyUI runs without the package: everything is plain already
        return []
    from comfy_kitchen.backends.eager import rope

    names = [n for n in dir(rope) if "rope" in n and not n.startswith("_") and callable(getattr(kitchen, n, None))]
    return [(kitchen, name, getattr(rope, name)) for name in names]


def forget_prompts(module: nn.Module) -> None:
    """HiDream-O1 keeps its prompt's keys and values between calls, whatever was patched or hooked since: drop them."""
    clear = getattr(module, "clear_kv_cache", None)
    if clear is not None:
        clear()


def without_memory(patcher: Any) -> Any:
    """The same MODEL, made to forget prompts before and after each sampling: what it patches must not reach another run."""
    if hasattr(patcher.model.diffusion_model, "clear_kv_cache"):
        for moment in (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP):
            patcher.add_callback(moment, lambda running: forget_prompts(running.model.diffusion_model))
    return patcher


def attention_with_gradient() -> list[tuple[Any, str, Any]]:
    """torch's attention in every model of ComfyUI, where the host's own choice has no gradient, for `replaced`."""
    chosen = attention.optimized_attention
    if chosen.__name__ in DIFFERENTIABLE:
        return []
    entries: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if name.startswith("comfy.") and module is not None:
            names = [n for n in ("optimized_attention", "optimized_attention_masked") if vars(module).get(n) is chosen]
            entries += [(module, n, attention.attention_pytorch) for n in names]
    return entries


def attention_override(users: Callable[..., torch.Tensor] | None) -> dict[str, Callable[..., torch.Tensor]]:
    """Entries for transformer_options that let a user's own attention train: torch's takes over where it gives no gradient."""
    if users is None:
        return {}

    def with_gradient(function: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> torch.Tensor:
        learning = torch.is_grad_enabled() and any(t.requires_grad for t in args[:3] if isinstance(t, torch.Tensor))
        out = None if users in _WITHOUT_GRADIENT else users(function, *args, **kwargs)
        if out is not None and (out.requires_grad or not learning):
            return out
        _WITHOUT_GRADIENT.add(users)
        return attention.attention_pytorch(*args, **kwargs)

    return {OVERRIDE: with_gradient}


@contextmanager
def autograd_through(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block gradients can be recorded through `module`, a diffusion model loaded for `device`. All is put back."""
    layers = frozen_layers(module, device)
    switches = (
        # turns in-place operations and fused kernels off
        replaced([(comfy.model_management, "in_training", True)]),
        replaced(plain_kernels()),
        replaced(attention_with_gradient()),
        nothing_left_behind(module),
        normal_tensors(module, device, set(layers.values())),
        frozen(layers),
        interruptible(module),
    )
    with torch.inference_mode(False), ExitStack() as stack:
        for switch in switches:
            stack.enter_context(switch)
        yield
