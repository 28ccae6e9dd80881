"""The rows of a batch: their conditions as one, and the output of their ControlNets, computed row by row where it must be.

A control looks only at the first row's noise level for its start and end, and at one hint: rows with other hints, or on the
other side of start or end, are computed apart and put together again, with zeros where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.samplers
import torch

from ..config.checks import need
from ..layers.sample_rows import picking
from .control_hints import chain

Control = dict[str, list[torch.Tensor | None]]  # what a ControlNet gives the diffusion model


def joined(conds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The model's conditions of several samples as those of one batch, usable by autograd."""
    return {key: _to_normal(value) for key, value in comfy.samplers.cond_cat(conds).items()}


def joinable(first: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two samples' conditions fit into one batch."""
    return first.keys() == other.keys() and all(first[key].can_concat(other[key]) for key in first)


def _to_normal(value: Any) -> Any:
    """Small inputs out of inference mode, by a copy."""
    if isinstance(value, list):
        return [_to_normal(part) for part in value]
    if isinstance(value, torch.Tensor) and value.is_inference():
        return value.clone()
    return value


def active(control: Any, sigma: float) -> tuple[bool, ...]:
    """Which links of a control act at that noise level, as `get_control` decides it."""
    acts = []
    for link in chain(control):
        limits = link.timestep_range
        acts.append(limits is None or not (sigma > limits[0] or sigma < limits[1]))
    return tuple(acts)


def _groups(controls: Sequence[Any], sigma_B: torch.Tensor) -> dict[tuple[Any, ...], list[int]]:
    """The rows that one call can compute, by control and the links that act; under () those without any."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    for row, control in enumerate(controls):
        key: tuple[Any, ...] = ()
        if control is not None:
            acting = active(control, float(sigma_B[row]))
            if any(acting):
                key = (id(control), acting)
        groups.setdefault(key, []).append(row)
    return groups


def control_of_rows(
    controls: Sequence[Any],
    x_BCHW: torch.Tensor,
    sigma_B: torch.Tensor,
    joined_rows: Callable[[list[int]], dict[str, Any]],
    options: dict[str, Any],
    samples: Sequence[int] | None = None,
) -> Control | None:
    """What the ControlNets give for a batch: `controls` has one (or None) per row; None when no row has any.

    `joined_rows(rows)` are the model's conditions of those rows, `samples` which samples of the whole batch the rows are. Call it
    with gradients on only when the ControlNet itself is trained.
    """
    parts: list[tuple[list[int], Control | None]] = []
    for key, rows in _groups(controls, sigma_B).items():
        if not key:
            parts.append((rows, None))
        elif len(rows) == len(controls):
            with picking(samples):
                output = controls[0].get_control(x_BCHW, sigma_B, joined_rows(rows), 1, options)
            parts.append((rows, output))
        else:
            picked = rows
            if samples:
                picked = [samples[row] for row in rows]
            with picking(picked):
                output = controls[rows[0]].get_control(x_BCHW[rows], sigma_B[rows], joined_rows(rows), 1, options)
            parts.append((rows, output))
    return together(parts)


def together(parts: Sequence[tuple[list[int], Control | None]]) -> Control | None:
    """The control of several groups of rows as that of one batch, in the order of the rows. SliderError where they differ in
    kind, as two ControlNets of different sizes do."""
    controls = [control for _, control in parts if control is not None]
    if len(parts) == 1 or not controls:
        return controls[0] if controls else None
    count = sum(len(rows) for rows, _ in parts)
    whole: dict[tuple[int, ...], torch.Tensor | None] = {}  # Flux uses one tensor for many blocks
    batch: Control = {}
    for name, entries in controls[0].items():
        batch[name] = []
        for place in range(len(entries)):
            tensors: list[torch.Tensor | None] = []
            for _, control in parts:
                if control is None:
                    tensors.append(None)
                else:
                    tensors.append(_entry(control, controls[0], name, place))
            key = tuple(map(id, tensors))
            if key not in whole:
                whole[key] = _all_rows(tensors, [rows for rows, _ in parts], count)
            batch[name].append(whole[key])
    return batch


def _entry(control: Control, first: Control, name: str, place: int) -> torch.Tensor | None:
    alike = control.keys() == first.keys() and len(control[name]) == len(first[name])
    need(alike, "The ControlNets of one batch are of different kinds: train them one at a time.", "controlnet.kinds")
    return control[name][place]


def _all_rows(tensors: Sequence[torch.Tensor | None], rows: Sequence[list[int]], count: int) -> torch.Tensor | None:
    """One tensor of all `count` rows in their order, zeros where a group has none; None where no group has any."""
    whole = None
    for tensor, group in zip(tensors, rows, strict=True):
        if tensor is None:
            continue
        if whole is None:
            whole = tensor.new_zeros(count, *tensor.shape[1:])
        whole[group] = tensor
    return whole
