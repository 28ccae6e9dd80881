"""The noise levels at which a sampler calls a model, as positions in the noise schedule: 0 clean, 1 pure noise.

A model that is distilled to a few steps was taught to answer at those levels alone; what it says at others says nothing of how it
draws. So whatever is read off such a model is read there.
"""

from __future__ import annotations

from collections.abc import Sequence

EDGE = 1e-3  # the noise schedule's ends, where eps models have no number


def called_levels(few_steps: int) -> tuple[float, ...]:
    """The levels of a sampler of so many steps, the highest first."""
    return tuple(min(max(1 - step / few_steps, EDGE), 1 - EDGE) for step in range(few_steps))


def nearest_levels(wanted: Sequence[float], called: Sequence[float]) -> tuple[float, ...]:
    """Of the levels `called` the ones nearest to those that are wanted, each once, the lowest first; the wanted ones where
    `called` is empty, as of a model that answers anywhere."""
    if not called:
        return tuple(wanted)
    return tuple(sorted({min(called, key=lambda level: abs(level - one)) for one in wanted}))
