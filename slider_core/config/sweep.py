"""The choices of a sweep: strengths, seeds, prompt, sampler steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .checks import JsonSpec, is_number, need

MOST_STRENGTHS = 1000


@dataclass(frozen=True)
class SweepSpec(JsonSpec):
    """strengths x seeds for one prompt. `steps` sampler steps, `cfg` guidance scale (1 = none)."""

    strengths: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    prompt: str = ""
    steps: int = 16
    cfg: float = 1.0

    def __post_init__(self) -> None:
        need(len(self.strengths) > 0, "At least one strength is needed.")
        need(len(self.seeds) > 0, "At least one seed is needed.")
        need(all(is_number(s) for s in self.strengths), f"Strengths must be finite numbers, got {self.strengths}.")
        need(isinstance(self.steps, int) and self.steps >= 1, f"Sampler steps must be 1 or more, got {self.steps!r}.")
        need(is_number(self.cfg), f"cfg must be a number, got {self.cfg!r}.")


def parse_strengths(text: str) -> tuple[float, ...]:
    """Strengths from `-2, -1, 0, 1, 2` or the range `-2:2:0.5` (start:stop:step, stop included).

    Raises SliderError that names the word which is no number.
    """

    def number(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        need(math.isfinite(value), f'Strength "{word.strip()}" is not a number; write them as -2,-1,0,1,2 or as -2:2:0.5.')
        return value

    parts = text.split(":")
    if len(parts) == 3:
        start, stop, step = (number(p) for p in parts)
        need(step != 0 and (stop - start) / step >= 0, f'Range "{text}" never arrives; the form is start:stop:step.')
        steps = (stop - start) / step
        need(math.isfinite(steps) and steps < MOST_STRENGTHS, f'Range "{text}" has more than {MOST_STRENGTHS} strengths.')
        count = math.floor(steps + 1e-9) + 1
        return tuple(round(start + i * step, 9) for i in range(count))
    words = text.replace("\n", ",").split(",")
    values = tuple(number(w) for w in words if w.strip())
    need(len(values) <= MOST_STRENGTHS, f"{len(values)} strengths were given; {MOST_STRENGTHS} at most.")
    need(len(values) > 0, "No strengths were given; write them as -2,-1,0,1,2 or as -2:2:0.5.")
    return values
