"""Where a strength becomes a scale: an adapter attached to a live model by hooks, with a strength for every sample.

    y_r = f(x_r) + strength_r * change(x_r)

In: an adapter (slider_adapter.py), the diffusion model, strengths. Out: within a `with` block the model runs with the slider;
at strength 0 its output is its own. Which row is whose: layers/sample_rows.py. No weight is copied or changed, and the hooks go
when the block ends, on error and cancel too. What is attached to a model is found among the model's own hooks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from ..backend import seeded
from ..layers.layer import Target, find_layer
from ..layers.reach import batch_of
from ..layers.sample_rows import Rows, hooked
from .add_in_place import added, output_slice
from .slider_adapter import Adapter

Block = Callable[[], AbstractContextManager[None]]
Draw = tuple[int, str]  # seed and place: dropout is a function of both


def uncompiled() -> AbstractContextManager[None]:
    """Compiled code may have been made without our hooks, and torch does not look for new ones: run what it was made from."""
    compiling = "torch._dynamo" in sys.modules  # seconds to import, which is not ours to do
    stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6
    return stance("force_eager") if compiling and stance else nullcontext()


def _drop(x: torch.Tensor, share: float, draw: Draw, target: Target) -> torch.Tensor:
    """`x` with a share of it silent, the same for all samples of a batch: both sides of a pair must lose the same."""
    generator = seeded(draw[0], f"{draw[1]}/{target}", x.device)
    mask = torch.rand(x.shape[1:], generator=generator, device=x.device) >= share
    return x * (mask.to(x.dtype) / (1 - share))


class Attachment:
    """One adapter's hooks on one model. Silent until `rows`, the strengths in force, are set."""

    def __init__(self, adapter: Adapter, module: nn.Module) -> None:
        self.adapter = adapter
        self.module = module
        self.rows: Rows | None = None
        self.dropout_draw: Draw | None = None
        self._rested: torch.device | None = None  # where the adapter lay before a model call moved it
        self._last: tuple[torch.Tensor, torch.Tensor] | None = None

    def again(self, rows: Rows) -> Block:
        """These strengths, with the dropout in force now, as a context for later."""
        return partial(_with_rows, self.adapter, self.module, rows, self.dropout_draw)

    def see(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A model call begins. By this hook `attachments` finds it."""
        if self.rows is not None:
            self._rested = self._rested or self.adapter.device
            self.adapter.to(batch_of(args, kwargs).device)
            self.rows.see(module, args, kwargs)

    def leave(self, *_call: Any) -> None:
        """It has ended."""
        self._last = None
        if self.rows is not None:
            self.rows.leave()

    def end(self) -> None:
        """The adapter lies where it lay before: a slider that waits takes nothing of the device."""
        if self._rested is not None:
            self.adapter.to(self._rested)

    def _in_format(self, x: torch.Tensor, wanted: torch.dtype) -> torch.Tensor:
        """A layer's input in a part's number format, made once for all targets in the layer."""
        if x.dtype == wanted:
            return x
        if self._last is None or self._last[0] is not x or self._last[1].dtype != wanted:
            self._last = x, x.to(wanted)
        return self._last[1]

    def hook(self, target: Target) -> Callable[..., torch.Tensor | None]:
        part = self.adapter.part(target)

        def add(layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            strength = None
            if self.rows is not None:
                strength = self.rows.for_layer(output.shape[0], target.path)
            if strength is None:
                return None
            x = self._in_format(args[0], part.input_format(args[0].dtype))
            if self.dropout_draw and self.adapter.dropout:
                x = _drop(x, self.adapter.dropout, self.dropout_draw, target)
            if not part.reads_output:
                return added(output, part.scaled_change(layer, x, output, strength), target.rows)
            before = output_slice(output, target.rows)
            plain = before
            if len(layer._forward_hooks) > 1:  # another slider may have changed the output already
                plain = output_slice(layer.forward(*args), target.rows)
            after = before + part.scaled_change(layer, x, plain, strength).to(output.dtype)
            if target.rows is None:
                return after
            return torch.cat((output[..., : target.rows[0]], after, output[..., target.rows[1] :]), dim=-1)

        return add


def attachments(module: nn.Module) -> list[Attachment]:
    """The sliders attached to a model, the outermost first."""
    owners = []
    for hook in reversed(module._forward_pre_hooks.values()):  # each was put before the others
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, Attachment):
            owners.append(owner)
    return owners


def _attachment(adapter: Adapter, module: nn.Module) -> Attachment | None:
    for attachment in attachments(module):
        if attachment.adapter is adapter:
            return attachment
    return None


@contextmanager
def attached(adapter: Adapter, module: nn.Module) -> Iterator[Attachment]:
    """Within the block the adapter's hooks are on `module`, silent until `at_strength`. Nested blocks share them."""
    outer = _attachment(adapter, module)
    if outer:
        yield outer
        return
    attachment = Attachment(adapter, module)
    hooks = [(find_layer(module, target), attachment.hook(target)) for target in adapter.targets]
    try:
        with adapter.reading(module), hooked(module, attachment, hooks):
            yield attachment
    finally:
        attachment.end()


@contextmanager
def _with_rows(adapter: Adapter, module: nn.Module, rows: Rows, draw: Draw | None) -> Iterator[None]:
    with attached(adapter, module) as attachment:
        before = attachment.rows, attachment.dropout_draw
        attachment.rows = rows
        attachment.dropout_draw = draw
        try:
            yield
        finally:
            attachment.rows, attachment.dropout_draw = before


@contextmanager
def at_strength(
    adapter: Adapter,
    module: nn.Module,
    strength: Sequence[float] | torch.Tensor,
    dropout_draw: Draw | None = None,
    by_row: bool = False,
) -> Iterator[None]:
    """Within the block, `module` (the diffusion model) runs with the slider, sample i at `strength[i]`.

    The model is called with whole copies of the batch, as ComfyUI does: rows = copies * len(strength). `dropout_draw` (seed,
    place of the run) switches the adapter's dropout on, always the same there. `by_row`: the strengths are those of one call's
    rows, whichever samples these are. A model that torch.compile has wrapped runs uncompiled.
    """
    with _with_rows(adapter, module, Rows(strength, by_row), dropout_draw), uncompiled():
        yield


def part_of_batch(adapter: Adapter, module: nn.Module, samples: slice, count: int) -> Block:
    """The strengths in force now of a part of a batch of `count`, as a context: for a batch that is run in parts."""
    attachment = _attachment(adapter, module)
    if attachment is None or attachment.rows is None:
        return nullcontext
    strength = attachment.rows.strength
    if len(strength) != count:
        raise ValueError(f"{len(strength)} strengths are in force for a batch of {count}")
    return attachment.again(Rows(strength[samples]))


def remember(module: nn.Module) -> Block:
    """The strengths in force on a model now, of all sliders, as a context that brings them back: for a part of the model that
    is computed again."""
    states = []
    for attachment in attachments(module):
        if attachment.rows is not None:
            states.append(attachment.again(attachment.rows.frozen()))

    @contextmanager
    def again() -> Iterator[None]:
        with ExitStack() as stack:
            for state in states:
                stack.enter_context(state())
            yield

    return again
