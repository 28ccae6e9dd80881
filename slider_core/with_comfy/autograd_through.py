"""What a loaded ComfyUI model needs before autograd can run through it, and all of it put back afterwards.

1. A graph runs under inference mode, whose tensors autograd refuses to save: each is seen through a new view of the same
   memory while the model is borrowed, and the old objects are back afterwards. Nothing is copied. Layers that cast their
   weights (autograd_frozen.py) are kept out of the graph.
2. `model_management.in_training` turns fused kernels and in-place operations off, where a model asks for it.
3. Some models call comfy_kitchen's kernels without asking; none has a gradient, so its plain versions stand in.
4. Attention that gives no gradient (the host's choice, a checkpoint's, a user's patch) gives way to torch's own.
5. The stop button is looked at in every block, forward and backward.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from inspect import isfunction
from typing import Any
from weakref import WeakSet

import comfy.cli_args
import comfy.ldm.modules.attention as attention
import comfy.model_management
import comfy.quant_ops
import torch
from comfy.patcher_extension import CallbacksMP
from torch import nn

from ..config.checks import need
from ..layers import reach
from ..layers.blocks import blocks
from ..layers.caches import forget
from ..layers.past_reads import replaced
from .autograd_frozen import BypassForwardHook, frozen, frozen_layers, normal

OVERRIDE = "optimized_attention_override"  # transformer_options key: a user's own attention
RESIDENT = ("_v_weight", "_v_bias")  # dynamic VRAM's own: what a layer has on the GPU at the moment
# Attention functions that gave no gradient once, for as long as they live: they are not tried at every call.
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
                    replacements.append((entries, key, _copied(part, key, tensor, device)))
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


def _copied(part: nn.Module, key: str, tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A copy on `device`, with the LoRA that dynamic VRAM lays on a weight on its way there."""
    numbers = tensor.detach().to(device)
    lora = getattr(part, f"{key}_lowvram_function", None)
    if lora is not None:
        numbers = lora(numbers.to(torch.float32, copy=True)).to(tensor.dtype)
    copy = nn.Parameter(numbers, requires_grad=False)
    copy.__dict__.update(tensor.__dict__)
    return copy


@contextmanager
def exact_products() -> Iterator[None]:
    """`--fast fp16_accumulation` adds up in half precision, which a sampler survives and a gradient does not: off meanwhile."""
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, "allow_fp16_accumulation", False)
    if not before:
        yield
        return
    matmul.allow_fp16_accumulation = False
    try:
        yield
    finally:
        matmul.allow_fp16_accumulation = before


@contextmanager
def interruptible(module: nn.Module) -> Iterator[None]:
    """Within the block the stop button ends a forward or a backward pass at the next block of `module`, not only a step."""
    check = comfy.model_management.throw_exception_if_processing_interrupted

    def before(_block: nn.Module, _args: object) -> None:
        check()

    def after(_block: nn.Module, _args: object, output: object) -> None:
        tensors = output if isinstance(output, tuple) else (output,)
        for tensor in tensors:
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


def unfused() -> AbstractContextManager[None]:
    """In-place operations and fused kernels off, where a model asks for it: layers are called that a kernel would read."""
    return replaced([(comfy.model_management, "in_training", True)])


def without_graphs() -> AbstractContextManager[None]:
    """No CUDA graph is replayed: one that was recorded without a slider runs without its hooks."""
    return replaced([(comfy.cli_args.args, "disable_cuda_graphs", True)])


reach.PLAIN.append(unfused)
reach.ALWAYS.append(without_graphs)


