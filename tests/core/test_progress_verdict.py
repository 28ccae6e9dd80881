"""Every verdict from evidence that shows it, each with a cause and something to change."""

import math
from dataclasses import replace

import pytest
from core.faults import refused

from slider_core.data.pair_diagnosis import NONE_DIFFERS
from slider_core.lora.info import SliderInfo
from slider_core.train.calibration import Calibration, Side
from slider_core.train.displacement import Wanted
from slider_core.train.drawn import Drawn
from slider_core.train.progress import Reading
from slider_core.train.progress_verdict import (
    RANGED,
    USELESS,
    Evidence,
    Verdict,
    explain,
    is_ranged,
    judge,
    judged_note,
    no_step_helps,
    refuse_useless,
    strengths_found,
)

GOOD = Reading(150, 0.4, 0.3, 0.1, 0.3, 1.0, 0.35)
EVIDENCE = {
    Verdict.UNTRAINED: Evidence([]),
    Verdict.NOT_FINITE: Evidence([replace(GOOD, positive=math.nan)]),
    Verdict.NOTHING_LEARNED: Evidence([Reading(9, 5e-4, -5e-4, 3.0)]),
    Verdict.BURNT: Evidence([replace(GOOD, negative=-2.0)]),
    Verdict.SAME_ENDS: Evidence([replace(GOOD, symmetric=1.5)]),
    Verdict.HARMS: Evidence([replace(GOOD, positive=-0.05, negative=-0.02)]),
    Verdict.ONE_SIDED: Evidence([replace(GOOD, negative=-0.02)]),
    Verdict.OVERFITTING: Evidence([replace(GOOD, shifted=0.01)], drawn=Drawn(0.1, 0.5, 1.0)),
    Verdict.TOO_WEAK: Evidence([Reading(4, 0.01, -0.002, None, None, 9.0, 0.01)], explained=(True, False)),
    Verdict.LIMITED: Evidence([replace(GOOD, step=240)], drawn=Drawn(0.1, 0.2, 1.0)),
    Verdict.PARTLY: Evidence([replace(GOOD, reach=0.2)], drawn=Drawn(0.25, 0.5, 1.0)),
    Verdict.UNPROVEN: Evidence([GOOD]),
    Verdict.WORKS: Evidence([GOOD], drawn=Drawn(0.6, 0.8, 1.0)),
}


def test_each_verdict_has_evidence_and_a_message_of_its_own() -> None:
    messages = set()
    for verdict, evidence in EVIDENCE.items():
        assert judge(evidence) is verdict
        messages.add(explain(verdict, evidence))
    assert len(messages) == len(Verdict)
    assert set(Verdict) > USELESS


@pytest.mark.parametrize("sides", [("minus",), ("plus",), ("plus", "minus")])
def test_the_weak_sides_are_named(sides: tuple[str, ...]) -> None:
    weak = {{"plus": "positive", "minus": "negative"}[side]: -9.0 for side in sides}
    evidence = Evidence([replace(GOOD, **weak)])
    burnt = explain(Verdict.BURNT, evidence)
    assert [side for side in ("plus", "minus") if side in burnt] == list(sides)
    assert sides[0] in explain(Verdict.ONE_SIDED, evidence)


@pytest.mark.parametrize(
    ("drawn", "verdict"),
    [
        (Drawn(1.0, 1.1, 1.0), Verdict.WORKS),
        (Drawn(0.05, 0.06, 1.0), Verdict.LIMITED),  # three identical faces
        (Drawn(0.02, 1.2, 1.0), Verdict.LIMITED),  # moves, but not what the images differ in
        (Drawn(1.0, 9.0, 1.0), Verdict.BURNT),
        (Drawn(1.0, 1.1, 3.0), Verdict.BURNT),
        (Drawn(1.0, 1.1, 1.0, strength=20.0), Verdict.SAME_ENDS),
    ],
)
def test_pictures_that_were_drawn_have_a_say(drawn: Drawn, verdict: Verdict) -> None:
    assert judge(replace(EVIDENCE[Verdict.WORKS], drawn=drawn)) is verdict


def test_both_ends_may_do_the_same_while_a_training_has_only_begun() -> None:
    same = EVIDENCE[Verdict.SAME_ENDS]
    begun = replace(same, readings=[replace(same.readings[0], step=3)])
    assert judge(begun) is Verdict.TOO_WEAK
    assert judge(replace(begun, drawn=Drawn(0.5, 0.6, 1.0))) is Verdict.PARTLY
    assert judge(replace(same, drawn=Drawn(0.5, 0.6, 1.0))) is Verdict.SAME_ENDS


def test_an_unfinished_slider_must_show_more() -> None:
    for share, verdict in ((0.1, Verdict.TOO_WEAK), (0.25, Verdict.PARTLY), (0.5, Verdict.WORKS)):
        assert judge(Evidence([replace(GOOD, strength=3.0)], drawn=Drawn(share, share, 1.0))) is verdict


