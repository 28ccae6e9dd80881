"""When memory runs out, a step is done again one level lower, with the same noise and, but for rounding, the same result.

    1  the whole batch at once, blocks as they are              only where `checkpointing` is off
    2  gradient checkpointing: every block computed twice       (layers/checkpointing.py)
    3  one sign at a time: half of the batch
    4  a half of that, and so on down to one sample
    5  the inputs of blocks wait in the host's memory           (layers/block_inputs.py), where the device has its own
    6  an error that asks for a smaller resolution

Levels 3 and 4 leave every objective as it is: what a step asks is made for the whole batch without a graph, so a pair stays a
pair; the loss is a mean over samples, so each part has its forward and its backward, and the gradients add up. Nothing is
computed twice for that.

The first level is the highest that the memory estimate finds room for. Levels only go down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from ..backend import Backend, Conditioning, batch_slices, format_bytes
from ..config.checks import SliderError
from ..config.training import TrainSpec
from ..encode.encoder import Sample
from ..layers.block_inputs import HERE, BlockInputs
from ..layers.checkpointing import checkpointed
from ..lora.slider_adapter import Adapter
from ..lora.strength import attached, part_of_batch, remember
from .memory_estimate import Estimate, estimate, measured_estimate

MARGIN = 1.25  # of the estimate: what it does not see, such as the inside of an attention
T = TypeVar("T")


@dataclass(frozen=True)
class Level:
    """How a step is done: with gradient checkpointing or not, how many samples at once, and whether the inputs of blocks wait in
    the host's memory."""

    checkpointing: bool
    rows: int
    batch: int
    host: bool = False

    def needs(self, estimate: Estimate) -> float:
        """Bytes of a step, with what an estimate does not see."""
        return MARGIN * estimate.need(self.checkpointing, self.rows, self.host)

    def summary(self) -> str:
        """How memory is saved; empty on the highest level."""
        measures = ["checkpointing"] if self.checkpointing else []
        if 2 * self.rows == self.batch:
            measures.append("one sign at a time")
        elif self.rows < self.batch:
            measures.append(f"{self.rows} of {self.batch} images at a time")
        if self.host:
            measures.append("inputs of blocks in main memory")
        return ", ".join(measures)


def fallback_levels(batch: int, checkpointing: bool, host: bool = False) -> list[Level]:
    """From the highest to the lowest, for a batch of so many samples. A neutral image comes twice, so two are the least.
    `host`: whether the device has a memory of its own beside the host's."""
    batch = max(2, batch)
    levels = [] if checkpointing else [Level(False, batch, batch)]
    rows = batch
    while rows > 1:
        levels.append(Level(True, rows, batch))
        rows = (rows + 1) // 2
    levels.append(Level(True, 1, batch))
    return [*levels, Level(True, 1, batch, True)] if host else levels


def _levels(backend: Backend, spec: TrainSpec) -> list[Level]:
    return fallback_levels(spec.batch, spec.checkpointing, backend.device.type not in HERE)


def largest(samples: Sequence[Sample]) -> torch.Size:
    """The shape of the largest latent."""
    return max((sample.latent.shape for sample in samples), key=lambda shape: shape.numel())


class InParts:
    """A backend that predicts at most `rows` samples at once, each at its own strength; in all else the one that it wraps."""

    def __init__(self, backend: Backend, adapter: Adapter, rows: int) -> None:
        self._backend = backend
        self._adapter = adapter
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        count = len(x_BCHW)
        if count <= self._rows:
            return self._backend.predict(x_BCHW, sigma_B, cond)
        predictions = []
        for some in batch_slices(count, self._rows):
            with part_of_batch(self._adapter, self._backend.module, some, count)():
                predictions.append(self._backend.predict(x_BCHW[some], sigma_B[some], cond[some]))
        return torch.cat(predictions)


