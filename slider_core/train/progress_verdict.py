"""Does the slider work? A name for what was measured, the likely cause, and what to change.

What is measured: the readings (progress.py), which side explains its images at some strength (measurement.py), and how much of
the images is seen in pictures that were drawn at both ends (drawn.py). "Works" needs all three.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..config.checks import need
from ..config.hosts import advice
from ..data.pair_diagnosis import NONE_DIFFERS
from ..lora.calibration import is_trusted
from ..lora.info import SliderInfo
from .calibration import Calibration
from .displacement import Wanted
from .drawn import Drawn
from .progress import Reading, percent
from .progress_ready import EVERY, LEAST_STEPS, UNFINISHED, steps_more

NO_EFFECT = 1e-3  # learned share; a slider below it on both sides at every strength does nothing that a user could see
LEAST_GAIN = 0.002  # the same at the best strength
WORSE = -0.01  # below that a side is harmed; above it a reading may be noise
BURNT, REDEEMED = -1.0, 0.1  # twice as far from what is wanted as the base model, and no strength that explains as much as this
SAME_ENDS = 1.0  # the symmetric part as large as the antisymmetric one, at strength 1
OVERFITTED, WORTH = 0.25, 0.02  # shifted score as part of the learned share; the share from which on that counts
MOVED_HARM = 3.0  # where no picture can tell: how much worse moved images must be than these are better
LEAST_REACH = 0.02  # learned share at the best strength
LEAST_DRAWN, SURE_DRAWN = 0.18, 0.35  # of the images, in drawn pictures: to show in part, and to work
SURE_REACH, FAR_TOO_WEAK = 0.25, 1.75  # or so much learned at the best strength, and no higher one: less is drawn of much else
MUCH_ELSE = 0.1  # of the images; a change of so much more than is theirs is said
MOST_DISTANCE = 2.5  # distances of a pair's images that the drawn ends may lie apart
MOST_CONTRAST = 1.6  # of what is drawn over that of the images; a burnt picture is harder


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
    PARTLY = "partly"
    UNPROVEN = "unproven"
    WORKS = "works"


Explained = tuple[bool, bool]  # whether a calibration found a strength that explains the images of (plus, minus)
RANGED = {Verdict.PARTLY, Verdict.UNPROVEN, Verdict.WORKS}  # whose strengths are said to mean something
LITTLE = {Verdict.NOTHING_LEARNED, Verdict.TOO_WEAK, Verdict.LIMITED}  # for which pairs without a difference may be the cause
USELESS = {Verdict.UNTRAINED, Verdict.NOT_FINITE, Verdict.NOTHING_LEARNED, Verdict.BURNT}  # not to be kept unless forced


def refuse_useless(info: SliderInfo) -> None:
    """SliderError for a slider that was judged to be without effect, or burnt."""
    useless = info.judged in {verdict.value for verdict in USELESS}
    message = f'The slider "{info.name}" was not saved. {info.verdict} To save it all the same, switch force on.'
    need(not useless, message, f"save.{info.judged}")


def is_ranged(judged: str) -> bool:
    """Whether a slider with that verdict in its file has strengths to speak of; one that nobody judged may have."""
    return not judged or judged in {verdict.value for verdict in RANGED}


def strengths_found(calibration: Calibration, info: SliderInfo) -> tuple[bool, str]:
    """(whether a range of strengths can be said of a slider that was calibrated by itself; what is said of its strengths)."""
    seen = calibration.drawn is None or calibration.drawn >= LEAST_DRAWN
    useful = seen and is_ranged(info.judged)
    lines = [calibration.summary(useful, proven=is_trusted(info.judged))]
    if not seen:
        lines.append("No strength shows much of them.")
    if not is_ranged(info.judged):
        lines.append(judged_note(info))
    return useful, " ".join(filter(None, lines))


def judged_note(info: SliderInfo) -> str:
    """What its training was found to have made of a slider that is said neither to work nor to show in part; else empty."""
    return "" if is_ranged(info.judged) else f"When its training ended: {info.verdict}"


@dataclass(frozen=True)
class Evidence:
    """What a verdict is made of. `finite`: whether the weights are; `explained`, `drawn`: None where they were not measured;
    `contradiction`, `alike`: which pairs contradict each other, and in which nothing differs (pair_diagnosis.py); empty where
    none are seen to."""

    readings: Sequence[Reading]
    finite: bool = True
    wanted: Wanted = Wanted.PAIRS
    explained: Explained | None = None
    drawn: Drawn | None = None
    contradiction: str = ""
    alike: str = ""

    @property
    def last(self) -> Reading | None:
        return self.readings[-1] if self.readings else None

    @property
    def whole(self) -> Reading | None:
        """The last whole reading."""
        return next((reading for reading in reversed(self.readings) if reading.symmetric is not None), None)

    @property
    def shown(self) -> float | None:
        """The share of the images that is seen in drawn pictures."""
        return None if self.drawn is None else self.drawn.share

    @property
    def in_motion(self) -> bool:
        """Whether what was drawn is of clips that differ in motion, which it cannot show (drawn.py)."""
        return self.drawn is not None and not self.drawn.in_place


def no_step_helps(verdict: Verdict, evidence: Evidence) -> bool:
    """Whether it is the pairs that leave a slider without effect: nothing differs in any, or they contradict each other."""
    return verdict in LITTLE and (evidence.alike == NONE_DIFFERS or bool(evidence.contradiction))


def worse_sides(last: Reading, explained: Explained | None, limit: float = WORSE) -> list[str]:
    """The sides that explain their images worse than the base model: at no strength, or else at the images' own."""
    fine = explained or (last.positive > limit, last.negative > limit)
    return [name for name, good in zip(("plus", "minus"), fine, strict=True) if not good]


