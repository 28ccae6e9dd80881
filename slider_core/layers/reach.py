"""Whether a model's calls come by the hooks on its layers, and what is done where they do not.

A host may read a layer's weight itself, in a fused kernel say, and never call the layer: a hook on it is silent then, and the
slider acts on a part of the model only. So hooks are counted, and so are reads of a weight past its layer. A layer that was
neither called nor read has no part in the call; where one was read only, the call is made again, and the change enters by

    1  the host's plain way       what `PLAIN` switches, fused kernels off
    2  the weight itself          a tensor that knows its layer (past_reads.py)
    3  the weight, changed        W + strength * D as plain numbers; all rows of a call must have one strength

What reaches a layer is kept for as long as the model lives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..config.checks import first_of, shown
from . import caches
from .past_reads import Hook, HookedLayer, Reads, numbers_of, recorded, replaced

PLAIN: list[Callable[[], AbstractContextManager[None]]] = []  # switches of the host's that turn fused kernels off
ALWAYS: list[Callable[[], AbstractContextManager[None]]] = []  # what must be switched off whenever hooks must be called
OTHER = 1.5  # times a weight: another one, in a trial
NAMED = 4  # layers in a message


@dataclass
class Ways:
    """What is known of a model: how its layers are reached where hooks on them are not enough."""

    idle: set[nn.Module] = field(default_factory=set)  # layers left out of a call whose weights are only looked at
    outside: set[nn.Module] = field(default_factory=set)  # layers that are called between the model's calls only
    plain: bool = False
    trying: bool = False  # a call is made again: whichever slider's hooks see it
    by_weight: set[nn.Module] = field(default_factory=set)
    changed: set[nn.Module] = field(default_factory=set)


_WAYS: WeakKeyDictionary[nn.Module, Ways] = WeakKeyDictionary()


def ways_of(module: nn.Module) -> Ways:
    return _WAYS.setdefault(module, Ways())


def note(module: nn.Module) -> str:
    """Sentences that name the layers which the host passes by; empty where every hook is called."""
    ways = ways_of(module)
    sentences = [_way_note(module, ways)]
    silent = ways.outside - ways.by_weight - ways.changed
    if silent:
        sentences.append(f"{names(module, silent)}: a part of the prompt's encoding, on which a slider cannot train.")
    return " ".join(filter(None, sentences))


def _way_note(module: nn.Module, ways: Ways) -> str:
    layers = ways.by_weight | ways.changed
    if layers:
        how = "changed weights, one strength at a time" if ways.changed else "their weights"
        return f"ComfyUI reads {names(module, layers)} past the layers themselves: the slider reaches them by {how}."
    return "ComfyUI's fused kernels pass some layers by: they are off while this slider acts." if ways.plain else ""


def names(module: nn.Module, layers: set[nn.Module] | frozenset[nn.Module]) -> str:
    """The first paths of some layers, for a message."""
    paths = [f'"{shown(path)}"' for path, layer in module.named_modules() if layer in layers]
    return first_of(paths, NAMED)


class Reach:
    """Hooks on layers of a model, and the ways by which every call of it comes by them."""

    def __init__(self, module: nn.Module, hooks: Sequence[tuple[nn.Module, Hook]]) -> None:
        self.module = module
        self.ways = ways_of(module)
        self.layers: dict[nn.Module, HookedLayer] = {}
        for layer, hook in hooks:
            self.layers.setdefault(layer, HookedLayer(layer)).hooks.append(hook)
        self.before_call: set[nn.Module] = set()
        self.reads: dict[nn.Module, Reads] = {}
        self.count = 0  # rows of the call
        self.stack = ExitStack()  # of the block
        self.call = ExitStack()  # of the call that runs
        self.watch = caches.Watch(module)
        self.installed: set[nn.Module] = set()

    def install(self) -> None:
        """What is known to be needed for the whole block."""
        for layer in self.ways.by_weight - self.installed:
            if layer in self.layers:
                self.installed.add(layer)
                self.stack.enter_context(self.layers[layer].by_weight())

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A call of the model begins. The strengths of its rows are known already."""
        self.count = len(batch_of(args, kwargs))
        for layer, hooked in self.layers.items():
            if hooked.rows and not hooked.acted:
                self.before_call.add(layer)
            hooked.rows = 0
            self.reads[layer] = self.call.enter_context(recorded(hooked))
        switches = [*ALWAYS, *PLAIN] if self.ways.plain else ALWAYS
        for switch in switches:
            self.call.enter_context(switch())
        for layer in self.ways.changed:
            if layer in self.layers:
                self.call.enter_context(self.layers[layer].by_change())
        if not self.ways.trying:
            self.watch.begin()

    def leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """It has ended: with an output to be put in its place where layers or a cache were passed by."""
        self.call.close()
        if self.ways.trying:
            return None
        try:
            return None if output is None else self._made_again(module, args, kwargs)
        finally:
            for hooked in self.layers.values():
                hooked.rows = 0

    def _made_again(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Nothing where the hooks of every layer were called; else the output of the call, made again."""
        untried = self.watch.end()
        missed = self._missed()
        self.ways.outside |= self.before_call & missed
        read = frozenset(layer for layer in missed if self.reads[layer].read)  # else it has no part in this call
        again = False
        if untried:
            again = caches.try_out(module, untried, lambda: self._try(args, kwargs))
        if read - self.ways.idle:
            again = self._find_way(read, args, kwargs) or again
        return self._again(args, kwargs) if again else None

    def _missed(self) -> frozenset[nn.Module]:
        """The layers that fewer rows came by than the call has."""
        return frozenset(layer for layer, hooked in self.layers.items() if hooked.rows < self.count)

    def _again(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        caches.forget(self.module)
        self.ways.trying = True
        try:
            return self.module(*args, **kwargs)
        finally:
            self.ways.trying = False

    @torch.no_grad()
    def _try(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._again(args, kwargs)

    def _find_way(self, left: frozenset[nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether these layers, whose weights are read past them, act; then with the ways that reach them in force."""
        way_found = False
        for way in (self._plainly, self._by_weight):
            if left and way(left):
                self._try(args, kwargs)
                reached = left - self._missed()
                way_found = way_found or bool(reached)
                if not reached and way == self._plainly:
                    self.ways.plain = False
                left -= reached
        self.ways.by_weight -= left
        if left and self._acts(left, args, kwargs):
            self.ways.changed |= left
            return True
        self.ways.idle |= left
        return way_found

    def _acts(self, layers: frozenset[nn.Module], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Whether another weight gives another output."""
        entries = []
        for layer in layers:
            weight = numbers_of(cast(torch.Tensor, layer._parameters["weight"]))
            if weight.is_floating_point() and type(weight) in (torch.Tensor, nn.Parameter):
                entries.append((layer._parameters, "weight", (OTHER * weight.float()).to(weight.dtype)))
        before = self._try(args, kwargs)
        with replaced(entries):
            after = self._try(args, kwargs)
        return any(not torch.equal(one, other) for one, other in zip(_outputs(before), _outputs(after), strict=True))

    def _plainly(self, _layers: frozenset[nn.Module]) -> bool:
        before = self.ways.plain
        self.ways.plain = bool(PLAIN)
        return self.ways.plain and not before

    def _by_weight(self, layers: frozenset[nn.Module]) -> bool:
        self.ways.by_weight |= layers
        self.install()
        return True


def batch_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """The noised latents of a model's call; of several streams, sound and video, the first."""
    first = args[0] if args else kwargs["x"]
    return first[0] if isinstance(first, (list, tuple)) else first


def _outputs(output: Any) -> list[torch.Tensor]:
    return list(output) if isinstance(output, (list, tuple)) else [output]


@contextmanager
def reached(module: nn.Module, hooks: Sequence[tuple[nn.Module, Hook]]) -> Iterator[Reach]:
    """Forward hooks on layers of `module` for the length of the block, which every call of it comes by."""
    reach = Reach(module, hooks)
    with reach.stack as stack, reach.call:
        stack.callback(module.register_forward_pre_hook(reach.see, with_kwargs=True).remove)
        stack.callback(module.register_forward_hook(reach.leave, always_call=True, with_kwargs=True).remove)
        for layer, hooked in reach.layers.items():
            stack.callback(layer.register_forward_pre_hook(hooked.before).remove)
            stack.callback(layer.register_forward_hook(hooked.after, always_call=True).remove)
        reach.install()
        yield reach
