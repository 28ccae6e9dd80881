"""A layer with hooks, and the ways past its own forward: a host may read the weight itself, in a fused kernel say.

A weight that knows its layer (`ReadWeight`) stands in for it: F.linear(x, W) is the layer's product and has the hooks applied, a
strength for each row included; in anything else it is W + strength * D as plain numbers, and all rows must have one strength.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ..config.checks import SliderError
from .layer import is_linear

Hook = Callable[[nn.Module, tuple[Any, ...], torch.Tensor], torch.Tensor | None]
PRODUCTS = {functional.linear, functional.conv1d, functional.conv2d, functional.conv3d}
ALL_ROWS = 2**31  # more than a call has: a changed weight is that of every row
KEEPS = {"to", "detach", "contiguous", "requires_grad_", "type_as", "float", "half", "bfloat16", "view_as"}


class Reads(dict[str, Any]):
    """A layer's parameters, which tell when the weight is read past the layer; one for all sliders that are on it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer._parameters)
        self.before = layer._parameters
        self.watched: list[HookedLayer] = []
        self.read = False

    def __getitem__(self, name: str) -> Any:
        self.read = self.read or (name == "weight" and not any(layer.quiet for layer in self.watched))
        return super().__getitem__(name)


@contextmanager
def recorded(hooked: HookedLayer) -> Iterator[Reads]:
    """Within the block, one call of the model, reads of the layer's weight are noticed. Blocks need not end in their order."""
    attributes = hooked.layer.__dict__
    reads = attributes["_parameters"]
    if not isinstance(reads, Reads):
        reads = attributes["_parameters"] = Reads(hooked.layer)
    reads.watched.append(hooked)
    try:
        yield reads
    finally:
        reads.watched.remove(hooked)
        if not reads.watched:
            attributes["_parameters"] = reads.before
            if any(reads.before.get(name) is not value for name, value in dict.items(reads)):
                reads.before.update(reads)  # the host has put another tensor there meanwhile


class ReadWeight(torch.Tensor):
    """A weight that knows its layer, with the hooks of one slider or of several: read past the layer, its product has them
    applied."""

    layers: tuple[HookedLayer, ...]

    @classmethod
    def of(cls, weight: torch.Tensor, layers: tuple[HookedLayer, ...]) -> ReadWeight:
        before = getattr(weight, "layers", ())
        known = _base(weight).as_subclass(cls)
        known.layers = (*before, *(layer for layer in layers if layer not in before))
        return known

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        weight = next(value for value in [*args, *kwargs.values()] if isinstance(value, cls))
        layers = [layer for layer in weight.layers if not layer.quiet]

        def run(seen: Callable[[Any], Any]) -> Any:
            return func(*map(seen, args), **{name: seen(value) for name, value in kwargs.items()})

        with torch._C.DisableTorchFunctionSubclass():
            if layers and func in PRODUCTS:
                x = kwargs["input"] if "input" in kwargs else args[0]
                bias = args[2] if len(args) > 2 else kwargs.get("bias")
                return _product(layers, x, bias is not None, lambda: run(_base))
            plain = run(_base)
            if not layers or not isinstance(plain, torch.Tensor):
                return plain  # a shape, a number format
            if getattr(func, "__name__", "") in KEEPS:
                return cls.of(plain, weight.layers)
            return run(_changed)


def _base(value: Any) -> Any:
    return value.as_subclass(torch.Tensor) if isinstance(value, ReadWeight) else value


def _changed(value: Any) -> Any:
    if not isinstance(value, ReadWeight):
        return value
    weight = _base(value)
    for layer in value.layers:
        weight = layer.changed(weight)
    return weight


@contextmanager
def _quiet(layers: Sequence[HookedLayer]) -> Iterator[None]:
    before = [layer.quiet for layer in layers]
    for layer in layers:
        layer.quiet = True
    try:
        yield
    finally:
        for layer, quiet in zip(layers, before, strict=True):
            layer.quiet = quiet


def _product(layers: Sequence[HookedLayer], x: torch.Tensor, biased: bool, run: Callable[[], torch.Tensor]) -> torch.Tensor:
    """A product with a layer's weight that somebody else computes, with the hooks applied. Where there is a graph it is the
    layer's own forward that computes it, for the weight may only be lent."""
    layer = layers[0].layer
    by_layer = torch.is_grad_enabled() and x.requires_grad and biased == (getattr(layer, "bias", None) is not None)
    with _quiet(layers):
        out = layer.forward(x) if by_layer else run()
    for hooked in layers:
        out = hooked.through(x, out)
    return out


