"""When is a slider ready? Where nobody has set a number of steps, the readings decide.

It learns at a constant rate until most is learned: over the last third of its steps the learned share (progress.py) has grown by
less than GROWTH of itself, and the strength that best explains what is wanted lies near 1. Then the rate falls for FALL of the
steps so far, in which the last noise leaves the weights, and the training is over: after 150 steps, at the rate that is found.
Those of 360 draw the same and leak 8 % less (docs/benchmarks-ready.md). MOST_STEPS bounds it. All of it follows from
the readings, so a training that is stopped and continued ends where the same one in one piece does.

Of images that do not line up no reading says when the concept is learned: the share goes on rising for as long as the images are
learned by heart. There the rate falls from step IMAGES_STEPS on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .displacement import Wanted
from .progress import Reading

EVERY = 30  # steps between two readings that decide
SOONEST, MOST_STEPS = 90, 1500  # when the rate falls at the earliest; the end
GROWTH, SMALL = 0.35, 0.004  # of the learned share, over the last third of the steps; and in shares
LEAST_STEPS, STILL = 120, 0.06  # where more is advised: steps that are few, and growth that more steps would bring
UNFINISHED = 1.25  # best strength: above it there is more to learn
PATIENCE = 600  # steps, after which a flat share is enough: some sliders never come near 1
FALL, LEAST_FALL = 0.5, 30
OVERSHOT, LOST = 0.6, 0.05  # best strength below which the rate is too high, and the learned share that this costs at least
LOWER, MOST_LOWERED = 3.0, 1  # by what a rate that was found is then divided, and how often at most
IMAGES_STEPS = 160  # of images that do not line up: half of them more while the rate falls


def fall_of(readings: Sequence[Reading], wanted: Wanted = Wanted.PAIRS) -> tuple[int, int] | None:
    """(first step, end) of the falling rate; None while the slider is not ready."""
    if wanted is Wanted.IMAGES:
        return IMAGES_STEPS, round(IMAGES_STEPS * (1 + FALL))
    decisive = [reading for reading in readings if reading.step % EVERY == 0]
    for count, reading in enumerate(decisive, 1):
        if reading.step >= SOONEST and _most_is_learned(decisive[:count]):
            return reading.step, min(MOST_STEPS, reading.step + _fall_steps(reading.step))
    last = MOST_STEPS - _fall_steps(round(MOST_STEPS / (1 + FALL)))
    if decisive and decisive[-1].step + EVERY >= last:
        return last, MOST_STEPS
    return None


def earliest_end(step: int) -> int:
    """Where a training ends that is not ready at `step` if it is at its next decisive reading."""
    first = max(SOONEST, (step // EVERY + 1) * EVERY)
    return min(MOST_STEPS, first + _fall_steps(first))


def is_due(step: int, readings: Sequence[Reading], wanted: Wanted = Wanted.PAIRS) -> bool:
    """Whether a training that is left open reads its progress at `step`; half as often while the rate falls, which decides
    nothing more."""
    fall = fall_of(readings, wanted)
    if fall and step > fall[0]:
        return (step - fall[0]) % (2 * EVERY) == 0
    return step % EVERY == 0


def next_reading(step: int, until: int, readings: Sequence[Reading], wanted: Wanted | None) -> int:
    """The step of the first reading after `step` in a training up to `until`; `wanted`: None where the steps are set."""
    for later in range(step + 1, until):
        if later % EVERY == 0 if wanted is None else is_due(later, readings, wanted):
            return later
    return until


def lowered(readings: Sequence[Reading], wanted: Wanted = Wanted.PAIRS) -> float:
    """What a learning rate that was found is multiplied by: less after each decisive reading at which the slider overshoots what
    is wanted, until the rate falls. Under a rate that is too high the weights are noise, which shows at a fraction of their
    strength."""
    fall = fall_of(readings, wanted)
    until = fall[0] if fall else MOST_STEPS
    times = sum(reading.step % EVERY == 0 and reading.step <= until and overshoots(reading) for reading in readings)
    return LOWER ** -min(times, MOST_LOWERED)


def overshoots(reading: Reading) -> bool:
    """Whether it explains more of what is wanted at a fraction of its strength."""
    return reading.strength < OVERSHOT and not reading.reach - reading.mean < LOST


def _fall_steps(step: int) -> int:
    return max(LEAST_FALL, math.ceil(FALL * step / EVERY) * EVERY)


def _most_is_learned(decisive: Sequence[Reading]) -> bool:
    """Whether the last reading is not much better than those of two thirds of its steps."""
    last = decisive[-1]
    if last.strength > UNFINISHED and last.step < PATIENCE:
        return False
    before = [reading.mean for reading in decisive if reading.step <= 2 / 3 * last.step]
    recent = [reading.mean for reading in decisive if reading.step > 2 / 3 * last.step]
    if not before:
        return False
    growth = max(recent) - max(before)
    return growth < max(SMALL, GROWTH * abs(max(recent)))


def still_growing(readings: Sequence[Reading]) -> bool:
    """Whether the learned share has grown over the last third of the steps; of a training that has only begun that is assumed."""
    last = readings[-1]
    before = [reading.mean for reading in readings if reading.step <= 2 / 3 * last.step]
    return not before or last.mean - max(before) >= max(SMALL, STILL * abs(last.mean))


def steps_more(readings: Sequence[Reading]) -> int:
    """About how many more steps a slider wants that is not ready: at the pace at which its share grew, until it would be flat."""
    if not readings:
        return 0
    last = readings[-1]
    if last.step >= LEAST_STEPS and not still_growing(readings) and last.strength <= UNFINISHED:
        return 0
    factor = min(4.0, max(1.5, last.strength))
    more = max(LEAST_STEPS - last.step, last.step * (factor - 1))
    return min(MOST_STEPS, max(EVERY, round(more / EVERY) * EVERY))
