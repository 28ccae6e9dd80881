"""What is still a good state of a run, and the last one, kept to go back to.

A rate that is too high does not end at once in numbers that are not finite: the loss grows for some steps before. So a state is
kept every KEEP_EVERY steps and at the beginning of each part of a run, and only while the loss is what it has been. A step is
judged by the losses up to that state, so that a slow growth cannot move what it is measured by.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch

from ..config.checks import SliderError

KEEP_EVERY = 10  # steps
LEAST = 5  # losses to judge another one by
SUSPECT, EXPLODED = 10.0, 1000.0  # times the greatest loss up to the last good state
BURNT = -0.5  # explained share of a slider that its rate has burnt, if it is not set right at once
MOST_BEGUN = 6  # how often a training begins anew at a lower rate before it is not the rate that is to blame
EXPLODED_READING = 30.0  # times the error of the base model, and of the worst reading before


class NotFiniteError(SliderError):
    """A step exploded; inside the loop, which undoes it."""


class Guard:
    """The last good state of a run, as `Trainer.state_dict` has it, and the judgement of what came after."""

    def __init__(self) -> None:
        self.state: dict[str, Any] | None = None
        self.begin: dict[str, Any] | None = None  # the state before the first step, where that was made here
        self.begun = 0  # how often the training went back there
        self.first = 0  # losses before this one are of another objective

    @property
    def step(self) -> int:
        """Finished steps of the last good state."""
        return int(self.state["step"]) if self.state else 0

    def forget(self, losses: int = 0) -> None:
        """No state and no loss up to here is of the same kind as what comes."""
        self.state = None
        self.first = losses

    def _greatest(self, losses: Sequence[float]) -> float:
        """The greatest loss that others are judged by; infinite where nothing is known."""
        known = losses[self.first : self.step] or losses[self.first : self.first + 2]
        greatest = max(known, default=0.0)
        return greatest if greatest > 0 else math.inf

    def suspect(self, losses: Sequence[float]) -> bool:
        """Whether the last loss is so high that its state is not kept."""
        return len(losses) > self.first and not losses[-1] <= SUSPECT * self._greatest(losses)

    def exploded(self, loss: float, losses: Sequence[float]) -> bool:
        """Whether the state with that loss is beyond repair."""
        if not math.isfinite(loss):
            return True
        return self.step - self.first >= LEAST and loss > EXPLODED * self._greatest(losses)

    def exploded_reading(self, shares: Sequence[float]) -> bool:
        """Whether the last explained share is far below all before it."""
        return len(shares) > 1 and shares[-1] < EXPLODED_READING * (min(0.0, *shares[:-1]) - 1)


def lacks_reading(last: int, step: int, until: int, due: bool) -> bool:
    """Whether progress is to be read at `step`, finished last, where the last reading is of step `last`: when it is due,
    and where a run ends."""
    ended = step == until or (step > until and not last)
    return last != step and (ended or due)


def undone(code: str, what: str, rate: float, step: int) -> SliderError:
    """The error of steps that were undone, up to that one."""
    advice = f"lower the learning rate (now {rate:g})"
    return SliderError(f"{what}: {advice}. The slider is back at step {step}, its last good one.", code)


def on_cpu(tree: Any) -> Any:
    """A copy of nested containers, their tensors on the CPU."""
    if isinstance(tree, torch.Tensor):
        return tree.detach().cpu().clone()
    if isinstance(tree, dict):
        return {key: on_cpu(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(on_cpu(value) for value in tree)
    return copy.deepcopy(tree)
