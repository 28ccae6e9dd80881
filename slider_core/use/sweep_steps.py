"""Even steps of a dial, measured on a sweep: how far apart its neighbouring pictures lie."""

from __future__ import annotations

from ..lora.calibration import Units
from ..lora.even_steps import EvenSteps, even_steps
from ..lora.info import SliderInfo
from . import field_measures as field
from .perceptual import Metric
from .sweep import SweepResult
from .sweep_report import SIDES, columns_of_side, trajectories

Side = tuple[list[float], list[float]]


def measured_steps(result: SweepResult, metric: Metric, info: SliderInfo, units: Units | str) -> EvenSteps | None:
    """The dial of the slider that was swept at strengths of these units; None where the sweep has no strength 0, or reaches
    neither 1 nor -1. A side that it does not reach has no places."""
    if result.spec.strengths[result.zero] != 0:
        return None
    sides: dict[float, Side] = {}
    for sign in SIDES.values():
        columns = columns_of_side(result, sign)
        if len(columns) > 1 and not (sign < 0 and info.one_way):
            strengths = [abs(info.calibrated_strength(result.spec.strengths[column], units)) for column in columns]
            rows = [path.steps for path in trajectories(result, metric, columns)]
            sides[sign] = strengths, [field.mean(steps) for steps in zip(*rows, strict=True)]
    return even_steps(sides)


def steps_line(dial: EvenSteps | None, result: SweepResult) -> str:
    """What was measured, for the report."""
    if dial is None:
        return "No even steps: they need strength 0, one beyond, and 1 or -1 in the sweep."
    low, high = dial.points[0][0], dial.points[-1][0]
    places = [f"{place:g} is {dial.strength(place):.2f}" for place in (-1.5, -0.5, 0.5, 1.5) if low <= place <= high]
    measured = f"{len(set(result.spec.strengths))} strengths and {len(result.images)} rows"
    use = "Save the slider out of this node, and set units to even_steps where it is used."
    return f"Even steps, of {measured}: on the dial {', '.join(places)}; 0 and +-1 stay. {use}"
