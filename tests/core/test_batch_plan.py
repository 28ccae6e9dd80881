"""What comes next is decided by (samples, spec, step) alone: groups in turn, weights in proportion, repeats, no history.

Oracle: a plain simulation of the rule of the slider guide, written here, and counting.
"""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from core.faults import refused
from hypothesis import given, settings
from hypothesis import strategies as st

from slider_core.backend import Conditioning
from slider_core.config.training import Objective, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.objective.batch import Batch, batch_parts
from slider_core.objective.batch_plan import plan

NOTHING = Conditioning("", None)
PAIRS, NEUTRAL, SIZE, EPOCHS = 5, 3, 2, 3
ROTATING = TrainSpec(objective=Objective.DENOISE_ROTATING, batch=SIZE, seed=4)
PAIRED = TrainSpec(objective=Objective.DENOISE_PAIRED, batch=2 * SIZE, seed=4)
BOTH = pytest.mark.parametrize("spec", [ROTATING, PAIRED], ids=lambda s: s.objective.value)
FEW = settings(max_examples=30, deadline=None)


def batches(samples: list[Sample], spec: TrainSpec, steps: range) -> list[Batch]:
    chosen = plan(samples, spec)
    return [chosen.batch(step) for step in steps]


def shown(run: list[Batch]) -> Counter[int]:
    """How often each sample came."""
    return Counter(id(sample) for batch in run for sample in batch.samples)


def signs(batch: Batch) -> set[int]:
    return {(s > 0) - (s < 0) for s in batch.strengths}


def bucket(name: str, strength: float, count: int, probability: float = 1.0, repeats: int = 0, side: int = 4) -> list[Sample]:
    return [Sample(torch.zeros(1, side, side), NOTHING, strength, None, name, probability, repeats) for _ in range(count)]


# --- one bucket a side


def test_rotating_goes_positive_negative_neutral(make_samples) -> None:
    run = batches(make_samples(PAIRS, NEUTRAL), ROTATING, range(6))
    assert [(signs(b), b.neutral) for b in run] == [({1}, False), ({-1}, False), ({1, -1}, True)] * 2
    assert [{s.strength for s in b.samples} for b in run[:3]] == [{1.0}, {-1.0}, {0.0}]
    assert [signs(b) for b in batches(make_samples(PAIRS), ROTATING, range(4))] == [{1}, {-1}] * 2, "an empty group is skipped"
    assert run[0].noise == (0, 1), "every sample has its own noise"


@pytest.mark.parametrize(("turn", "strength"), [(0, 1.0), (1, -1.0)])
def test_rotating_shows_every_image_of_a_group_once_an_epoch(make_samples, turn: int, strength: float) -> None:
    samples = make_samples(PAIRS)
    run = batches(samples, ROTATING, range(turn, 2 * PAIRS, 2))  # 5 visits of 2 images are 2 epochs
    order = [id(s) for b in run for s in b.samples]
    assert set(order[:PAIRS]) == set(order[PAIRS:]) == {id(s) for s in samples if s.strength == strength}
    assert order[:PAIRS] != order[PAIRS:], "shuffled anew"


def test_paired_shows_every_pair_once_an_epoch_whatever_the_neutral_steps(make_samples) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    run = batches(samples, PAIRED, range(100))
    assert [b.neutral for b in run[:6]] == [False, False, True] * 2
    counts = shown([b for b in run if not b.neutral][: PAIRS * EPOCHS])
    assert set(counts.values()) == {SIZE * EPOCHS}
    assert len(counts) == 2 * PAIRS


def test_a_paired_batch_holds_whole_pairs_that_share_noise(make_samples) -> None:
    for batch in batches(make_samples(PAIRS), PAIRED, range(PAIRS)):
        assert batch.aligned
        assert batch.noise == (0, 1) * 2
        assert [s.pair for s in batch.samples[:SIZE]] == [s.pair for s in batch.samples[SIZE:]]
        assert batch.strengths == (1.0,) * SIZE + (-1.0,) * SIZE


@BOTH
def test_neutral_images_are_shown_once_an_epoch_at_both_signs_of_the_reach(make_samples, spec: TrainSpec) -> None:
    run = batches(make_samples(PAIRS, NEUTRAL), spec, range(2, 3 * NEUTRAL, 3))
    assert all(b.neutral and not b.aligned for b in run)
    assert set(shown(run).values()) == {spec.batch}  # NEUTRAL visits of batch / 2 images, each at both signs
    assert len({s for batch in run for s in batch.strengths}) == sum(len(b.samples) for b in run), "all of them random"
    for batch in run:
        half = len(batch.samples) // 2
        assert batch.samples[:half] == batch.samples[half:]
        assert batch.noise[:half] == batch.noise[half:] == tuple(range(half))
        assert batch.strengths[:half] == tuple(-s for s in batch.strengths[half:])
        assert all(0.25 <= s <= 2.0 for s in batch.strengths[:half])


