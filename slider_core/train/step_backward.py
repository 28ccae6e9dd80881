"""The backward of a step, part by part: scaled gradients into the adapter's factors, on whatever level memory allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..backend import Backend
from ..config.training import TrainSpec
from ..layers.autograd_inplace import complains, forgiving
from ..objective.batch import Batch
from ..objective.step_loss import step_target
from .memory_fallback import MemoryFallback


def backward(backend: Backend, fallback: MemoryFallback, spec: TrainSpec, scale: float, parts: Sequence[Batch]) -> float:
    """Gradients of the parts' share in the mean loss of the whole step, times `scale`; that share of the loss. Not all
    gradients where a loss is not finite."""

    def attempt(within: Backend) -> float:
        return _backward(within, fallback, spec, scale, parts)

    try:
        return fallback.attempt(backend, attempt)
    except RuntimeError as fault:
        if fallback.forgive or not complains(fault):
            raise
        fallback.forgive = True  # the model adds in place to what it has saved: allow that from here on
        return fallback.attempt(backend, attempt)


def _backward(backend: Backend, fallback: MemoryFallback, spec: TrainSpec, scale: float, parts: Sequence[Batch]) -> float:
    """Each part counts as many times as it has units (pairs, or samples) of the step, and is computed in as few pieces as memory
    allows."""
    for p in fallback.adapter.parameters():
        p.grad = None
    total = 0.0
    units_of_step = 1
    for part in parts:
        units = len(set(part.noise))
        if not units:  # more parts than pairs
            continue
        units_of_step = part.draws
        asked = step_target(backend, part, spec)
        rows = range(len(asked.strengths))
        for piece in fallback.rows_at_once(len(rows)):
            some = asked.rows(rows[piece])
            share = units * (len(some.strengths) / len(rows))
            with forgiving(fallback.forgive):
                loss = some.loss(backend, fallback.adapter).mean()
                value = float(loss.detach())  # the one value of a piece that is read from the device
                if not math.isfinite(value):
                    return value
                (loss * (scale * (share / units_of_step))).backward()
                total += value * share
    return total / units_of_step
