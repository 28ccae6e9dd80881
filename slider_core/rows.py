"""Which row of a layer belongs to which sample of a batch, so that every sample can have a strength of its own.

ComfyUI's rule: a model call holds whole copies of the batch (conditional, unconditional), so row r belongs to sample r % S; a
layer that sees a multiple of the rows (frames folded into the batch) repeats each row. Models that pack all samples into one
sequence, or sort their tokens (mixtures of experts), break the rule somewhere: `samples_apart` finds out by trying.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from .config import SliderError
from .targets import Target, find_layer

SAMPLES = "slider_samples"  # transformer_options key: which samples a model call holds, when a batch is run in parts
NUDGE = 0.1  # of a layer's output, in the trial
APART = 0.02  # largest deviation from separate runs, as a share of the nudge's effect; mixed rows are of the order of 1
APART_HALF = 0.2  # the same for models in 16 bits, whose rounding differs between batch sizes
ROUNDING = 4  # units in the last place of the whole output: a deviation that means nothing


class Rows:
    """The strength of each row of the model call that is running; None between calls, when the host may use a part of the
    model by itself (a text connector, say), for no sample in particular."""

    def __init__(self, strength: Sequence[float] | torch.Tensor) -> None:
        self.strength = torch.as_tensor(strength, dtype=torch.float32).reshape(-1)
        self.row: torch.Tensor | None = None

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        picked = (kwargs.get("transformer_options") or {}).get(SAMPLES)
        strength = self.strength if picked is None else self.strength[list(picked)]
        first = args[0][0] if isinstance(args[0], (list, tuple)) else args[0]  # several streams in a list: sound and video
        count = first.shape[0]
        if count % len(strength):
            raise SliderError(f"The model was called with {count} rows, which is no multiple of the {len(strength)} strengths.")
        self.row = strength.repeat(count // len(strength))

    def frozen(self) -> Rows:
        """The same strengths and rows, which later model calls do not change."""
        copy = Rows(self.strength)
        copy.row = self.row
        return copy

    def for_layer(self, count: int, path: str) -> torch.Tensor | None:
        """(count,) or (1,) strengths for a layer that sees `count` rows; None between model calls."""
        if self.row is None or count == len(self.row):
            return self.row
        if torch.all(self.row == self.row[0]):
            return self.row[:1]
        if count % len(self.row):
            raise SliderError(f'Layer "{path}" sees {count} rows for {len(self.row)} samples: run one strength at a time.')
        return self.row.repeat_interleave(count // len(self.row))


@contextmanager
def attached(
    module: nn.Module,
    rows: Callable[[], Rows | None],
    hooks: Sequence[tuple[nn.Module, Callable[..., Any]]],
) -> Iterator[None]:
    """Forward hooks on layers of `module` for the length of the block; the `rows` in force are told of every model call."""

    def see(called: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        now = rows()
        if now is not None:
            now.see(called, args, kwargs)

    def leave(*_call: Any) -> None:
        now = rows()
        if now is not None:
            now.row = None

    with ExitStack() as stack:
        stack.callback(module.register_forward_pre_hook(see, prepend=True, with_kwargs=True).remove)
        stack.callback(module.register_forward_hook(leave, always_call=True).remove)
        for layer, hook in hooks:
            stack.callback(layer.register_forward_hook(hook).remove)
        yield


def _nudging(rows: Rows, target: Target) -> Callable[..., torch.Tensor | None]:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
        strength = rows.for_layer(output.shape[0], target.path)
        if strength is None:
            return None
        return output * (1 + NUDGE * strength.to(output).reshape(-1, *[1] * (output.ndim - 1)))

    return hook


@torch.no_grad()
def samples_apart(module: nn.Module, targets: Sequence[Target], predict: Callable[[list[int]], torch.Tensor]) -> bool:
    """Whether samples of one batch keep their own strength at every target.

    `predict(samples)` runs the model on those of two samples, 0 and 1. Each target's output is nudged by the sample's sign:
    together they must give what each gives alone. Costs five samples' forward passes.
    """

    def run(strength: Sequence[float], samples: list[int]) -> torch.Tensor:
        rows = Rows(strength)
        with attached(module, lambda: rows, [(find_layer(module, t), _nudging(rows, t)) for t in targets]):
            return predict(samples).float()

    first, second, other = run([1.0], [0]), run([-1.0], [1]), run([-1.0], [0])
    try:
        both = run([1.0, -1.0], [0, 1])
    except ValueError:  # a layer's rows do not divide, or the model itself refuses a batch
        return False
    half = next((p.dtype for p in module.parameters() if p.dtype in (torch.float16, torch.bfloat16)), None)
    allowed = (APART_HALF if half else APART) * (first - other).norm()
    rounding = ROUNDING * torch.finfo(half or torch.float32).eps * both.norm()
    error = torch.maximum((both[:1] - first).norm(), (both[1:] - second).norm())
    return bool(error <= torch.maximum(allowed, rounding))
