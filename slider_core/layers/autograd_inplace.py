"""In-place operations of a model that was written for inference, survived by autograd."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode


class _WithoutOut(TorchFunctionMode):
    """`f(..., out=x)` as `x.copy_(f(...))`: autograd has no gradient for the first. A backward runs outside of it."""

    depth = 0

    def __enter__(self) -> _WithoutOut:
        _WithoutOut.depth += 1
        return super().__enter__()

    def __exit__(self, *fault: Any) -> None:
        _WithoutOut.depth -= 1
        super().__exit__(*fault)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        out = kwargs.pop("out", None)
        if not isinstance(out, torch.Tensor):
            return func(*args, **kwargs) if out is None else func(*args, out=out, **kwargs)
        return out.copy_(func(*args, **kwargs))


class _Saved:
    """A tensor that autograd has saved; its own copy once the model is about to change it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.version = tensor, tensor._version


class _CopyBeforeChange(TorchDispatchMode):
    """Copies saved tensors before an operation writes into their memory.

    torch has this as allow_mutation_on_saved_tensors, but up to 2.14 it takes a new tensor that lies where a changed one lay
    for that one, and so now and then gives the old values: a wrong gradient without a word.
    """

    def __init__(self) -> None:
        super().__init__()
        self.saved: dict[int, weakref.WeakSet[_Saved]] = {}  # by address of the memory
        self.writes: dict[Any, list[tuple[int, str]]] = {}  # operation -> which arguments it writes into

    def save(self, tensor: torch.Tensor) -> _Saved:
        here = self.saved.setdefault(tensor.untyped_storage().data_ptr(), weakref.WeakSet())
        for known in here:
            if known.tensor is tensor and known.version == tensor._version:
                return known
        fresh = _Saved(tensor)
        here.add(fresh)
        return fresh

    def _keep(self, changing: Any) -> None:
        for tensor in changing if isinstance(changing, (tuple, list)) else (changing,):
            if isinstance(tensor, torch.Tensor):
                for known in self.saved.pop(tensor.untyped_storage().data_ptr(), ()):
                    known.tensor = known.tensor.clone()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in self.writes:
            arguments = enumerate(func._schema.arguments)
            self.writes[func] = [(i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write]
        for place, name in self.writes[func]:
            self._keep(args[place] if place < len(args) else kwargs.get(name))
        return func(*args, **kwargs)


@contextmanager
def forgiving(on: bool) -> Iterator[None]:
    """Around a forward and its backward: with `on`, in-place changes of saved tensors are allowed and harmless."""
    if not on:
        yield
        return
    keeper = _CopyBeforeChange()
    with torch.autograd.graph.saved_tensors_hooks(keeper.save, lambda saved: saved.tensor), keeper, _WithoutOut():
        yield


def complains(fault: RuntimeError) -> bool:
    """Whether autograd refused what the model does in place."""
    return any(words in str(fault) for words in ("inplace operation", "in-place operation", "functions with out="))