def judge(evidence: Evidence) -> Verdict:
    """The first verdict that fits, on the last reading. A calibration knows better than a reading at one strength whether a side
    explains its images, and drawn pictures know better than both what is seen."""
    last = evidence.last
    if last is None:
        return Verdict.UNTRAINED
    if not evidence.finite or not math.isfinite(sum(last.explained)):
        return Verdict.NOT_FINITE
    if max(abs(share) for share in last.explained) < NO_EFFECT and last.reach < LEAST_GAIN:
        return Verdict.NOTHING_LEARNED
    worse = worse_sides(last, evidence.explained)
    if _is_burnt(evidence, last, bool(worse)):
        return Verdict.BURNT
    same_ends = _symmetric_part(evidence) >= SAME_ENDS
    if _has_only_begun(last, same_ends):
        return Verdict.PARTLY if _is_seen(evidence) else Verdict.TOO_WEAK
    if same_ends:
        return Verdict.SAME_ENDS
    if worse:
        return Verdict.HARMS if len(worse) == 2 else Verdict.ONE_SIDED
    if _is_overfitted(evidence):
        return Verdict.OVERFITTING
    return _effect(evidence, last)


def _is_burnt(evidence: Evidence, last: Reading, worse: bool) -> bool:
    drawn = evidence.drawn
    if drawn and (drawn.contrast > MOST_CONTRAST or (drawn.distance is not None and drawn.distance > MOST_DISTANCE)):
        return True
    return min(last.explained) < BURNT and (worse or (drawn is not None and last.reach < REDEEMED))


def _symmetric_part(evidence: Evidence) -> float:
    """At strength 1: it grows with the strength."""
    whole = evidence.whole
    return (whole.symmetric or 0.0) * (evidence.drawn.strength if evidence.drawn else 1.0) if whole else 0.0


def _has_only_begun(last: Reading, same_ends: bool) -> bool:
    """Whether so little was learned in so few steps that which side is ahead says nothing; or both ends do the same, from which
    the first steps of a training lead away."""
    little = last.reach < LEAST_REACH and min(last.explained) > WORSE
    return last.step < LEAST_STEPS and (little or same_ends)