class HookedLayer:
    """A layer with its hooks: how many rows of a call came by, and the ways past the layer's own forward."""

    def __init__(self, layer: nn.Module) -> None:
        self.layer = layer
        self.hooks: list[Hook] = []
        self.rows = 0  # of the call that runs
        self.acted = False  # whether a hook has ever changed an output
        self.quiet = False  # while the layer's own forward runs, or a hook of ours

    def through(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """The layer's output with every hook applied."""
        self.rows += out.shape[0]
        if out.element_size() == 1:  # a model that computes in fp8, in which nothing can be added
            return self._through(x.float(), out.float()).to(out.dtype)
        return self._through(x, out)

    def _through(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        before = self.quiet
        self.quiet = True
        try:  # for every layer of every call: a context manager takes as long as the rest of this
            for hook in self.hooks:
                after = hook(self.layer, (x,), out)
                if after is not None:
                    self.acted = True
                    out = after
        finally:
            self.quiet = before
        return out

    def before(self, _layer: nn.Module, _args: Any) -> None:
        self.quiet = True

    def after(self, _layer: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        self.quiet = False
        return None if out is None else self.through(args[0], out)

    def changed(self, weight: torch.Tensor) -> torch.Tensor:
        """W + strength * D as plain numbers, from what the hooks make of the unit vectors. Linear layers only."""
        weight = numbers_of(weight)
        if not is_linear(self.layer):
            message = "The model reads the weight of a convolution past the layer, where no slider acts: exclude convolutions."
            raise SliderError(message, "slider.not_reached")
        out = weight.t().unsqueeze(0).clone()  # a hook may add in place
        unit = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device).unsqueeze(0)
        changed = self.through(unit, out)[0].t()
        self.rows += ALL_ROWS
        return changed

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """In the place of the layer's own forward, for a host that calls that one by itself."""
        if self.quiet:
            return self.plain_forward(x, *args, **kwargs)
        with _quiet([self]):
            out = self.plain_forward(x, *args, **kwargs)
        return self.through(x, out)

    @contextmanager
    def by_weight(self) -> Iterator[None]:
        """Within the block the hooks also act where the layer's forward or its weight is used without calling the layer."""
        layer: Any = self.layer
        self.plain_forward = layer.forward
        entries: list[tuple[dict[str, Any], str, Any]] = [(layer.__dict__, "forward", self.forward)]
        if hasattr(layer, "weight_function"):
            functions = [*layer.weight_function, lambda weight: weight if self.quiet else ReadWeight.of(weight, (self,))]
            entries.append((layer.__dict__, "weight_function", functions))
        parameters = layer._parameters
        kept = parameters.before if isinstance(parameters, Reads) else parameters  # what outlives the call that runs
        weight: Any = kept.get("weight")
        if type(weight) in (torch.Tensor, nn.Parameter, ReadWeight):
            known = ReadWeight.of(weight, (self,))
            entries.append((kept, "weight", known))
            if parameters is not kept:
                parameters["weight"] = known
        with replaced(entries):
            yield

    @contextmanager
    def by_change(self) -> Iterator[None]:
        """For the length of one model call, whose strength is one, the layer has a changed weight and its hooks are silent."""
        weight = self.changed(_base(self.layer._parameters["weight"]))
        hooks = self.hooks
        self.hooks = []
        try:
            with replaced([(self.layer._parameters, "weight", weight)]):
                yield
        finally:
            self.hooks = hooks


def numbers_of(weight: torch.Tensor) -> torch.Tensor:
    """The plain numbers that a weight stands for."""
    weight = _base(weight)
    return weight.dequantize() if hasattr(weight, "_qdata") else weight


@contextmanager
def replaced(entries: Iterable[tuple[Any, str, Any]]) -> Iterator[None]:
    """(owner, name, value): within the block that attribute of the owner, or entry of a dict, has this value."""
    with ExitStack() as restore:
        for owner, name, value in entries:
            attributes = owner if isinstance(owner, dict) else vars(owner)
            if name in attributes:
                restore.callback(attributes.__setitem__, name, attributes[name])
            else:
                restore.callback(attributes.pop, name, None)
            attributes[name] = value
        yield
