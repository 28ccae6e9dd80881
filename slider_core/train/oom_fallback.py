"""Out of memory is no end: a step is done again one rung lower, with the same noise and, but for rounding, the same result.

    1  the whole batch at once, blocks as they are        only where `checkpointing` is off
    2  every block computed twice (gradients.py)
    3  one sign at a time: half of the batch
    4  a half of that, and so on down to one sample
    5  an error that asks for a smaller resolution

Rungs 3 and 4 leave every objective as it is: a prediction is made in parts without a graph; in the backward each part is made
again with one, and the gradients of the parts are added (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size"). So
the loss still sees the whole batch, and a pair stays a pair. Cost: one forward more.

The first rung is the highest that the look ahead (preflight.py) finds room for. A ladder is only gone down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ..backend import Backend, Conditioning, format_bytes
from ..config.checks import SliderError
from ..config.training import TrainSpec
from ..encode.encoder import Sample
from ..layers.autograd_inplace import forgiving
from ..layers.checkpointing import checkpointed
from ..lora.slider_adapter import Adapter
from ..lora.strength import part_of_batch, remember
from .memory_estimate import Estimate, estimate

MARGIN = 1.25  # of the estimate: what it does not see, such as the inside of an attention
T = TypeVar("T")


@dataclass(frozen=True)
class Level:
    """How a step is done: blocks computed twice or not, and how many samples at once."""

    checkpointing: bool
    rows: int
    batch: int

    def summary(self) -> str:
        """What is saved, for a reader; empty on the highest rung."""
        said = ["checkpointing"] if self.checkpointing else []
        if self.rows < self.batch:
            sign = "one sign" if 2 * self.rows == self.batch else f"{self.rows} of {self.batch} images"
            said.append(f"{sign} at a time")
        return ", ".join(said)


def fallback_levels(batch: int, checkpointing: bool) -> list[Level]:
    """From the highest to the lowest, for a batch of so many samples. A neutral image comes twice, so two are the least."""
    batch = max(2, batch)
    found = [] if checkpointing else [Level(False, batch, batch)]
    rows = batch
    while rows > 1:
        found.append(Level(True, rows, batch))
        rows = (rows + 1) // 2
    return [*found, Level(True, 1, batch)]


def largest(samples: Sequence[Sample]) -> torch.Size:
    """The shape of the largest latent."""
    return max((sample.latent.shape for sample in samples), key=lambda shape: shape.numel())


class _Parts(torch.autograd.Function):
    """Predictions of a batch in parts. Forward: without a graph. Backward: each part again with one."""

    @staticmethod
    def forward(ctx: Any, parts: Sequence[Callable[[], torch.Tensor]], *factors: torch.Tensor) -> torch.Tensor:
        found = [part() for part in parts]
        ctx.parts, ctx.factors, ctx.sizes = parts, factors, [len(f) for f in found]
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        sums: list[torch.Tensor | None] = [None] * len(ctx.factors)
        for part, some in zip(ctx.parts, grad.split(ctx.sizes), strict=True):
            with torch.enable_grad():
                found = torch.autograd.grad(part(), ctx.factors, some, allow_unused=True)
            sums = [b if a is None else a if b is None else a + b for a, b in zip(sums, found, strict=True)]
        return None, *sums


class InParts:
    """A backend that predicts at most `rows` samples at once, each at its own strength; in all else the one that it wraps."""

    def __init__(self, backend: Backend, adapter: Adapter, rows: int, forgive: Callable[[], bool] = lambda: False) -> None:
        self._backend, self._adapter, self._rows, self._forgive = backend, adapter, rows, forgive

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        def part(some: slice, with_strengths: Callable[[], AbstractContextManager[None]]) -> Callable[[], torch.Tensor]:
            def run() -> torch.Tensor:
                with forgiving(torch.is_grad_enabled() and self._forgive()), with_strengths():
                    return self._backend.predict(x_BCHW[some], sigma_B[some], cond[some])

            return run

        count = len(x_BCHW)
        slices = [slice(at, at + self._rows) for at in range(0, count, self._rows)]
        parts = [part(some, part_of_batch(self._adapter, self._backend.module, some, count)) for some in slices]
        if torch.is_grad_enabled():
            return _Parts.apply(parts, *self._adapter.parameters())
        return torch.cat([run() for run in parts])


class OomFallback:
    """The rung that training stands on. `standing` for the length of a run, `attempt` for each step of it."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.forgive = False  # whether the model changes tensors that autograd has saved
        self.at: Level | None = None
        self.tried: list[str] = []  # rungs on which memory ran out
        self.estimate: Estimate | None = None
        self._looked_at: torch.Size | None = None
        self._free: int | None = None
        self._asked: Level | None = None
        self._learned: Level | None = None  # where memory running out has led to
        self._left: list[Level] = []
        self._stack = ExitStack()

    @contextmanager
    def standing(self, backend: Backend, samples: Sequence[Sample], spec: TrainSpec, moments: int = 2) -> Iterator[None]:
        """Within the block a rung is chosen and in force; none on which memory has run out before."""
        low, found, before = self._learned, fallback_levels(spec.batch, spec.checkpointing), self.at
        self._asked = found[0]
        if low is not None:  # as few at once as then, whatever the batch is now
            found = [r for r in found if r.checkpointing >= low.checkpointing and (r.rows <= low.rows or low.rows >= low.batch)]
        self.at, self._left = found[0], found[1:]
        if self._looked_at == largest(samples) and before in found:  # a run in parts stays where it is
            self.at, self._left = before, found[found.index(before) + 1 :]
        else:
            self._look_ahead(backend, samples, moments)
        with ExitStack() as self._stack:
            self._take(backend)
            yield

    def _look_ahead(self, backend: Backend, samples: Sequence[Sample], moments: int) -> None:
        """Go down to the first rung that there is room for."""
        try:
            self.estimate, self._looked_at = estimate(backend, self.adapter, samples, moments), largest(samples)
        except Exception as fault:
            if not backend.memory.is_short(fault):
                raise
            self.at, self._left = ([self.at, *self._left])[-1], []
            return
        self._free = backend.memory.free()
        while self._left and self._free is not None and not self._room(self.at):
            self.at = self._left.pop(0)

    def _room(self, level: Level) -> bool:
        return MARGIN * self.estimate.need(level.checkpointing, level.rows) <= self._free

    def _take(self, backend: Backend) -> None:
        if self.at.checkpointing:
            self._stack.enter_context(checkpointed(backend.module, self.adapter.factors, remember))

    def within(self, backend: Backend) -> Backend:
        """The backend as this rung has it."""
        if self.at is None or self.at.rows >= self.at.batch:
            return backend
        return InParts(backend, self.adapter, self.at.rows, lambda: self.forgive)

    def attempt(self, backend: Backend, step: Callable[[Backend], T]) -> T:
        """What `step` gives, on the first rung on which memory suffices. SliderError when the lowest does not."""
        while True:
            try:
                return step(self.within(backend))
            except Exception as fault:
                if not backend.memory.is_short(fault):
                    raise
                missing = str(fault).strip().split("\n")[0][:200]
            for parameter in self.adapter.parameters():
                parameter.grad = None
            backend.memory.tidy()  # the fault held the step's tensors, and is gone
            self._down(backend, missing)

    def _down(self, backend: Backend, missing: str) -> None:
        self.tried.append(self.at.summary() or "the whole batch at once")
        if not self._left:
            asked = (
                f"a step needs about {format_bytes(self.estimate.need(True, 1))}" if self.estimate else "not even a forward fits"
            )
            free = backend.memory.free()
            has = f", {format_bytes(free)} is free" if free is not None else ""
            raise SliderError(
                f"Out of memory: {asked}{has} (torch says: {missing}). Tried: {'; '.join(self.tried)}. Set a smaller resolution, "
                "or close what else uses this memory."
            )
        before, self.at = self.at, self._left.pop(0)
        self._learned = self.at
        if self.at.checkpointing and not before.checkpointing:
            self._take(backend)

    def summary(self) -> str:
        """A sentence about what is saved and why; empty when it is what was asked for."""
        if self.at is None or self.at == self._asked:
            return ""
        return f" {'Memory ran out' if self.tried else 'Memory is short'}, so: {self.at.summary()}."
