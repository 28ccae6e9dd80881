"""Does the slider work? A name for what was measured, the likely cause, and what to change.

What is measured: the readings (progress.py), which side explains its images at some strength (calibration_search.py), and the
distance between pictures that were drawn at both ends (drawn.py). "Works" needs all three where they were taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..config.checks import need
from ..lora.info import SliderInfo
from .displacement import Wanted
from .drawn import Drawn
from .progress import Reading, percent
from .progress_ready import UNFINISHED, steps_more

NO_EFFECT = 1e-3  # learned share; a slider below it on both sides at every strength does nothing that a user could see
WORSE = -0.01  # below that a side is harmed; above it a reading may be noise
BURNT = -1.0  # twice as far from what is wanted as the base model: more steps do not fix that
SAME_ENDS = 1.0  # the symmetric part as large as the antisymmetric one
OVERFITTED, WORTH = 0.25, 0.02  # shifted score as part of the learned share; the share from which on that counts
MOVED_HARM = 3.0  # where no picture can tell: how much worse moved images must be than these are better
LEAST_REACH = 0.1  # share of what pairs or prompts show that a slider must reach at its best strength
LEAST_GAIN = 0.002  # the same of the whole error of images that do not line up
LEAST_DRAWN, MOST_DRAWN = 0.2, 2.5  # distances of a pair's images that the drawn ends must lie apart, and may
MOST_CONTRAST = 1.6  # of the ends over that of the middle; a burnt picture is harder


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
    TOO_WEAK = "too_weak"
    LIMITED = "limited"
    WORKS = "works"


Explained = tuple[bool, bool]  # whether a calibration found a strength that explains the images of (plus, minus)
USELESS = {Verdict.UNTRAINED, Verdict.NOT_FINITE, Verdict.NOTHING_LEARNED, Verdict.BURNT}  # not to be kept unless forced


def refuse_useless(info: SliderInfo) -> None:
    """SliderError for a slider that was judged to be without effect, or burnt."""
    useless = info.judged in {verdict.value for verdict in USELESS}
    message = f'The slider "{info.name}" was not saved. {info.verdict} To save it all the same, switch force on.'
    need(not useless, message, f"save.{info.judged}")


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of. `finite`: whether the weights are; `explained`, `drawn`: None where they were not measured."""

    readings: Sequence[Reading]
    finite: bool = True
    wanted: Wanted = Wanted.PAIRS
    explained: Explained | None = None
    drawn: Drawn | None = None

    @property
    def last(self) -> Reading | None:
        return self.readings[-1] if self.readings else None


def worse_sides(last: Reading, explained: Explained | None, limit: float = WORSE) -> list[str]:
    """The sides that explain their images worse than the base model: at no strength, or else at the images' own."""
    fine = explained or (last.positive > limit, last.negative > limit)
    return [name for name, good in zip(("plus", "minus"), fine, strict=True) if not good]


def judge(evidence: Evidence) -> Verdict:
    """The first verdict that fits, on the last reading. A calibration knows better than a reading at one strength whether a side
    explains its images."""
    last = evidence.last
    if last is None:
        return Verdict.UNTRAINED
    if not evidence.finite or not math.isfinite(sum(last.explained)):
        return Verdict.NOT_FINITE
    worse = worse_sides(last, evidence.explained)
    if max(abs(share) for share in last.explained) < NO_EFFECT and last.reach < LEAST_GAIN:
        return Verdict.NOTHING_LEARNED
    if (worse and min(last.explained) < BURNT) or _burnt_pictures(evidence.drawn):
        return Verdict.BURNT
    if last.symmetric >= SAME_ENDS:
        return Verdict.SAME_ENDS
    if worse:
        return Verdict.HARMS if len(worse) == 2 else Verdict.ONE_SIDED
    if _is_overfitted(evidence, last):
        return Verdict.OVERFITTING
    if _has_effect(evidence, last):
        return Verdict.WORKS
    return Verdict.TOO_WEAK if last.strength > UNFINISHED else Verdict.LIMITED


def _burnt_pictures(drawn: Drawn | None) -> bool:
    if drawn is None:
        return False
    return drawn.contrast > MOST_CONTRAST or (drawn.distance is not None and drawn.distance > MOST_DRAWN)


def _is_overfitted(evidence: Evidence, last: Reading) -> bool:
    """Whether it knows these very images alone: moved ones are explained no more, and what it draws shows little of them."""
    if last.mean <= WORTH or last.shifted >= OVERFITTED * last.mean:
        return False
    drawn = evidence.drawn
    if drawn is None or drawn.distance is None:
        return last.shifted < -MOVED_HARM * last.mean
    return drawn.distance < 2 * LEAST_DRAWN


def _has_effect(evidence: Evidence, last: Reading) -> bool:
    drawn = evidence.drawn
    shown = drawn is None or drawn.distance is None or drawn.distance >= LEAST_DRAWN
    return shown and last.reach >= (LEAST_GAIN if evidence.wanted is Wanted.IMAGES else LEAST_REACH)


def explain(verdict: Verdict, evidence: Evidence) -> str:
    """The verdict as a message: what it is, why that happens, what to do."""
    last = evidence.last
    source = "prompts" if evidence.wanted is Wanted.PROMPTS else "images"
    if last is None or verdict is Verdict.UNTRAINED:
        return "Not trained yet."
    if verdict is Verdict.ONE_SIDED:
        side = worse_sides(last, evidence.explained)[0]
        return f"The {side} side explains its {source} worse than the base model: train more, or look at that side's {source}."
    if verdict is Verdict.TOO_WEAK:
        return f"Too weak yet: about {steps_more(evidence.readings)} more steps. {last.summary(evidence.wanted)}"
    if verdict is Verdict.LIMITED:
        return (
            f"Little effect: this slider reaches about {percent(last.reach)} of what the {evidence.wanted.value} show, and no "
            "strength mends that. Look at the pairs, raise the rank, or add layers."
        )
    if verdict is Verdict.WORKS:
        return f"Works on both sides. {last.summary(evidence.wanted)}"
    return {
        Verdict.NOT_FINITE: "Broken: numbers are not finite. Lower the learning rate and train anew.",
        Verdict.NOTHING_LEARNED: "No effect yet: train more steps, or see whether the two sides differ.",
        Verdict.BURNT: f"Burnt: {_burnt_part(last, source)}. Set the learning rate to 0, a probe's, and train anew.",
        Verdict.SAME_ENDS: "Both ends do the same: plus and minus share more than sets them apart. See whether the two sides "
        "of the dataset differ, and lower the learning rate.",
        Verdict.HARMS: f"Both sides explain their {source} worse than the base model. Train more, or check the pairs.",
        Verdict.OVERFITTING: "Overfitting: it explains these very images, but hardly the same ones moved a little. Train less, "
        "add pairs, or choose the objective displacement.",
    }[verdict]


def _burnt_part(last: Reading, source: str) -> str:
    burnt = worse_sides(last, None, BURNT)
    if not burnt:
        return f"what it draws lies far beyond the {source}"
    return f"the {' and the '.join(burnt)} side {'explain' if len(burnt) > 1 else 'explains'} far less than the base model"