@pytest.mark.parametrize("step", [30, 150])  # few steps, and those of a training that ends by itself
def test_what_is_seen_of_a_slider_that_has_learned_little_is_said(step: int) -> None:
    little = Evidence([replace(GOOD, step=step, positive=0.01, negative=0.01, reach=0.015)])
    assert judge(replace(little, drawn=Drawn(0.4, 0.6, 1.0))) is Verdict.PARTLY
    assert judge(replace(little, drawn=Drawn(0.1, 0.6, 1.0))) in (Verdict.TOO_WEAK, Verdict.LIMITED)
    assert judge(replace(little, drawn=Drawn(0.4, 0.6, 1.0, in_place=False))) in (Verdict.TOO_WEAK, Verdict.LIMITED)


@pytest.mark.parametrize(("share", "reach"), [(0.35, 0.1), (0.2, 0.3)])
def test_a_share_that_is_large_enough_suffices(share: float, reach: float) -> None:
    assert judge(Evidence([replace(GOOD, reach=reach)], drawn=Drawn(share, share, 1.0))) is Verdict.WORKS


def test_the_share_that_is_told_is_the_drawn_one() -> None:
    for verdict in (Verdict.LIMITED, Verdict.PARTLY, Verdict.WORKS):
        evidence = EVIDENCE[verdict]
        assert f"{100 * evidence.drawn.share:.0f} %" in explain(verdict, evidence)


def test_what_is_advised_of_little_effect_is_what_the_button_offers() -> None:
    """More steps while the share grows, and none once it has stopped."""
    drawn, grown = EVIDENCE[Verdict.LIMITED].drawn, replace(GOOD, step=240)
    for before, more in ((0.2, "About 120 more steps"), (0.345, "no strength mends that")):
        evidence = Evidence([replace(GOOD, step=60, positive=before, negative=before), grown], drawn=drawn)
        assert judge(evidence) is Verdict.LIMITED
        assert more in explain(Verdict.LIMITED, evidence)


@pytest.mark.parametrize("verdict", [verdict for verdict in Verdict if verdict not in (Verdict.UNTRAINED, Verdict.NOT_FINITE)])
def test_pairs_that_contradict_each_other_are_named_beside_every_verdict(verdict: Verdict) -> None:
    odd = "03.png, 05.png look the wrong way round"
    said = explain(verdict, replace(EVIDENCE[verdict], contradiction=odd))
    assert f"{odd}. See the contact sheet, swap what is the wrong way round and train anew." in said
    if verdict in (Verdict.NOTHING_LEARNED, Verdict.TOO_WEAK, Verdict.LIMITED):
        assert "more steps" not in said
        assert "no strength" not in said


@pytest.mark.parametrize("verdict", [Verdict.NOTHING_LEARNED, Verdict.TOO_WEAK, Verdict.LIMITED])
def test_pairs_in_which_nothing_differs_are_named_where_the_effect_is_small(verdict: Verdict) -> None:
    none = replace(EVIDENCE[verdict], alike=NONE_DIFFERS)
    assert judge(none) is verdict
    assert NONE_DIFFERS in explain(verdict, none)
    assert "more steps" not in explain(verdict, none)
    assert no_step_helps(verdict, none)
    some = replace(EVIDENCE[verdict], alike="nothing differs in 03.png")
    assert some.alike in explain(verdict, some)
    assert not no_step_helps(verdict, some)
    works = replace(EVIDENCE[Verdict.WORKS], alike=some.alike)
    assert some.alike not in explain(Verdict.WORKS, works)


def test_steps_are_advised_where_something_was_learned_to_reckon_them_from() -> None:
    nothing = Evidence([replace(GOOD, step=30, positive=0.003, negative=0.002, reach=0.01, strength=4.0)])
    assert judge(nothing) is Verdict.TOO_WEAK
    said = explain(Verdict.TOO_WEAK, nothing)
    assert "next to nothing is learned in 30 steps. Step 120 tells" in said
    assert "more steps" not in said
    some = Evidence([replace(GOOD, step=30, strength=4.0)], drawn=Drawn(0.1, 0.1, 1.0))
    assert judge(some) is Verdict.TOO_WEAK
    assert "about 90 more steps" in explain(Verdict.TOO_WEAK, some)


def test_what_pictures_show_and_what_is_learned_are_told_apart() -> None:
    for verdict in (Verdict.LIMITED, Verdict.PARTLY, Verdict.WORKS):
        evidence = EVIDENCE[verdict]
        said = explain(verdict, evidence)
        assert f"pictures at -1 and +1 show about {100 * evidence.drawn.share:.0f} % of what sets the pairs apart" in said
        assert verdict is Verdict.LIMITED or "Learned share 35 % (plus 40 %, minus 30 %)" in said


def test_weights_that_are_not_finite_outdo_any_reading_and_the_last_reading_counts() -> None:
    assert judge(Evidence([GOOD], finite=False)) is Verdict.NOT_FINITE
    assert judge(replace(EVIDENCE[Verdict.WORKS], readings=[*EVIDENCE[Verdict.HARMS].readings, GOOD])) is Verdict.WORKS


