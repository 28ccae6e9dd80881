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
        need(len(self.strengths) > 0, "At least one strength is needed.", "sweep_spec.strengths")
        need(len(self.seeds) > 0, "At least one seed is needed.", "sweep_spec.seeds")
        self.check("strengths", all(map(is_number, self.strengths)), "finite numbers")
        self.check_whole("steps", 1)
        self.check("cfg", is_number(self.cfg), "a number")


def parse_strengths(text: str) -> tuple[float, ...]:
    """Strengths from `-2, -1, 0, 1, 2` or the range `-2:2:0.5` (start:stop:step, stop included).

    Raises SliderError that names the entry which is no number.
    """
    parts = text.split(":")
    if len(parts) == 3:
        return _parse_range(text, *map(_parse_number, parts))
    entries = map(str.strip, text.replace("\n", ",").split(","))
    strengths = tuple(map(_parse_number, filter(None, entries)))
    count = len(strengths)
    need(count <= MOST_STRENGTHS, f"{count} strengths were given; {MOST_STRENGTHS} at most.", "strengths.too_many")
    need(count > 0, "No strengths were given; write them as -2,-1,0,1,2 or as -2:2:0.5.", "strengths.none")
    return strengths


def _parse_range(text: str, start: float, stop: float, step: float) -> tuple[float, ...]:
    forward = step != 0 and (stop - start) / step >= 0
    need(forward, f'Range "{text}" never arrives; the form is start:stop:step.', "strengths.range")
    steps = (stop - start) / step
    short = math.isfinite(steps) and steps < MOST_STRENGTHS
    need(short, f'Range "{text}" has more than {MOST_STRENGTHS} strengths.', "strengths.too_many")
    count = math.floor(steps + 1e-9) + 1
    return tuple(round(start + i * step, 9) for i in range(count))


def _parse_number(entry: str) -> float:
    try:
        value = float(entry)
    except ValueError:
        value = math.nan
    message = f'Strength "{entry.strip()}" is not a number; write them as -2,-1,0,1,2 or as -2:2:0.5.'
    need(math.isfinite(value), message, "strengths.not_a_number")
    return value
