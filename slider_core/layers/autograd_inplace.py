"""In-place operations of a model that was written for inference, survived by autograd."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass


def storages(tensor: torch.Tensor) -> Iterator[torch.UntypedStorage]:
    """The memory of a tensor; of a quantised one, which has none of its own, that of the tensors inside."""
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from storages(getattr(tensor, name))
    else:
        yield tensor.untyped_storage()


class WithoutOut(TorchFunctionMode):
    """`f(..., out=x)` as `x.copy_(f(...))`: autograd has no gradient for the first. A backward runs outside of it."""

    depth = 0

    def __enter__(self) -> WithoutOut:
        WithoutOut.depth += 1
        return super().__enter__()

    def __exit__(self, *fault: Any) -> None:
        WithoutOut.depth -= 1
        super().__exit__(*fault)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        out = kwargs.get("out")
        if not isinstance(out, torch.Tensor):
            return func(*args, **kwargs)
        return out.copy_(func(*args, **{name: value for name, value in kwargs.items() if name != "out"}))


class _Saved:
    """A tensor that autograd has saved; its own copy once the model is about to change it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.original = weakref.ref(tensor)
        self.tensor = tensor.detach()  # what an operation saves of its own output would hold the graph that holds it
        self.version = tensor._version


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
        for storage in storages(tensor):
            for saved in self.saved.get(storage.data_ptr(), ()):
                if saved.original() is tensor and saved.version == tensor._version:
                    return saved
        saved = _Saved(tensor)
        for storage in storages(tensor):
            self.saved.setdefault(storage.data_ptr(), weakref.WeakSet()).add(saved)
        return saved

    def _copy_saved(self, changing: Any) -> None:
        """Copies of what is saved in the memory of a tensor, or of several, about to be changed."""
        if isinstance(changing, (tuple, list)):
            for tensor in changing:
                self._copy_saved(tensor)
        elif isinstance(changing, torch.Tensor):
            for storage in storages(changing):
                for saved in self.saved.pop(storage.data_ptr(), ()):
                    saved.tensor = saved.tensor.clone()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in self.writes:
            self.writes[func] = _written_arguments(func)
        for place, name in self.writes[func]:
            self._copy_saved(args[place] if place < len(args) else kwargs.get(name))
        # as without this mode: below autograd a tensor subclass is not asked again, so `torch.Tensor(weight)` is a plain tensor
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)


def _written_arguments(operation: Any) -> list[tuple[int, str]]:
    """(place, name) of the arguments that an operation writes into."""
    written = []
    for place, argument in enumerate(operation._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append((place, argument.name))
    return written


@contextmanager
def forgiving(on: bool) -> Iterator[None]:
    """Around a forward and its backward: with `on`, in-place changes of saved tensors are allowed and harmless."""
    if not on:
        yield
        return
    keeper = _CopyBeforeChange()
    with torch.autograd.graph.saved_tensors_hooks(keeper.save, lambda saved: saved.tensor), keeper, WithoutOut():
        yield


def complains(fault: RuntimeError) -> bool:
    """Whether autograd refused what the model does in place."""
    return any(phrase in str(fault) for phrase in ("inplace operation", "in-place operation", "functions with out="))
