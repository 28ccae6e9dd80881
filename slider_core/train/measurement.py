"""What the strengths of a slider under training mean, and what it draws: measured when a training ends.

The displacement that the readings know already (displacement.py) gives the strength that best explains what is wanted, on each
side, and nearly as a parabola what any other explains. Strength 1 stays as it was trained where that explains at least 84 % of
the most. Then both ends are drawn (drawn.py), and of pairs that are trained both ways strength 1 becomes what draws the images
(drawn_unit.py); any other slider that overshoots is turned down to them.

Cost, of pairs: mostly 80 to 112 samples, against 1100 of calibration_search.py, which measures any slider on any images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ..backend import Backend
from ..config.training import Objective
from ..encode.called_levels import called_levels, nearest_levels
from ..encode.encoder import Sample
from ..lora.slider_adapter import Adapter
from ..lora.strength import attached
from ..objective.one_way import is_one_way
from .calibration import TOO_FLAT, Calibration, Side
from .calibration_errors import OnPass, PassCount
from .calibration_search import calibrate
from .displacement import LEVELS, DisplacementMeter, Shares, Wanted, symmetric_part
from .drawn import STEPS, Drawing, Drawn
from .drawn_unit import turned_to_images, useful_end

NEAR = 1.5  # a strength is read once more where the best lies further off, since displacements grow only nearly in proportion
READS = 4
LOUD, TURN_DOWN = 2.0, 4.0  # so many times as long as what is wanted, and of no use: read at a quarter
OVER_BEST = 1.4  # times the best strength: 1 - 0.4^2 = 84 % of the most is explained there
MOST_UNIT, MOST_DRAWN = 4.0, 8.0  # times what was trained that strength 1 may become: without drawn pictures, and by them
MOST_ALIKE = 0.8  # what both ends do alike over what they do oppositely, at strength 1
CURVE = (0.5, 1.0, 1.5, 2.0, 3.0)  # of the best strength
FARTHEST, MOST_SHOWN = 1.25, 1.1  # distance and share of the images beyond which strength 1 is turned down
TURNS = 2  # times at most: pictures do not change in proportion
DRAWING = 4 * STEPS  # forward passes that drawing takes: mostly one or two strengths, and two of half of the pairs


@torch.no_grad()
def measure(
    backend: Backend,
    adapter: Adapter,
    samples: Sequence[Sample],
    meter: DisplacementMeter,
    on_pass: OnPass | None = None,
    symmetric: float = 0.0,
    few_steps: int | None = None,
) -> tuple[Calibration, Drawn]:
    """`meter` reads the slider's samples. `symmetric`: its symmetric part (progress.py) as trained. `on_pass` is called
    after each forward pass; an exception out of it ends the measurement. `few_steps`: as in Drawing."""
    passed = PassCount(on_pass, expected=1 + DRAWING)
    with backend.borrowed(), attached(adapter, backend.module):
        backend.prepare(adapter.paths, samples[0].latent, samples[0].cond)
        plus, minus, at = _shares(backend, adapter, meter, passed)
        trained_at = [_own_strength(meter.samples, sign) for sign in (1, -1)]
        sides = _side(plus, at * trained_at[0]), _side(minus, at * trained_at[1])
        drawing = Drawing(backend, adapter, samples, passed, few_steps)
        passed.expected = passed.count + DRAWING
        trained = math.sqrt(trained_at[0] * trained_at[1])
        drawn = drawing.at(_strength_1(Calibration(*sides, 0).unit, trained))
        if drawn.length is None:
            drawn = _turned_down(drawing, drawn)
        else:
            most = MOST_ALIKE / symmetric if symmetric > 0 else math.inf
            drawn = turned_to_images(drawing, drawn, min(most, MOST_DRAWN * trained))
            end = useful_end(drawing, drawn)
            sides = _ending(sides[0], end), _ending(sides[1], end)
    shown = "the prompts" if meter.wanted is Wanted.PROMPTS else "the images"
    one_way = is_one_way(meter.samples)
    found = Calibration(*sides, passed.count, shown, one_way=one_way)
    return _with_drawn(found, drawn), drawn


def _with_drawn(calibration: Calibration, drawn: Drawn) -> Calibration:
    """With the strength that was drawn as 1, and the share that is seen there, if pictures can show it: not how far they lie
    apart, which other changes add to."""
    share = drawn.share if drawn.in_place else None
    return replace(calibration, weight_of_1=drawn.strength, drawn=share, proven=drawn.in_place)


@torch.no_grad()
def measure_any(
    backend: Backend,
    adapter: Adapter,
    samples: Sequence[Sample],
    seed: int = 0,
    on_pass: OnPass | None = None,
    one_way: bool = False,
) -> Calibration:
    """Any slider on any images of both ends (calibration_search.py). Of pairs that line up strength 1 becomes what draws the
    images, as after a training; from what explains them it is at most MOST_DRAWN times away, and on a distilled model no further
    than both ends do the same."""
    explained = calibrate(backend, adapter, samples, seed, on_pass, one_way)
    if one_way or not (explained.plus or explained.minus):
        return explained
    passed = PassCount(on_pass, explained.passes, explained.passes + DRAWING)
    with backend.borrowed(), attached(adapter, backend.module):
        drawing = Drawing(backend, adapter, samples, passed)
        drawn = drawing.at(explained.unit)
        if drawn.length is None:
            return replace(explained, passes=passed.count)
        most = min(MOST_DRAWN, _most_apart(backend, adapter, samples, explained.unit, passed))
        drawn = turned_to_images(drawing, drawn, most * explained.unit)
        end = useful_end(drawing, drawn)
    plus, minus = _ending(explained.plus, end), _ending(explained.minus, end)
    return _with_drawn(replace(explained, plus=plus, minus=minus, passes=passed.count), drawn)


def _most_apart(backend: Backend, adapter: Adapter, samples: Sequence[Sample], unit: float, passed: Callable[[], None]) -> float:
    """Times `unit`, how far a slider may be turned up on a distilled model before both ends do the same. Pictures of such a model
    fall apart early, and then lie as far apart as the images without showing them (docs/benchmarks-turbo.md)."""
    if not backend.few_steps:
        return math.inf
    levels = nearest_levels(LEVELS, called_levels(backend.few_steps))[:1]
    meter = DisplacementMeter(samples, Objective.DISPLACEMENT, 0, levels)
    plus, minus = (meter.moved(backend, adapter, sign * unit) for sign in (1.0, -1.0))
    for _ in (plus, minus):
        passed()
    symmetric = symmetric_part(plus, minus)
    return MOST_ALIKE / symmetric if symmetric > 0 else math.inf


def _turned_down(drawing: Drawing, drawn: Drawn) -> Drawn:
    for _ in range(TURNS):
        beyond = max(drawn.share or 0.0, (drawn.distance or 0.0) / FARTHEST)
        if MOST_SHOWN < beyond < math.inf:
            drawn = drawing.at(drawn.strength / beyond)
    return drawn


def _ending(side: Side | None, end: float) -> Side | None:
    return None if side is None else replace(side, end=end)


def _shares(
    backend: Backend, adapter: Adapter, meter: DisplacementMeter, passed: Callable[[], None]
) -> tuple[Shares, Shares, float]:
    """(plus, minus, the times of the samples' own strength at which they were read)."""
    at = 1.0
    for read in range(READS):
        plus, minus = meter.read(backend, meter.moved(backend, adapter, at))
        passed()
        both = plus + minus
        if read == READS - 1 or not both.wanted:
            break
        if not both.along > 0 and not both.size <= LOUD**2 * both.wanted:
            at /= TURN_DOWN
        elif both.best > 0 and not 1 / NEAR <= both.best <= NEAR:
            at = min(MOST_UNIT, at * both.best)
        else:
            break
    return plus, minus, at


def _own_strength(samples: Sequence[Sample], sign: int) -> float:
    """The mean strength at which the samples of one side were trained."""
    strengths = [abs(sample.strength) for sample in samples if sample.strength * sign > 0]
    return sum(strengths) / len(strengths) if strengths else 1.0


def _side(shares: Shares, at: float) -> Side | None:
    """One side out of what was read at the strength `at`; None where no strength explains anything."""
    best = shares.best
    if not (math.isfinite(best) and best > 0 and shares.at(best) >= TOO_FLAT):
        return None
    curve = [(0.0, 0.0)]
    for factor in CURVE:
        curve.append((factor * best * at, shares.at(factor * best)))
    return Side(best * at, 2 * best * at, tuple(curve))


def _strength_1(best: float, trained: float) -> float:
    """The LoRA weight that becomes strength 1, before anything was drawn: as it was trained, where that explains nearly as much
    as the best."""
    return min(best, MOST_UNIT * trained) if best > trained else min(trained, OVER_BEST * best)