def test_only_whole_pairs_that_line_up_are_aligned(make_samples) -> None:
    samples = make_samples(PAIRS, NEUTRAL)
    assert not plan([replace(s, aligned=False) for s in samples], PAIRED).batch(0).aligned
    assert not plan([replace(s, pair=None) for s in samples], PAIRED).batch(0).aligned
    assert not plan(samples, ROTATING).batch(0).aligned


@BOTH
def test_another_seed_is_another_order(make_samples, spec: TrainSpec) -> None:
    samples = make_samples(PAIRS)
    orders = [[id(s) for b in batches(samples, one, range(6)) for s in b.samples] for one in (spec, replace(spec, seed=5))]
    assert orders[0] != orders[1]


@BOTH
def test_a_missing_sign_is_an_error(make_samples, spec: TrainSpec) -> None:
    for strength in (1.0, -1.0):
        with refused("batches.one_side", "0", PAIRS):
            plan([s for s in make_samples(PAIRS, NEUTRAL) if s.strength in (strength, 0.0)], spec)


@pytest.mark.parametrize("objective", [Objective.DISPLACEMENT, Objective.DENOISE_ROTATING], ids=lambda o: o.value)
def test_no_image_comes_twice_in_an_accumulated_step_and_all_come_equally_often(make_samples, objective: Objective) -> None:
    spec = TrainSpec(objective=objective, batch=2, accumulate=3 if objective is Objective.DISPLACEMENT else 2)
    run = batches(make_samples(5), spec, range(30))  # whole passes through 5 images
    for batch in run:
        parts = batch_parts(batch, spec.accumulate)
        assert [len(part.samples) for part in parts] == [spec.batch] * spec.accumulate
        ids = [id(sample) for part in parts for sample in part.samples]
        assert sorted(ids) == sorted(id(sample) for sample in batch.samples)
        assert len(set(ids)) == len(ids)
    assert len(shown(run)) == 10
    assert len(set(shown(run).values())) == 1


# --- several buckets

buckets = st.lists(
    st.tuples(
        st.sampled_from([1.0, 0.5, -0.5, -1.0, 0.0]),
        st.integers(1, 7),
        st.floats(0.1, 9.0),
        st.integers(0, 2),
        st.sampled_from([4, 6]),
    ),
    min_size=0,
    max_size=5,
)


def samples_of(drawn: list[tuple]) -> list[Sample]:
    every = [(1.0, 2, 1.0, 0, 4), (-1.0, 3, 1.0, 0, 4), *drawn]
    return [s for n, (strength, *rest) in enumerate(every) for s in bucket(f"b{n}", strength, *rest)]


def sign_of(batch: Batch) -> int:
    return 0 if batch.neutral else int(batch.strengths[0] > 0) - int(batch.strengths[0] < 0)


