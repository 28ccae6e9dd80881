"""What comes next is decided by (samples, spec, step) alone."""

from collections import Counter
from dataclasses import replace

import pytest

from slider_core.config.checks import SliderError
from slider_core.config.training import Objective, TrainSpec
from slider_core.objective.batch import Batch
from slider_core.objective.batch_plan import plan

PAIRS, NEUTRAL, BATCH, EPOCHS = 5, 3, 2, 3
ROTATING = TrainSpec(objective=Objective.DENOISE_ROTATING, batch=BATCH, seed=4)
PAIRED = TrainSpec(objective=Objective.DENOISE_PAIRED, batch=2 * BATCH, seed=4)
BOTH = pytest.mark.parametrize("spec", [ROTATING, PAIRED], ids=lambda s: s.objective.value)


def seen(batches: list[Batch]) -> Counter:
    """How often each sample came."""
    return Counter(id(sample) for batch in batches for sample in batch.samples)


def signs(batch: Batch) -> set[int]:
    return {(s > 0) - (s < 0) for s in batch.strengths}


def test_rotating_goes_positive_negative_neutral(make_samples) -> None:
    batches = [plan(make_samples(PAIRS, NEUTRAL), ROTATING).batch(step) for step in range(6)]
    assert [(signs(b), b.neutral) for b in batches] == [({1}, False), ({-1}, False), ({1, -1}, True)] * 2
    assert [{s.strength for s in b.samples} for b in batches[:3]] == [{1.0}, {-1.0}, {0.0}]


def test_rotating_skips_an_empty_group(make_samples) -> None:
    assert [signs(plan(make_samples(PAIRS), ROTATING).batch(step)) for step in range(4)] == [{1}, {-1}] * 2


def test_rotating_gives_every_sample_its_own_noise(make_samples) -> None:
    assert plan(make_samples(PAIRS), ROTATING).batch(0).noise == (0, 1)


@pytest.mark.parametrize(("turn", "strength"), [(0, 1.0), (1, -1.0)])
def test_rotating_shows_every_image_of_a_group_once_an_epoch(make_samples, turn: int, strength: float) -> None:
    samples = make_samples(PAIRS)
    batches = [plan(samples, ROTATING).batch(2 * visit + turn) for visit in range(PAIRS)]  # 5 visits of 2 images are 2 epochs
    order = [id(s) for b in batches for s in b.samples]
    group = {id(s) for s in samples if s.strength == strength}
    assert set(order[:PAIRS]) == set(order[PAIRS:]) == group
    assert order[:PAIRS] != order[PAIRS:]  # shuffled anew


def test_paired_shows_every_pair_once_an_epoch(make_samples) -> None:
    samples = make_samples(PAIRS)
    assert set(seen([plan(samples, PAIRED).batch(step) for step in range(PAIRS)]).values()) == {BATCH}


def test_paired_loses_no_pair_to_the_neutral_steps(make_samples) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    steps = [step for step in range(100) if step % 3 != 2][: PAIRS * EPOCHS]
    counted = seen([plan(samples, PAIRED).batch(step) for step in steps])
    assert set(counted.values()) == {BATCH * EPOCHS}
    assert len(counted) == 2 * PAIRS


@BOTH
def test_neutral_images_are_shown_once_an_epoch_at_both_signs_of_the_reach(make_samples, spec: TrainSpec) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    batches = [plan(samples, spec).batch(step) for step in range(2, 3 * NEUTRAL, 3)]
    assert all(b.neutral for b in batches)
    assert set(seen(batches).values()) == {spec.batch}  # NEUTRAL visits of batch / 2 images, each at both signs
    assert len({s for batch in batches for s in batch.strengths}) == sum(len(b.samples) for b in batches)  # all of them random
    for batch in batches:
        half = len(batch.samples) // 2
        assert batch.samples[:half] == batch.samples[half:]
        assert batch.noise[:half] == batch.noise[half:] == tuple(range(half))
        assert batch.strengths[:half] == tuple(-s for s in batch.strengths[half:])
        assert all(0.25 <= s <= 2.0 for s in batch.strengths[:half])
        assert {s.strength for s in batch.samples} == {0.0}


def test_only_whole_pairs_that_line_up_are_aligned(make_samples) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    assert [plan(samples, PAIRED).batch(step).aligned for step in range(3)] == [True, True, False]
    assert not plan([replace(s, aligned=False) for s in samples], PAIRED).batch(0).aligned
    assert not plan([replace(s, pair=None) for s in samples], PAIRED).batch(0).aligned
    assert not plan(samples, ROTATING).batch(0).aligned


def test_neutral_steps_are_every_third(make_samples) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    assert [plan(samples, PAIRED).batch(step).neutral for step in range(6)] == [False, False, True] * 2


def test_a_paired_batch_holds_whole_pairs_that_share_noise(make_samples) -> None:
    samples = make_samples(PAIRS)
    for step in range(2 * PAIRS):
        batch = plan(samples, PAIRED).batch(step)
        groups: dict[int, list] = {}
        for sample, strength, number in zip(batch.samples, batch.strengths, batch.noise, strict=True):
            groups.setdefault(number, []).append((sample.pair, strength))
        assert len(groups) == BATCH
        for (pair, strength), (partner, opposite) in groups.values():
            assert pair == partner
            assert strength == -opposite != 0


@BOTH
def test_a_batch_depends_on_its_step_alone(make_samples, spec: TrainSpec) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    forward = [plan(samples, spec).batch(step) for step in range(12)]
    backward = [plan(samples, spec).batch(step) for step in reversed(range(12))]
    assert [[id(s) for s in b.samples] for b in forward] == [[id(s) for s in b.samples] for b in reversed(backward)]


@BOTH
def test_another_seed_is_another_order(make_samples, spec: TrainSpec) -> None:
    samples = make_samples(PAIRS)
    other = TrainSpec(objective=spec.objective, batch=spec.batch, seed=5)
    orders = [[id(s) for step in range(6) for s in plan(samples, one).batch(step).samples] for one in (spec, other)]
    assert orders[0] != orders[1]


@BOTH
@pytest.mark.parametrize("kept", [1.0, -1.0])
def test_a_missing_sign_is_an_error(make_samples, spec: TrainSpec, kept: float) -> None:
    with pytest.raises(SliderError, match="Training needs positive and negative"):
        plan([s for s in make_samples(PAIRS, NEUTRAL) if s.strength in (kept, 0.0)], spec).batch(0)
