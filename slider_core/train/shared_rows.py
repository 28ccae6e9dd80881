"""Measuring by several processes: each predicts some rows of a batch, and all get the whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch

from ..backend import Backend, Conditioning
from ..lora.slider_adapter import Adapter
from ..lora.strength import part_of_batch
from ..ranks import Ranks
from .memory_fallback import MemoryFallback

T = TypeVar("T")
Predict = Callable[[Backend], torch.Tensor]


class SharedRows:
    """A backend whose predictions are shared out among `ranks`; in all else the one that it wraps. `attempt` calls a prediction
    with the backend that computes it: a rank that is short of memory finds its own way, and the others wait. Without a graph."""

    def __init__(self, backend: Backend, adapter: Adapter, ranks: Ranks, attempt: Callable[[Predict], torch.Tensor]) -> None:
        self._backend = backend
        self._adapter = adapter
        self._ranks = ranks
        self._attempt = attempt

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        def of(some: slice) -> torch.Tensor:
            with part_of_batch(self._adapter, self._backend.module, some, len(x_BCHW))():
                return self._attempt(lambda backend: backend.predict(x_BCHW[some], sigma_B[some], cond[some]))

        return self._ranks.rows(of, x_BCHW)


def measured(backend: Backend, fallback: MemoryFallback, ranks: Ranks, measure: Callable[[Backend], T]) -> T:
    """What `measure` finds, on as much at once as memory has room for; by all ranks together."""
    if ranks.parts == 1:
        return fallback.attempt(backend, measure)
    return measure(SharedRows(backend, fallback.adapter, ranks, partial(fallback.attempt, backend)))