def _is_overfitted(evidence: Evidence) -> bool:
    """Whether it knows these very images alone: moved ones are explained no more, and what it draws shows little of them."""
    whole = evidence.whole
    if whole is None or whole.mean <= WORTH or (whole.shifted or 0.0) >= OVERFITTED * whole.mean:
        return False
    if evidence.shown is None:
        return evidence.wanted is not Wanted.IMAGES and (whole.shifted or 0.0) < -MOVED_HARM * whole.mean
    return evidence.shown < LEAST_DRAWN


def _effect(evidence: Evidence, last: Reading) -> Verdict:
    """Whether it works: e, the best strength and the drawn pictures must all say so. Of pairs that contradict each other each can
    be learned by heart, which pictures of these pairs do not tell apart."""
    unknown = evidence.shown is None or ((evidence.in_motion or evidence.contradiction) and evidence.shown >= LEAST_DRAWN)
    if unknown and last.reach >= LEAST_REACH:
        return Verdict.UNPROVEN
    if not _is_seen(evidence):
        unfinished = last.strength > UNFINISHED or last.step < LEAST_STEPS
        return Verdict.TOO_WEAK if unfinished else Verdict.LIMITED
    learned = last.reach >= SURE_REACH and last.strength <= FAR_TOO_WEAK
    sure = learned or (evidence.shown or 0.0) >= SURE_DRAWN
    return Verdict.WORKS if sure and last.reach >= LEAST_REACH else Verdict.PARTLY


def _is_seen(evidence: Evidence) -> bool:
    """Whether drawn pictures show something of what is wanted."""
    return evidence.shown is not None and evidence.shown >= LEAST_DRAWN and not (evidence.in_motion or evidence.contradiction)


def explain(verdict: Verdict, evidence: Evidence) -> str:
    """The verdict as a message: what it is, why that happens, what to do. Pairs that contradict each other come before all else
    that may be the cause."""
    if verdict in LITTLE and evidence.alike == NONE_DIFFERS:
        return f"No effect: {_without_difference(evidence)}"
    said = _explained(verdict, evidence)
    if verdict in LITTLE and evidence.alike:
        said = f"{said} See the pairs too: {_without_difference(evidence)}"
    if not evidence.contradiction or evidence.contradiction in said or verdict in (Verdict.UNTRAINED, Verdict.NOT_FINITE):
        return said
    return f"{said} First of all: {_at_odds(evidence)}"


def _at_odds(evidence: Evidence) -> str:
    """What contradicts in the pairs, and what to do."""
    return f"{evidence.contradiction}. See the contact sheet, swap what is the wrong way round and train anew."


def _without_difference(evidence: Evidence) -> str:
    """In which pairs nothing differs, and what to do."""
    return f"{evidence.alike}. Replace one of the two images and train anew."


