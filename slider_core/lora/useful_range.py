"""Which strengths lie beyond the range in which a slider was found to be useful: pictures fall apart there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config.checks import choice
from .calibration import CalibrationInfo, Units
from .even_steps import EvenSteps
from .info import SliderInfo

Span = tuple[float, float]  # lowest and highest strength
DIGITS = 1  # after the point, of a range in words: what they say to be within is within


def ranged_by_hand(info: SliderInfo, low: float, high: float) -> SliderInfo:
    """The same with a useful range that a person has found. SliderError where the header does not say what a strength is."""
    if info.calibration is None:
        info.check("calibration", "Calibrate it anew first.")
    calibration = replace(info.calibration or CalibrationInfo(), by_hand=True)
    return replace(info, range=(low, high), calibration=calibration)


def useful_range(info: SliderInfo, units: Units | str = Units.CALIBRATED) -> Span | None:
    """The useful range in strengths of those units. None where neither a calibration nor a person found one (other programs'
    LoRAs, a slider that was not found to work), and of LoRA weights."""
    units = choice(Units, units, "Unit")
    if info.range is None or not info.is_range_useful or units is Units.RAW:
        return None
    low, high = info.range
    if units is Units.EVEN_STEPS and info.even_steps is not None:
        back = EvenSteps(tuple((strength, place) for place, strength in info.even_steps.points))
        low, high = map(back.strength, (low, high))
    return min(low, round(low, DIGITS)), max(high, round(high, DIGITS))


def is_beyond(strength: float, useful: Span | None) -> bool:
    """Whether it lies outside that range; never where there is none."""
    return useful is not None and not useful[0] <= strength <= useful[1]


def beyond_words(strengths: Sequence[float], useful: Span | None) -> str:
    """`beyond the useful range -1.0 to +1.0` where one of the strengths is; else empty."""
    if useful is None or not any(is_beyond(strength, useful) for strength in strengths):
        return ""
    low, high = (f"{end:+.{DIGITS}f}" if end else "0" for end in useful)
    return f"beyond the useful range {low} to {high}"


def beyond_note(strengths: Sequence[float], useful: Span | None, whose: str = "") -> str:
    """A sentence that names the strengths beyond that range, and `whose` they are; empty where there are none."""
    named = [f"{strength:+g}" for strength in sorted(set(strengths)) if is_beyond(strength, useful)]
    if not named:
        return ""
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]])) + (f" of {whose}" if whose else "")
    return f"{'Strength' if len(named) == 1 else 'Strengths'} {listed}: {beyond_words(strengths, useful)}."