class MemoryFallback:
    """The level that training is at. `in_force` for the length of a run, `attempt` for each step of it."""

    def __init__(self, adapter: Adapter) -> None:
        self.adapter = adapter
        self.forgive = False  # whether the model changes tensors that autograd has saved
        self.level: Level | None = None
        self.tried: list[str] = []  # levels on which memory ran out
        self.estimate: Estimate | None = None
        self._estimated_for: torch.Size | None = None
        self._requested: Level | None = None
        self._learned: Level | None = None  # where memory running out has led to
        self._left: list[Level] = []
        self._stack = ExitStack()
        self._inputs = BlockInputs()

    def look_ahead(self, backend: Backend, samples: Sequence[Sample], spec: TrainSpec, moments: int = 2) -> None:
        """Before the model is borrowed for a run: find out what a step needs, once, and have the host keep that free."""
        backend.memory.begin()
        backend.memory.latent = largest(samples)
        levels = self._allowed(_levels(backend, spec))
        if self._estimated_for != largest(samples):
            self.level = None
            backend.memory.needs = []
            with backend.borrowed(), torch.enable_grad(), attached(self.adapter, backend.module):
                self.estimate = self._estimated(levels[0], backend, samples, moments)
        if self.estimate is not None:
            self._estimated_for = largest(samples)
            backend.memory.needs = [int(level.needs(self.estimate)) for level in levels]

    @contextmanager
    def in_force(self, backend: Backend, spec: TrainSpec) -> Iterator[None]:
        """Within the block a level is chosen and in force; none on which memory has run out before."""
        levels = _levels(backend, spec)
        self._requested = levels[0]
        levels = self._allowed(levels)
        before = self.level
        if before is not None and before in levels:  # a run in parts stays where it is
            self._choose(levels[levels.index(before) :])
        else:
            self._choose(self._with_room(levels, backend))
        with ExitStack() as self._stack:
            self._apply(backend)
            yield

    def _choose(self, levels: Sequence[Level]) -> None:
        self.level = levels[0]
        self._inputs.host = self.level.host
        self._left = list(levels[1:])

    def _allowed(self, levels: list[Level]) -> list[Level]:
        """As few samples at once as memory has led to before, whatever the batch is now."""
        lowest = self._learned
        if lowest is None:
            return levels
        allowed = []
        for level in levels:
            few = level.rows <= lowest.rows or lowest.rows >= lowest.batch
            if few and level.checkpointing >= lowest.checkpointing and level.host >= lowest.host:
                allowed.append(level)
        return allowed

    def _with_room(self, levels: list[Level], backend: Backend) -> list[Level]:
        """The levels from the first that there is room for; the lowest where not even a step of one sample went through."""
        if self.estimate is None:
            return levels[-1:]
        for number, level in enumerate(levels):
            if self._fits(level, backend, self.estimate):
                return levels[number:]
        return levels[-1:]

    def _estimated(self, first: Level, backend: Backend, samples: Sequence[Sample], moments: int) -> Estimate | None:
        try:
            rough = estimate(backend, self.adapter, samples, moments)
            if not first.checkpointing and self._fits(first, backend, rough):
                return rough
            return measured_estimate(rough, backend, self.adapter, samples)
        except Exception as fault:
            if not backend.memory.is_short(fault):
                raise
        return None

    def _fits(self, level: Level, backend: Backend, estimated: Estimate) -> bool:
        free = backend.memory.free()
        return free is None or level.needs(estimated) <= free

    def _apply(self, backend: Backend) -> None:
        if self.level is not None and self.level.checkpointing:
            self._stack.enter_context(checkpointed(backend.module, self.adapter.factors, remember, self._inputs))

    def within(self, backend: Backend) -> Backend:
        """The backend as this level has it."""
        if self.level is None or self.level.rows >= self.level.batch:
            return backend
        return InParts(backend, self.adapter, self.level.rows)

    def rows_at_once(self, count: int) -> list[slice]:
        """The parts in which this level computes a step of so many samples."""
        return batch_slices(count, count if self.level is None else self.level.rows)

    def attempt(self, backend: Backend, step: Callable[[Backend], T]) -> T:
        """The result of `step` on the first level on which memory suffices. SliderError when the lowest does not."""
        while True:
            try:
                return step(self.within(backend))
            except Exception as fault:
                if not backend.memory.is_short(fault):
                    raise
                reason = str(fault).strip().split("\n")[0][:200]
            for parameter in self.adapter.parameters():
                parameter.grad = None
            backend.memory.tidy()  # the fault held the step's tensors, and is gone
            self._lower(backend, reason)

    def _lower(self, backend: Backend, reason: str) -> None:
        before = self.level
        self.tried.append((before.summary() if before else "") or "the whole batch at once")
        if not self._left:
            raise SliderError(self._exhausted(backend, reason), "training.out_of_memory")
        self._choose(self._left)
        self._learned = self.level
        if before is None or not before.checkpointing:
            self._apply(backend)

    def _exhausted(self, backend: Backend, reason: str) -> str:
        need = "not even a forward fits"
        if self.estimate:
            least = self.estimate.need(True, 1, self.level is not None and self.level.host)
            need = f"a step needs about {format_bytes(least)}"
        free = backend.memory.free()
        if free is not None:
            need += f", {format_bytes(free)} is free"
        return (
            f"Out of memory: {need} (torch says: {reason}). Tried: {'; '.join(self.tried)}. Set a smaller resolution, or close "
            "what else uses this memory."
        )

    def summary(self) -> str:
        """A sentence about how memory is saved and why; empty on the level that was requested."""
        if self.level is None or self.level == self._requested:
            return ""
        return f" {'Memory ran out' if self.tried else 'Memory is short'}, so: {self.level.summary()}."
