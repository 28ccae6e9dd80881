"""What a model keeps from one call to the next besides its weights: keys and values of a prompt, above all.

They are of the strength at which they were computed, so they must go when it changes. No list of models says where they lie:
an attribute that was empty before a call and holds tensors after it is such a cache, and so is one that a trial call fills
again after it was emptied. Methods of the model that say so by their name (`clear_kv_cache`) are called as well.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

CLEARS = re.compile(r"^(clear|reset|empty|flush|forget)_\w*cache\w*$")
DEPTH = 3  # of containers and objects in which tensors are looked for
CLOSE_LOOKS = 4  # first calls of a model, in each block that watches it, at which its attributes are looked through
TRIALS = 8  # attributes that are emptied for a trial, at most
OWN = frozenset(nn.Module().__dict__)  # torch's: parameters, buffers, modules; hooks and flags hold no tensors
Place = tuple[nn.Module, str]
_CALLS: ContextVar[int] = ContextVar("calls", default=0)


@dataclass
class _Caches:
    empty: dict[Place, Any] = field(default_factory=dict)  # where, and what stands there when nothing is kept
    constants: set[Place] = field(default_factory=set)  # places that hold tensors which no call brings back


_KNOWN: WeakKeyDictionary[nn.Module, _Caches] = WeakKeyDictionary()


def _known(module: nn.Module) -> _Caches:
    return _KNOWN.setdefault(module, _Caches())


def _holds_tensors(value: Any, depth: int = DEPTH) -> bool:
    if isinstance(value, torch.Tensor):
        return True
    if depth == 0 or isinstance(value, (nn.Module, type, str, int, float, torch.dtype, torch.device)) or value is None:
        return False
    if isinstance(value, dict):
        inner = list(value.values())
    elif isinstance(value, (list, tuple, set)):
        inner = list(value)
    else:
        inner = list(getattr(value, "__dict__", {}).values())
    return any(_holds_tensors(part, depth - 1) for part in inner)


def _parts(module: nn.Module) -> list[nn.Module]:
    """Of a model, without its layers: what these hold is the host's."""
    return [part for part in module.modules() if part._modules or not part._parameters]


def _full(parts: Sequence[nn.Module]) -> dict[Place, Any]:
    """The plain attributes of a model's parts that hold tensors."""
    places = {}
    for part in parts:
        for name in part.__dict__.keys() - OWN:
            value = part.__dict__[name]
            if not callable(value) and _holds_tensors(value):
                places[part, name] = value
    return places


def _emptied(value: Any) -> Any:
    return type(value)() if type(value) in (list, dict, tuple, set) else None


def _put(place: Place, value: Any) -> None:
    part, name = place
    now = part.__dict__.get(name)
    if isinstance(now, (list, dict, set)) and type(now) is type(value) and not value:
        now.clear()  # others may hold the same one
    else:
        part.__dict__[name] = value


@contextmanager
def watched_as(call: int) -> Iterator[None]:
    """Within the block a `Watch` that begins counts its first call as this one, from 1: for blocks of one call each."""
    token = _CALLS.set(call - 1)
    try:
        yield
    finally:
        _CALLS.reset(token)


class Watch:
    """Looks through a model's attributes before and after its first calls within one block, and then ever more rarely: in a
    large model a look takes tens of milliseconds."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.calls = _CALLS.get()
        self.parts: list[nn.Module] = []
        self.before: dict[Place, Any] | None = None

    def begin(self) -> None:
        self.calls += 1
        power_of_two = self.calls & (self.calls - 1) == 0
        self.before = None
        if self.calls <= CLOSE_LOOKS or power_of_two:
            self.parts = _parts(self.module)
            self.before = _full(self.parts)

    def end(self) -> list[Place]:
        """Attributes with tensors of which it is not known whether they are caches or constants, where it was looked."""
        if self.before is None:
            return []
        caches = _known(self.module)
        full = _full(self.parts)
        for place, value in full.items():
            if place not in self.before and place not in caches.empty:
                caches.empty[place] = _emptied(value)
        self.before = None
        return [place for place in full if place not in caches.constants and place not in caches.empty][:TRIALS]


def try_out(module: nn.Module, untried: Sequence[Place], call: Callable[[], Any]) -> bool:
    """Find out which of these attributes, which hold tensors, are caches: those that `call()`, a call of the model, fills again.
    Whether there were any."""
    caches = _known(module)
    found = len(caches.empty)
    for place in untried:
        part, name = place
        value = part.__dict__[name]
        part.__dict__[name] = _emptied(value)
        refilled = False
        try:
            with suppress(Exception):
                call()
                refilled = _holds_tensors(part.__dict__.get(name))
        finally:  # the stop button is no Exception
            if not refilled:
                part.__dict__[name] = value
        if refilled:
            caches.empty[place] = _emptied(value)
        else:
            caches.constants.add(place)
    return len(caches.empty) > found


_METHODS: WeakKeyDictionary[nn.Module, list[tuple[Any, str]]] = WeakKeyDictionary()


def _needs_nothing(method: Any) -> bool:
    """Whether a method can be called with its object alone."""
    if not inspect.isfunction(method):
        return False
    parameters = list(inspect.signature(method).parameters.values())[1:]
    open_kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return all(p.default is not inspect.Parameter.empty or p.kind in open_kinds for p in parameters)


def _methods(module: nn.Module) -> list[Any]:
    """The methods of a model and its parts that clear a cache, looked for once."""
    names: dict[type, list[str]] = {}
    if module not in _METHODS:
        found = []
        for part in module.modules():
            kind = type(part)
            if kind not in names:
                names[kind] = [name for name in dir(kind) if CLEARS.match(name) and _needs_nothing(getattr(kind, name))]
            found += [(part, name) for name in names[kind]]
        _METHODS[module] = found
    return [getattr(part, name) for part, name in _METHODS[module]]


def forget(module: nn.Module) -> None:
    """Drop what a model keeps of earlier calls."""
    for clear in _methods(module):
        clear()
    for place, empty in _known(module).empty.items():
        if _holds_tensors(place[0].__dict__.get(place[1])):
            _put(place, empty)
