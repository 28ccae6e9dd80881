"""What users' nodes have put on a MODEL, as a description that is the same for the same nodes: functions by their name and what
they hold, objects by their class and numbers. Memory addresses, other models and random names do not count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from functools import partial
from inspect import isclass, ismodule
from typing import Any

import torch
from torch import nn

from ..backend import few_numbers

DEPTH = 12  # of closures and objects inside one another
MOST = 64  # entries of a container or object
PLAIN = (str, int, float, bool, bytes, type(None), torch.dtype, torch.device, Enum)
MODELS = ("ModelPatcher", "BaseModel", "CLIP", "VAE")  # classes that are a model of ComfyUI's: not described by what they hold


def described(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Parts of a description, in order."""
    kinds = {kind.__name__ for kind in type(value).__mro__}
    if isinstance(value, PLAIN):
        yield repr(value)
    elif isinstance(value, torch.Tensor):
        yield f"{tuple(value.shape)} {few_numbers(value).hex()}" if value.numel() else "no numbers"
    elif isclass(value) or ismodule(value) or depth == 0 or kinds & set(MODELS):
        yield getattr(value, "__qualname__", type(value).__qualname__)
    elif isinstance(value, dict):
        for key in sorted(value, key=str)[:MOST]:
            yield str(key)
            yield from described(value[key], depth - 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts = sorted(value, key=str) if isinstance(value, (set, frozenset)) else list(value)
        for part in parts[:MOST]:
            yield from described(part, depth - 1)
    else:
        yield from _of_object(value, depth)


def _of_object(value: Any, depth: int) -> Iterator[str]:
    """A function with its defaults and closure, a bound method with its object, or an object with its attributes."""
    yield getattr(value, "__qualname__", type(value).__qualname__)
    if hasattr(value, "__self__"):
        yield from described(value.__self__, depth - 1)
    if hasattr(value, "__code__"):
        yield from described(getattr(value, "__defaults__", None), depth - 1)
        for cell in getattr(value, "__closure__", None) or ():
            with suppress(ValueError):  # a name that the function will be given later
                yield from described(cell.cell_contents, depth - 1)
        return
    if isinstance(value, nn.Module):
        yield from described({**dict(value.named_parameters()), **dict(value.named_buffers())}, depth - 1)
    public = {name: entry for name, entry in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    if isinstance(value, partial):
        yield from described([value.func, value.args, value.keywords], depth - 1)
    yield from described(public, depth - 1)
