"""What a finished step says of itself, for a progress bar or a screen."""

from __future__ import annotations

from dataclasses import dataclass

from .progress import percent


@dataclass(frozen=True)
class StepReport:
    """A finished step: `step` counts finished steps; learned shares are the last reading's, None before the first."""

    step: int
    total: int
    loss: float
    explained_positive: float | None
    explained_negative: float | None
    seconds_left: float
    memory: str = ""  # the most that was in use so far, for a reader

    def summary(self) -> str:
        """One line for a progress bar."""
        explained = ""
        if self.explained_positive is not None and self.explained_negative is not None:
            plus = percent(self.explained_positive)
            minus = percent(self.explained_negative)
            explained = f"learned: plus {plus}, minus {minus}, "
        memory = f", peak {self.memory}" if self.memory else ""
        return f"step {self.step}/{self.total}, {explained}{self.seconds_left:.0f} s left{memory}"