@given(buckets, st.integers(1, 4), st.integers(0, 3))
@FEW
def test_groups_come_in_turn_and_the_exhausted_leave(drawn: list[tuple], size: int, seed: int) -> None:
    """plus, minus, neutral; a group that has given all its batches is passed over until the epoch ends."""
    samples = samples_of(drawn)
    quota: Counter[int] = Counter()
    lanes: Counter[tuple] = Counter((s.bucket, s.latent.shape, (s.strength > 0) - (s.strength < 0), s.repeats) for s in samples)
    for (_, _, sign, repeats), count in lanes.items():
        quota[sign] += -(-count * (1 + repeats) // (size if sign else max(1, size // 2)))
    expected, left, at = [], quota.copy(), 0
    while sum(left.values()):
        sign, at = (1, -1, 0)[at % 3], at + 1
        if left[sign]:
            left[sign] -= 1
            expected.append(sign)
    run = batches(samples, replace(ROTATING, batch=size, seed=seed), range(2 * len(expected)))
    assert [sign_of(batch) for batch in run] == expected * 2


@given(buckets, st.sampled_from([2, 4]), st.integers(0, 3))
@FEW
def test_an_epoch_shows_every_image_as_often_as_its_bucket_says(drawn: list[tuple], size: int, seed: int) -> None:
    """1 + repeats times, but for what a last short batch takes in advance; no image is ahead by more than one pass."""
    samples, spec = samples_of(drawn), replace(ROTATING, batch=size, seed=seed)
    run = batches(samples, spec, range(3 * sum(lane.turns for lane in plan(samples, spec).lanes)))
    counts: Counter[int] = Counter()
    for batch in run:
        assert len({(s.latent.shape, s.bucket) for s in batch.samples}) == 1, "one bucket has its turn, in one size"
        counts.update(id(s) for s in batch.samples[: len(batch.samples) // (1 + batch.neutral)])
    for name, shape in {(s.bucket, s.latent.shape) for s in samples}:
        lane = [s for s in samples if (s.bucket, s.latent.shape) == (name, shape)]
        times = [counts[id(s)] for s in lane]
        assert min(times) >= 3 * (1 + lane[0].repeats)
        assert max(times) - min(times) <= 1, "no image is left behind"


@given(buckets, st.sampled_from([ROTATING, PAIRED]), st.integers(1, 3), st.integers(0, 30))
@FEW
def test_a_step_needs_no_history(drawn: list[tuple], spec: TrainSpec, accumulate: int, step: int) -> None:
    """Resumed anywhere, the sequence is that of the run from the start."""
    spec = replace(spec, accumulate=accumulate)
    samples = samples_of(drawn)
    if spec.paired:  # no pair holds these together: they meet at random, in one size
        samples = [s for s in samples if s.latent.shape[-1] == 4]
    straight = batches(samples, spec, range(step + 1))[-1]
    again = plan(samples, spec).batch(step)
    assert [id(s) for s in again.samples] == [id(s) for s in straight.samples]
    assert (again.noise, again.strengths) == (straight.noise, straight.strengths)


def test_probability_weighs_the_turns_in_a_group_and_an_exhausted_bucket_leaves_its_turns() -> None:
    large = [*bucket("a", 1.0, 3000, 3.0), *bucket("b", 1.0, 3000, 1.0), *bucket("minus", -1.0, 6000)]
    turns = Counter(b.samples[0].bucket for b in batches(large, ROTATING, range(0, 1600, 2)))
    assert turns["a"] / turns["b"] == pytest.approx(3.0, rel=0.25)
    uneven = [*bucket("small", 1.0, 2, 9.0), *bucket("large", 1.0, 8), *bucket("minus", -1.0, 10)]
    assert Counter(b.samples[0].bucket for b in batches(uneven, ROTATING, range(0, 10, 2))) == {"small": 1, "large": 4}


def test_repeats_show_a_bucket_more_often() -> None:
    samples = [*bucket("often", 1.0, 2, repeats=2), *bucket("once", 1.0, 2), *bucket("minus", -1.0, 8)]
    turns = Counter(b.samples[0].bucket for b in batches(samples, ROTATING, range(8)))
    assert turns["often"] == 3 * turns["once"] == 3


@pytest.mark.parametrize(("plus", "minus"), [(5, 5), (2, 6)])
def test_unpaired_images_meet_at_random_each_once_a_pass(plus: int, minus: int) -> None:
    samples = [*bucket("plus", 1.0, plus), *bucket("minus", -1.0, minus)]
    run = batches(samples, replace(PAIRED, batch=2), range(2 * minus))
    met = [tuple(id(s) for s in b.samples) for b in run]
    for one_pass in (met[:minus], met[minus:]):
        assert len({negative for _, negative in one_pass}) == minus
    assert len({positive for positive, _ in met[:plus]}) == plus
    assert set(met[:minus]) != set(met[minus:])
    assert (run[0].strengths, run[0].noise, run[0].aligned) == ((1.0, -1.0), (0, 0), False)


def test_unpaired_images_without_a_partner_of_their_size_are_an_error() -> None:
    with refused("batches.no_partner", 6):
        plan([*bucket("plus", 1.0, 2, side=6), *bucket("minus", -1.0, 2)], replace(PAIRED, batch=2))


def test_pairs_of_two_sizes_never_share_a_batch() -> None:
    pairs = []
    for number in range(8):
        side = 4 if number % 2 else 6
        pairs += [Sample(torch.zeros(1, side, side), NOTHING, sign, number, "b") for sign in (1.0, -1.0)]
    shapes = Counter()
    for batch in batches(pairs, PAIRED, range(8)):
        (shape,) = {s.latent.shape for s in batch.samples}
        shapes[shape[-1]] += 1
        assert [s.pair for s in batch.samples[:2]] == [s.pair for s in batch.samples[2:]]
    assert shapes[4] == shapes[6] == 4
