"""Which row of a layer belongs to which sample of a batch, so that every sample can have a strength of its own.

ComfyUI's rule: a model call holds whole copies of the batch (conditional, unconditional), so row r belongs to sample r % S; a
layer that sees a multiple of the rows (frames folded into the batch) repeats each row. Models that pack all samples into one
sequence, or sort their tokens (mixtures of experts), break the rule somewhere: `samples_apart` finds out by trying.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import nn

from ..config.checks import need
from .layer import Target, find_layer, is_linear
from .reach import batch_of, reached

SAMPLES = "slider_samples"  # transformer_options key: which samples a model call holds, when a batch is run in parts
NUDGES = (0.1, 1.0)  # of a layer's output, in the trial; the second where the first drowns in rounding
LEAST_EFFECT = 10  # times the rounding: below it a trial shows nothing
APART = 0.02  # largest deviation from separate runs, as a share of the nudge's effect; mixed rows are of the order of 1
ROUNDING = 2e-5  # between batch sizes, as a share of the output, in float32
ROUNDING_HALF = 2e-2  # in fewer bits
_PICKED: ContextVar[Sequence[int] | None] = ContextVar("picked", default=None)


@contextmanager
def picking(samples: Sequence[int] | None) -> Iterator[None]:
    """Within the block a call of a module that gets no transformer_options (a ControlNet) holds these samples. None: all."""
    token = _PICKED.set(samples)
    try:
        yield
    finally:
        _PICKED.reset(token)


class Rows:
    """The strength of each row of the model call that is running; None between calls, when the host may use a part of the
    model by itself (a text connector, say), for no sample in particular."""

    def __init__(self, strength: Sequence[float] | torch.Tensor, by_row: bool = False) -> None:
        self.by_row = by_row  # the strengths of one call's rows: no part of a batch is picked from them
        self.strength = torch.as_tensor(strength, dtype=torch.float32).reshape(-1)
        self.row: torch.Tensor | None = None
        self.uniform = False  # all rows alike

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """A model call begins with these arguments."""
        options = kwargs.get("transformer_options") or {}
        picked = None if self.by_row else options.get(SAMPLES, _PICKED.get())
        strength = self.strength if picked is None else self.strength[list(picked)]
        batch = batch_of(args, kwargs)
        count = len(batch)
        message = f"The model sees {count} rows for {len(strength)} strengths: run one strength at a time."
        need(count % len(strength) == 0, message, "rows.model")
        self.uniform = bool((strength == strength[0]).all())
        self.row = strength.repeat(count // len(strength)).to(batch.device)  # once a call, not once a layer

    def leave(self, *_call: Any) -> None:
        """The model call has ended."""
        self.row = None

    def frozen(self) -> Rows:
        """The same strengths and rows, which later model calls do not change."""
        return copy.copy(self)

    def for_layer(self, count: int, path: str) -> torch.Tensor | None:
        """(count,) or (1,) strengths for a layer that sees `count` rows; None between model calls."""
        if self.row is None or count == self.row.shape[0]:
            return self.row
        if self.uniform:
            return self.row[:1]
        message = f'Layer "{path}" sees {count} rows for {len(self.row)} samples: run one strength at a time.'
        need(count % len(self.row) == 0, message, "rows.layer")
        return self.row.repeat_interleave(count // len(self.row))


class Call(Protocol):
    """What follows a model's calls: Rows, or what holds the Rows in force."""

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...

    def leave(self, *_call: Any) -> None: ...


@contextmanager
def hooked(module: nn.Module, call: Call, hooks: Sequence[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Forward hooks on layers of `module` for the length of the block; `call` sees every call of the model begin and end."""
    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(call.see, prepend=True, with_kwargs=True).remove)
        stack.enter_context(reached(module, hooks))  # whose end of a call comes first: it may make the call again
        stack.callback(module.register_forward_hook(call.leave, always_call=True).remove)
        yield


def _nudging(rows: Rows, path: str, size: float) -> Callable[..., torch.Tensor | None]:
    def hook(module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        strength = rows.for_layer(output.shape[0], path)
        if strength is None:
            return None
        channels = -1 if is_linear(module) else 1
        # towards another direction: a mere factor would vanish in the norm of queries and keys
        nudge = size * strength.to(output).reshape(-1, *[1] * (output.ndim - 1)) * output.roll(1, channels)
        return output + nudge

    return hook


@torch.no_grad()
def samples_apart(
    module: nn.Module, paths: Sequence[str], predict: Callable[[list[int]], torch.Tensor], dtype: torch.dtype = torch.float32
) -> bool:
    """Whether samples of one batch keep apart: as they are, and with a strength of their own at every target.

    `predict(samples)` runs the model on those of two samples, 0 and 1; together they must give what each gives alone. First
    as they are, which also shows the rounding; then with each target's output nudged by the sample's sign. A trial that tells
    nothing counts as mixing. `dtype`: what the model computes in. Costs nine samples' forward passes.
    """

    def run(strength: Sequence[float], samples: list[int], size: float = 0.0) -> torch.Tensor:
        rows = Rows(strength)
        hooks = [(find_layer(module, Target(path)), _nudging(rows, path, size)) for path in paths]
        with hooked(module, rows, hooks):
            return predict(samples).float()

    half = dtype.itemsize < 4 or any(p.is_floating_point() and p.element_size() < 4 for p in module.parameters())
    try:
        alone = torch.cat([run([0.0], [0]), run([0.0], [1])])
        rounding = (run([0.0, 0.0], [0, 1]) - alone).norm()
        allowed = ROUNDING_HALF if half else ROUNDING
        if not rounding <= allowed * alone.norm():
            return False
        for size in NUDGES:
            first = run([1.0], [0], size)
            second = run([-1.0], [1], size)
            effect = (first - run([-1.0], [0], size)).norm()
            if effect > LEAST_EFFECT * rounding:
                both = run([1.0, -1.0], [0, 1], size)
                error = torch.maximum((both[:1] - first).norm(), (both[1:] - second).norm())
                return bool(error <= torch.maximum(APART * effect, 3 * rounding))
    except ValueError:  # a layer's rows do not divide, or the model itself refuses a batch
        return False
    return False
