"""A training step on torch's `meta` device, where tensors have shapes and no memory: its FLOPs, and every byte until it is freed.

Attention is torch's flash attention (memory-efficient with a mask) and RMS norm the fused one, as on a GPU. Not seen: the CUDA
context, kernels' workspaces but for the float32 query gradient of flash attention, gaps in an allocator.
"""

from __future__ import annotations

import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

META = torch.device("meta")
FLASH_FORMATS = (torch.bfloat16, torch.float16)


def _ones(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    return torch.ones(tensor.shape, dtype=dtype or tensor.dtype)


@contextmanager
def answering() -> Iterator[None]:
    """Numbers asked of meta tensors are 1; their copies on the CPU are ones."""
    kind = torch.Tensor
    moved = kind.to

    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        device = kwargs.get("device") or next((a for a in args if isinstance(a, (torch.device, str))), None)
        if tensor.is_meta and device is not None and torch.device(device).type != "meta":
            return _ones(tensor, kwargs.get("dtype") or next((a for a in args if isinstance(a, torch.dtype)), None))
        return moved(tensor, *args, **kwargs)

    def answer(name: str, one: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
        real = getattr(kind, name)
        return lambda tensor: one(tensor) if tensor.is_meta else real(tensor)

    answers: dict[str, Callable[[torch.Tensor], Any]] = {
        "item": lambda _tensor: 1,
        "__bool__": lambda _tensor: True,
        "__float__": lambda _tensor: 1.0,
        "__int__": lambda _tensor: 1,
        "tolist": lambda tensor: torch.ones(tensor.shape).tolist(),
        "cpu": _ones,
    }
    with ExitStack() as stack:
        for name, one in answers.items():
            stack.enter_context(patch.object(kind, name, answer(name, one)))
        stack.enter_context(patch.object(kind, "to", to))
        yield


def gpu_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    _dropout: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_other: Any,
) -> torch.Tensor:
    """scaled_dot_product_attention by the kernels that a GPU takes."""
    groups = q.shape[-3] // k.shape[-3]
    if groups > 1:
        k, v = k.repeat_interleave(groups, -3), v.repeat_interleave(groups, -3)
    if attn_mask is None and q.dtype in FLASH_FORMATS:
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, 0.0, is_causal, False, scale=scale)[0]
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros_like(attn_mask, dtype=q.dtype)
        attn_mask = attn_mask.to(q.dtype).expand(*q.shape[:3], k.shape[2])
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, attn_mask, True, 0.0, is_causal, scale=scale)[0]


class _FusedNorm(torch.autograd.Function):
    """RMS norm in one kernel: it keeps its input and a number per row."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, x.new_empty(*x.shape[:-1], 1, dtype=torch.float32))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, _grad: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(ctx.saved_tensors[0])


def fused_norm(x: torch.Tensor, *_shape_weight_eps: Any, **_same: Any) -> torch.Tensor:
    return _FusedNorm.apply(x)


@contextmanager
def kernels_of_a_gpu() -> Iterator[None]:
    """Within the block ComfyUI's models attend and normalise as they do on a GPU."""
    import comfy.ldm.modules.attention as attention
    import comfy.ops

    with ExitStack() as stack:
        for holder in (torch.nn.functional, comfy.ops):
            stack.enter_context(patch.object(holder, "scaled_dot_product_attention", gpu_attention))
        for holder in (torch.nn.functional, torch):
            stack.enter_context(patch.object(holder, "rms_norm", fused_norm))
        for name, module in list(sys.modules.items()):
            for function in ("optimized_attention", "optimized_attention_masked"):
                if name.startswith("comfy.") and callable(vars(module).get(function)):
                    stack.enter_context(patch.object(module, function, attention.attention_pytorch))
        yield


class _Place:
    """Memory on the meta device has no address: the object itself tells pieces apart."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self._storage = storage

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def data_ptr(self) -> int:
        return self._storage._cdata


@contextmanager
def memory_told_apart() -> Iterator[None]:
    """The pack's copy-before-change goes by addresses, which are all 0 here."""
    import slider_core.train.memory_estimate  # noqa: F401 - it counts the real ones
    from slider_core.layers import autograd_inplace

    real = autograd_inplace.storages
    with patch.object(autograd_inplace, "storages", lambda tensor: map(_Place, real(tensor))):
        yield


class Counted(TorchDispatchMode):
    """FLOPs by phase, and the bytes on the meta device: now, at the peak of each phase, at the peak of all."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = "other"
        self.flops: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.now = 0
        self._live: dict[int, int] = {}  # bytes by storage
        self._before: set[int] = set()  # storages that were there before: weights, factors, moments

    @property
    def peak(self) -> int:
        return max(self.peaks.values(), default=0)

    def _gone(self, storage: int) -> None:
        self.now -= self._live.pop(storage, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if packet not in flop_registry and torch.is_inference_mode_enabled():
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if packet in flop_registry:
            self.flops[self.phase] += flop_registry[packet](*args, **kwargs, out_val=out)
        inside = args[1].numel() * 4 if "attention_backward" in packet.__name__ else 0  # the kernel's own float32 gradient
        given: set[int] | None = None
        for tensor in tree_leaves(out):
            if not isinstance(tensor, torch.Tensor) or tensor.device.type != "meta":
                continue
            storage = tensor.untyped_storage()
            if storage._cdata in self._live or storage._cdata in self._before:
                continue
            if given is None:
                given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
            if storage._cdata in given:
                self._before.add(storage._cdata)
                continue
            self._live[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._gone, storage._cdata)
        self.peaks[self.phase] = max(self.peaks[self.phase], self.now + inside)
        return out
