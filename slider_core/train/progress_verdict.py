"""Does the slider work? A name for what the readings show, the likely cause, and what to change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from .progress import Reading

NO_EFFECT = 1e-3  # explained share; a trained slider below it on both sides does nothing that a user could see
WORSE = -0.01  # below that the images are explained worse; above it a reading may be noise
BURNT = -1.0  # twice the error of the base model: more steps do not fix that
SAME_ENDS = 1.0  # the symmetric part as large as the antisymmetric one
OVERFITTED, WORTH = 0.25, 0.02  # shifted score as part of the explained share; the share from which on that counts


class Verdict(str, Enum):
    """What can be wrong with a slider under training."""

    UNTRAINED = "untrained"
    NOT_FINITE = "not_finite"
    NOTHING_LEARNED = "nothing_learned"
    BURNT = "burnt"
    SAME_ENDS = "same_ends"
    HARMS = "harms"
    ONE_SIDED = "one_sided"
    OVERFITTING = "overfitting"
    WORKS = "works"


Explained = tuple[bool, bool]  # whether a calibration found a strength that explains the images of (plus, minus)


def worse_sides(last: Reading, explained: Explained | None, limit: float = WORSE) -> list[str]:
    """The sides that explain their images worse than the base model: at no strength, or else at the images' own."""
    fine = explained or (last.positive > limit, last.negative > limit)
    return [name for name, good in zip(("plus", "minus"), fine, strict=True) if not good]


def judge(readings: Sequence[Reading], finite: bool, explained: Explained | None = None) -> Verdict:
    """The verdict on the last reading; `finite`: whether the slider's weights are. A calibration knows better than a reading at
    one strength whether a side explains its images."""
    if not readings:
        return Verdict.UNTRAINED
    last = readings[-1]
    if not finite or not math.isfinite(sum(last.explained)):
        return Verdict.NOT_FINITE
    worse = worse_sides(last, explained)
    if max(abs(share) for share in last.explained) < NO_EFFECT and not (explained and any(explained)):
        return Verdict.NOTHING_LEARNED
    if worse and min(last.explained) < BURNT:
        return Verdict.BURNT
    if last.symmetric >= SAME_ENDS:
        return Verdict.SAME_ENDS
    if worse:
        return Verdict.HARMS if len(worse) == 2 else Verdict.ONE_SIDED
    if last.mean > WORTH and last.shifted < OVERFITTED * last.mean:
        return Verdict.OVERFITTING
    return Verdict.WORKS


def explain(verdict: Verdict, last: Reading | None, explained: Explained | None = None, source: str = "images") -> str:
    """The verdict as a message: what it is, why that happens, what to do. `source`: what was learned from, images or prompts."""
    if verdict is Verdict.BURNT and last is not None:
        burnt = worse_sides(last, None, BURNT)
        sides = f"{' and the '.join(burnt)} side {'explain' if len(burnt) > 1 else 'explains'}"
        return f"Burnt: the {sides} far less than the base model. Lower the learning rate and train anew."
    if verdict is Verdict.ONE_SIDED and last is not None:
        side = worse_sides(last, explained)[0]
        return f"The {side} side explains its {source} worse than the base model: train more, or look at that side's {source}."
    return {
        Verdict.UNTRAINED: "Not trained yet.",
        Verdict.NOT_FINITE: "Broken: numbers are not finite. Lower the learning rate and train anew.",
        Verdict.NOTHING_LEARNED: "No effect yet: train more steps or raise the learning rate.",
        Verdict.SAME_ENDS: "Both ends do the same: plus and minus share more than sets them apart. See whether the two sides "
        "of the dataset differ, and lower the learning rate.",
        Verdict.HARMS: f"Both sides explain their {source} worse than the base model. Train more, or check the pairs.",
        Verdict.OVERFITTING: "Overfitting: it explains these very images, but hardly the same ones moved a little. Train less, "
        "add pairs, or choose the objective displacement.",
        Verdict.WORKS: "Works on both sides.",
    }[verdict]