def test_what_no_picture_can_prove_is_not_said_to_work() -> None:
    small = Evidence([Reading(150, 0.01, 0.01, 0.1, 0.01, 1.0, 0.01)], wanted=Wanted.IMAGES)
    assert judge(small) is Verdict.LIMITED
    unproven = Evidence([GOOD], wanted=Wanted.IMAGES, drawn=Drawn(None, None, 1.0))
    assert judge(unproven) is Verdict.UNPROVEN


def test_pairs_that_contradict_each_other_are_not_said_to_work() -> None:
    """Sliders of six pairs, three of them swapped, draw up to all of what their own pairs show, and nothing in other pictures."""
    learned = replace(EVIDENCE[Verdict.WORKS], contradiction="a.png looks the wrong way round")
    assert judge(learned) is Verdict.UNPROVEN
    assert learned.contradiction in explain(Verdict.UNPROVEN, learned)
    little = Drawn(0.05, 0.1, 1.0)
    assert judge(replace(learned, drawn=little)) is judge(replace(EVIDENCE[Verdict.WORKS], drawn=little))


def test_of_clips_that_differ_in_motion_no_share_is_said_to_work() -> None:
    """A slider of speed whose new clips are no faster was drawn at 0.39 between its pairs' clips."""
    for share in (0.39, 1.0):
        moving = Evidence([GOOD], drawn=Drawn(share, share, 1.0, in_place=False))
        assert judge(moving) is Verdict.UNPROVEN
        assert "motion" in explain(Verdict.UNPROVEN, moving)
    assert judge(Evidence([replace(GOOD, step=240)], drawn=Drawn(0.05, 0.1, 1.0, in_place=False))) is Verdict.LIMITED


def test_a_calibration_knows_better_than_one_strength() -> None:
    loud = replace(EVIDENCE[Verdict.HARMS], drawn=Drawn(0.6, 0.8, 1.0))  # too strong at 1, right at a tenth of it
    for evidence, explained, verdict in (
        (loud, (True, True), Verdict.WORKS),
        (EVIDENCE[Verdict.WORKS], (True, False), Verdict.ONE_SIDED),
        (EVIDENCE[Verdict.WORKS], (False, False), Verdict.HARMS),
    ):
        assert judge(replace(evidence, explained=explained)) is verdict


def test_what_has_no_effect_or_is_burnt_is_not_kept() -> None:
    for verdict in Verdict:
        info = SliderInfo(name="mine", verdict="Because.", judged=verdict.value)
        if verdict in USELESS:
            with refused(f"save.{verdict.value}", "mine", "Because."):
                refuse_useless(info)
        else:
            refuse_useless(info)
    refuse_useless(SliderInfo())  # of another program


SIDE = Side(5.0, 12.0, ((0.0, 0.0), (5.0, 0.1)))
BAD = sorted(set(Verdict) - RANGED)


@pytest.mark.parametrize("verdict", BAD)
def test_no_range_is_said_of_a_slider_that_its_training_was_found_to_have_failed(verdict: Verdict) -> None:
    info = SliderInfo(judged=verdict.value, verdict=explain(verdict, EVIDENCE[verdict]), step=9, range=(-1.0, 1.0))
    found = Calibration(SIDE, SIDE, 9, weight_of_1=4.0, drawn=0.9)
    useful, said = strengths_found(found, info)
    assert not useful
    assert "range" not in said
    assert "5.00" not in said, "where it is best"
    assert info.verdict in said
    assert info.verdict in judged_note(info)
    described = found.described(info, 4.0, useful)
    assert (described.range, described.range_name) == ((-1.0, 1.0), "trained range")
    assert "90 %" in described.calibration.strength_1, "not simply what the images show"


@pytest.mark.parametrize("verdict", sorted(RANGED))
def test_a_range_is_useful_where_the_slider_works(verdict: Verdict) -> None:
    info = SliderInfo(judged=verdict.value, verdict="as it is", step=9, range=(-1.0, 1.0))
    found = Calibration(SIDE, SIDE, 9, weight_of_1=4.0, drawn=0.9)
    useful, said = strengths_found(found, info)
    described = found.described(info, 4.0, useful)
    assert useful
    assert described.range == (-3.0, 3.0)
    assert judged_note(described) == ""
    assert [("useful range" in text) for text in (said, described.range_name)] == [verdict is Verdict.WORKS] * 2


def test_of_a_lora_that_shows_little_no_range_is_said() -> None:
    useful, said = strengths_found(Calibration(SIDE, SIDE, 9, drawn=0.05), SliderInfo())
    assert (useful, "range" in said, "5 %" in said) == (False, False, True)
    assert strengths_found(Calibration(SIDE, SIDE, 9, drawn=None), SliderInfo())[0], "where pictures cannot show it"
    assert is_ranged("")


def test_what_a_slider_shows_is_the_way_of_the_pairs_and_not_how_far_pictures_move() -> None:
    drawn = Drawn(0.45, 1.4, 1.0, length=0.97)
    said = explain(Verdict.WORKS, Evidence([GOOD], drawn=drawn))
    assert said.index("45 %") < said.index("97 %")
    assert "97" not in explain(Verdict.PARTLY, Evidence([GOOD], drawn=drawn))
    assert "97" not in explain(Verdict.WORKS, Evidence([GOOD], drawn=replace(drawn, share=0.93)))