def _explained(verdict: Verdict, evidence: Evidence) -> str:
    last = evidence.last
    source = "prompts" if evidence.wanted is Wanted.PROMPTS else "images"
    if last is None or verdict is Verdict.UNTRAINED:
        return "No reading yet."
    if verdict is Verdict.ONE_SIDED:
        side = worse_sides(last, evidence.explained)[0]
        return f"The {side} side explains its {source} worse than the base model: train more, or look at that side's {source}."
    if verdict in (Verdict.TOO_WEAK, Verdict.NOTHING_LEARNED) and evidence.contradiction:
        little = "Too weak yet" if verdict is Verdict.TOO_WEAK else "No effect yet"
        return f"{little}, and {_at_odds(evidence)} {last.summary(evidence.wanted)}"
    if verdict is Verdict.TOO_WEAK:
        return f"Too weak yet: {_steps_lacking(evidence.readings)}. {last.summary(evidence.wanted)}"
    if verdict in (Verdict.LIMITED, Verdict.PARTLY, Verdict.WORKS):
        return _of_drawn(verdict, evidence, last)
    if verdict is Verdict.UNPROVEN and evidence.wanted is Wanted.IMAGES:
        return (
            "Learned, not proven: the images do not line up in pairs, so nothing but the strip can show whether it is the "
            f"concept that was learned. {last.summary(evidence.wanted)}"
        )
    if verdict is Verdict.UNPROVEN and evidence.in_motion:
        return (
            "Learned, not proven: the clips of a pair differ in motion, so nothing but the strip can show whether new clips move "
            f"so. {last.summary(evidence.wanted)}"
        )
    if verdict is Verdict.UNPROVEN and evidence.shown is not None:
        return (
            f"Learned, not proven: each pair may have been learned by heart, since {_at_odds(evidence)} "
            f"{last.summary(evidence.wanted)}"
        )
    if verdict is Verdict.UNPROVEN:
        return f"Learned, not proven: what shows is measured when a training ends. {last.summary(evidence.wanted)}"
    return {
        Verdict.NOT_FINITE: "Broken: numbers are not finite. Lower the learning rate and train anew.",
        Verdict.NOTHING_LEARNED: "No effect yet: train more steps, or see whether the two sides differ.",
        Verdict.BURNT: f"Burnt: {_burnt_part(last, source)}. Train anew at the learning rate 0, a probe's; where it was 0, at a "
        "fifth of the rate that was found.",
        Verdict.SAME_ENDS: "Both ends do the same: plus and minus share more than sets them apart. See whether the two sides "
        "of the dataset differ, and lower the learning rate.",
        Verdict.HARMS: f"Both sides explain their {source} worse than the base model. Train more, or check the pairs.",
        Verdict.OVERFITTING: "Overfitting: it explains these very images, but hardly the same ones moved a little. Train less, "
        "add pairs, or choose the objective displacement.",
    }[verdict]


def where_layers() -> str:
    """Where a person sets rank and layers, behind the words that advise it."""
    return advice(" (Slider Target Injector, on targets)", "")


def _steps_lacking(readings: Sequence[Reading]) -> str:
    """How many steps, where something was learned to reckon from; else when a reading will tell."""
    last = readings[-1]
    if last.reach < LEAST_REACH and last.step < LEAST_STEPS:
        return f"next to nothing is learned in {last.step} steps. Step {LEAST_STEPS} tells whether more will help"
    return f"about {max(EVERY, steps_more(readings))} more steps"


def _of_drawn(verdict: Verdict, evidence: Evidence, last: Reading) -> str:
    """The message of a verdict that says how much of what is wanted is seen."""
    share = last.reach if evidence.shown is None else max(0.0, evidence.shown)
    seen = "a picture at 1 shows" if last.one_way else "pictures at -1 and +1 show"
    effect = f"{seen} about {percent(share)} of what sets the {evidence.wanted.value} apart"
    if evidence.shown is None:
        effect = f"the learned share is {percent(share)} at the best strength"
    learned = last.summary(evidence.wanted)
    more = steps_more(evidence.readings)
    if verdict is Verdict.LIMITED and evidence.contradiction:
        return f"Little effect: {effect}, and {_at_odds(evidence)}"
    if verdict is Verdict.LIMITED:
        mends = f". About {more} more steps may show more; if not, look" if more else ", and no strength mends that. Look"
        return f"Little effect: {effect}{mends} at the pairs, raise the rank, or add layers{where_layers()}."
    if verdict is Verdict.WORKS:
        sides = "one way" if last.one_way else "on both sides"
        return f"Works {sides}: {effect}{_else_moved(evidence.drawn, share)}. {learned}"
    further = (
        f"About {more} more steps may show more."
        if more
        else f"See the strip; a higher rank{where_layers()} or more pairs may show more."
    )
    return f"Shows in part: {effect}, other pictures perhaps less. {further} {learned}"


def _else_moved(drawn: Drawn | None, share: float) -> str:
    """How far pictures move in all at the places where the images differ, where that is more than what the images show."""
    length = drawn.shows if drawn else None
    if length is None or length - share < MUCH_ELSE:
        return ""
    return f", and move {percent(length)} as far in all"


def _burnt_part(last: Reading, source: str) -> str:
    burnt = worse_sides(last, None, BURNT)
    if not burnt:
        return f"what it draws lies far beyond the {source}"
    return f"the {' and the '.join(burnt)} side {'explain' if len(burnt) > 1 else 'explains'} far less than the base model"