def _tensors(entries: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors among a module's attributes, but for those that the host manages by itself."""
    return {key: value for key, value in entries.items() if isinstance(value, torch.Tensor) and key not in RESIDENT}


def _learning(values: Iterable[Any]) -> bool:
    """Whether a graph is asked for of what these arguments give."""
    return torch.is_grad_enabled() and any(isinstance(value, torch.Tensor) and value.requires_grad for value in values)


def plain_kernels() -> list[tuple[Any, str, Any]]:
    """comfy_kitchen's kernels, none of which has a gradient, with its own plain torch versions where one is asked for, for
    `replaced`."""
    kitchen = getattr(comfy.quant_ops, "ck", None)
    if kitchen is None:  # ComfyUI runs without the package: everything is plain already
        return []
    from comfy_kitchen.backends import eager

    plain: dict[str, Any] = {}
    for found in pkgutil.iter_modules(eager.__path__):
        plain |= vars(importlib.import_module(f"{eager.__name__}.{found.name}"))
    return [(kitchen, name, _differentiable(f, plain.get(name))) for name, f in vars(kitchen).items() if isfunction(f)]


def _differentiable(kernel: Callable[..., Any], plain: Callable[..., Any] | None) -> Callable[..., Any]:
    """A kernel that gives way to its plain version where a gradient is asked for; SliderError where it has none and cuts the
    graph. The rotary ones always do: the frozen pass and the trained one, whose difference counts, round alike."""
    rotary = "rope" in kernel.__name__

    @functools.wraps(kernel)
    def call(*args: Any, **kwargs: Any) -> Any:
        learning = _learning([*args, *kwargs.values()])
        if plain is not None and (learning or rotary):
            return plain(*args, **kwargs)
        out = kernel(*args, **kwargs)
        parts = out if isinstance(out, (tuple, list)) else (out,)
        cut = (
            learning
            and any(isinstance(part, torch.Tensor) and part.is_floating_point() for part in parts)
            and not _learning(parts)
        )
        message = f'The kernel "{kernel.__name__}" has no gradient: update comfy-kitchen, or load the model as bf16.'
        need(not cut, message, "model.no_gradient")
        return out

    return call


def without_memory(patcher: Any) -> Any:
    """The same MODEL, made to forget prompts before and after each sampling: what it patches must not reach another run."""
    for moment in (CallbacksMP.ON_PRE_RUN, CallbacksMP.ON_CLEANUP):
        patcher.add_callback(moment, lambda running: forget(running.model.diffusion_model))
    return patcher


def _has_gradient(function: Callable[..., Any], device: torch.device) -> bool:
    """Whether an attention gives a gradient, tried once on a few numbers."""
    if function in _WITHOUT_GRADIENT:
        return False
    out = None
    with torch.inference_mode(False), torch.enable_grad(), suppress(Exception):
        q = torch.zeros(1, 8, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
        out = function(q, q, q, 1)
    if out is None or not out.requires_grad:
        _WITHOUT_GRADIENT.add(function)
    return function not in _WITHOUT_GRADIENT


def attention_with_gradient(device: torch.device) -> list[tuple[Any, str, Any]]:
    """The host's attention in every model of ComfyUI, torch's where it gives no gradient, for `replaced`: some models call it
    without the options that `attention_override` is in."""
    chosen = attention.optimized_attention
    safe = attention.attention_pytorch
    if _has_gradient(chosen, device):
        safe = functools.wraps(chosen)(functools.partial(_attend, None, chosen))
    entries: list[tuple[Any, str, Any]] = []
    for name, module in list(sys.modules.items()):
        if name.startswith("comfy.") and module is not None:
            names = [n for n in ("optimized_attention", "optimized_attention_masked") if vars(module).get(n) is chosen]
            entries += [(module, n, safe) for n in names]
    return entries


def _attend(users: Callable[..., Any] | None, function: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
    """Attention by a user's own function, else by the host's; by torch's where that one gives no gradient."""
    learning = _learning(args[:3])
    chosen = users or function
    if chosen in _WITHOUT_GRADIENT:  # with a graph or without one: what is compared must be computed alike
        return attention.attention_pytorch(*args, **kwargs)
    try:
        out = users(function, *args, **kwargs) if users else function(*args, **kwargs)
    except RuntimeError as fault:
        if not learning or comfy.model_management.is_oom(fault):
            raise
        out = None  # it refuses what has a graph
    if out is not None and (out.requires_grad or not learning):
        return out
    _WITHOUT_GRADIENT.add(chosen)
    return attention.attention_pytorch(*args, **kwargs)


def attention_override(users: Callable[..., torch.Tensor] | None) -> dict[str, Callable[..., torch.Tensor]]:
    """Entries for transformer_options by which every attention trains, the user's own too: it wins over whatever a model or a
    checkpoint has chosen, and torch's takes over where there is no gradient."""
    return {OVERRIDE: functools.partial(_attend, users)}


@contextmanager
def autograd_through(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the block gradients can be recorded through `module`, a diffusion model loaded for `device`. All is put back."""
    layers = frozen_layers(module, device)
    switches = (
        unfused(),
        exact_products(),
        replaced(plain_kernels()),
        replaced(attention_with_gradient(device)),
        nothing_left_behind(module),
        normal_tensors(module, device, set(layers.values())),
        frozen(layers),
        interruptible(module),
    )
    with torch.inference_mode(False), ExitStack() as stack:
        for switch in switches:
            stack.enter_context(switch)
        yield
