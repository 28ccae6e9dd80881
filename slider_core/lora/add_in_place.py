"""A slider's change added to what a layer gives, in the layer's own memory: no second output is kept or made."""

from __future__ import annotations

from typing import Any

import torch

Rows = tuple[int, int] | None  # the part of the last dimension that changes; None: all


def output_slice(tensor: torch.Tensor, rows: Rows) -> torch.Tensor:
    """The part of a layer's output that those rows of its weight give."""
    return tensor if rows is None else tensor[..., rows[0] : rows[1]]


class _Added(torch.autograd.Function):
    """In place without autograd's own record of it, which would copy the gradient of a view: a layer's output is often one, and
    a part of its rows always is. Nobody else has saved that output (a Linear or a convolution does not), and who has is refused
    in the backward, for its version has changed."""

    @staticmethod
    def forward(ctx: Any, output: torch.Tensor, change: torch.Tensor, rows: Rows) -> torch.Tensor:
        ctx.rows = rows
        ctx.format = change.dtype
        output_slice(output, rows).add_(change)
        memory = output.untyped_storage()
        same = torch.empty(0, dtype=output.dtype, device=output.device)
        return same.set_(memory, output.storage_offset(), output.shape, output.stride())

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        return grad, output_slice(grad, ctx.rows).to(ctx.format), None


def added(output: torch.Tensor, change: torch.Tensor, rows: Rows = None) -> torch.Tensor:
    """`output` with `change` added to its rows, in its own memory: it must not be used any more."""
    if torch.is_grad_enabled() and (output.requires_grad or change.requires_grad):
        return _Added.apply(output, change, rows)
    output_slice(output, rows).add_(change)
    return output
