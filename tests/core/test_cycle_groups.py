"""The cycle with several buckets: every group in turn, weights in proportion, repeats honoured, nothing lost on resume.

Oracle: a plain simulation of the rule of the slider guide, written here, and counting.
"""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slider_core.backend import Conditioning
from slider_core.config.checks import SliderError
from slider_core.config.training import Objective, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.objective.batch_plan import plan

NOTHING = Conditioning("", None)
ROTATING, PAIRED = Objective.DENOISE_ROTATING, Objective.DENOISE_PAIRED
FEW = settings(max_examples=60, deadline=None)


def bucket(name: str, strength: float, count: int, probability: float = 1.0, repeats: int = 0, side: int = 4) -> list[Sample]:
    return [Sample(torch.zeros(1, side, side), NOTHING, strength, None, name, probability, repeats) for _ in range(count)]


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


def sign_of(batch) -> int:
    return 0 if batch.neutral else int(batch.strengths[0] > 0) - int(batch.strengths[0] < 0)


@given(buckets, st.integers(1, 4), st.integers(0, 3))
@FEW
def test_groups_come_in_turn_and_the_exhausted_leave(drawn: list[tuple], size: int, seed: int) -> None:
    """plus, minus, neutral; a group that has given all its batches is passed over until the epoch ends."""
    samples, spec = samples_of(drawn), TrainSpec(objective=ROTATING, batch=size, seed=seed)
    quota: Counter[int] = Counter()
    lanes: Counter[tuple] = Counter((s.bucket, s.latent.shape, (s.strength > 0) - (s.strength < 0), s.repeats) for s in samples)
    for (_, _, sign, repeats), count in lanes.items():
        wanted = size if sign else max(1, size // 2)
        quota[sign] += -(-count * (1 + repeats) // wanted)
    expected, left, at = [], quota.copy(), 0
    while sum(left.values()):
        sign, at = (1, -1, 0)[at % 3], at + 1
        if left[sign]:
            left[sign] -= 1
            expected.append(sign)
    epoch = len(expected)
    assert [sign_of(plan(samples, spec).batch(step)) for step in range(2 * epoch)] == expected * 2


@given(buckets, st.sampled_from([2, 4]), st.integers(0, 3))
@FEW
def test_an_epoch_shows_every_image_as_often_as_its_bucket_says(drawn: list[tuple], size: int, seed: int) -> None:
    """1 + repeats times, but for what a last short batch takes in advance; no image is ahead by more than one pass."""
    samples, spec = samples_of(drawn), TrainSpec(objective=ROTATING, batch=size, seed=seed)
    steps = sum(lane.turns for lane in plan(samples, spec).lanes)
    for step in range(3 * steps):
        batch = plan(samples, spec).batch(step)
        assert len({s.latent.shape for s in batch.samples}) == 1, "one size in a batch"
        assert len({s.bucket for s in batch.samples}) == 1, "one bucket has its turn"
    shown: Counter[int] = Counter(id(s) for step in range(3 * steps) for s in _drawn(plan(samples, spec).batch(step)))
    for name in {s.bucket for s in samples}:
        for side in (4, 6):
            mine = [s for s in samples if s.bucket == name and s.latent.shape[-1] == side]
            counts = [shown[id(s)] for s in mine]
            if mine:
                assert min(counts) >= 3 * (1 + mine[0].repeats)
                assert max(counts) - min(counts) <= 1, "no image is left behind"


def _drawn(batch) -> tuple:
    """The samples that were drawn: a neutral one comes twice in its batch."""
    return batch.samples[: len(batch.samples) // 2] if batch.neutral else batch.samples


@given(buckets, st.sampled_from([ROTATING, PAIRED]), st.integers(0, 200), st.integers(0, 3))
@FEW
def test_a_step_needs_no_history(drawn: list[tuple], objective: Objective, step: int, seed: int) -> None:
    """Resumed anywhere, the sequence is the same: next_batch of a step gives what it gave in the run from the start."""
    samples, spec = samples_of(drawn), TrainSpec(objective=objective, batch=2, seed=seed)
    if objective is PAIRED:  # no pair holds these together: they meet at random, in one size
        samples = [s for s in samples if s.latent.shape[-1] == 4]
    run = [plan(samples, spec).batch(n) for n in range(step % 17, step % 17 + 5)]
    for n, batch in enumerate(run, step % 17):
        again = plan(samples, spec).batch(n)
        assert [id(s) for s in again.samples] == [id(s) for s in batch.samples]
        assert (again.noise, again.strengths) == (batch.noise, batch.strengths)


def test_probability_weighs_the_turns_in_a_group() -> None:
    """Of two large buckets the one with three times the probability has its turn three times as often, while both last."""
    samples = [*bucket("a", 1.0, 3000, 3.0), *bucket("b", 1.0, 3000, 1.0), *bucket("minus", -1.0, 6000)]
    spec = TrainSpec(objective=ROTATING, batch=2, seed=1)
    turns = Counter(plan(samples, spec).batch(step).samples[0].bucket for step in range(0, 1600, 2))
    assert turns["a"] / turns["b"] == pytest.approx(3.0, rel=0.25)


def test_a_bucket_that_is_exhausted_leaves_its_turns_to_the_others() -> None:
    samples = [*bucket("small", 1.0, 2, 9.0), *bucket("large", 1.0, 8), *bucket("minus", -1.0, 10)]
    spec = TrainSpec(objective=ROTATING, batch=2, seed=0)
    plus = [plan(samples, spec).batch(step).samples[0].bucket for step in range(0, 10, 2)]
    assert Counter(plus) == {"small": 1, "large": 4}


def test_repeats_show_a_bucket_more_often() -> None:
    samples = [*bucket("often", 1.0, 2, repeats=2), *bucket("once", 1.0, 2), *bucket("minus", -1.0, 8)]
    spec = TrainSpec(objective=ROTATING, batch=2, seed=0)
    turns = Counter(plan(samples, spec).batch(step).samples[0].bucket for step in range(8))
    assert turns["often"] == 3 * turns["once"] == 3


def test_strangers_meet_anew_in_every_pass() -> None:
    """Without pairs, positives and negatives are drawn together at random, each of them once a pass."""
    samples = [*bucket("plus", 1.0, 5), *bucket("minus", -1.0, 5)]
    spec = TrainSpec(objective=PAIRED, batch=2, seed=0)
    met = [tuple(map(id, plan(samples, spec).batch(step).samples)) for step in range(10)]
    for one_pass in (met[:5], met[5:]):
        assert len({p for p, _ in one_pass}) == len({n for _, n in one_pass}) == 5
    assert set(met[:5]) != set(met[5:])
    batch = plan(samples, spec).batch(0)
    assert batch.strengths == (1.0, -1.0)
    assert batch.noise == (0, 0), "they share their noise"


def test_unequal_sides_can_meet_at_random() -> None:
    samples = [*bucket("plus", 1.0, 2), *bucket("minus", -1.0, 6)]
    spec = TrainSpec(objective=PAIRED, batch=2, seed=0)
    seen = {id(s) for step in range(6) for s in plan(samples, spec).batch(step).samples}
    assert seen == {id(s) for s in samples}


def test_strangers_of_different_sizes_are_an_error() -> None:
    samples = [*bucket("plus", 1.0, 2, side=6), *bucket("minus", -1.0, 2)]
    with pytest.raises(SliderError, match="some positive images have a size that no negative one has"):
        plan(samples, TrainSpec(objective=PAIRED, batch=2)).batch(0)


def test_pairs_of_two_sizes_never_share_a_batch() -> None:
    pairs = []
    for number in range(8):
        side = 4 if number % 2 else 6
        pairs += [Sample(torch.zeros(1, side, side), NOTHING, sign, number, "b") for sign in (1.0, -1.0)]
    spec = TrainSpec(objective=PAIRED, batch=4, seed=3)
    shapes = Counter()
    for step in range(8):
        batch = plan(pairs, spec).batch(step)
        (shape,) = {s.latent.shape for s in batch.samples}
        shapes[shape[-1]] += 1
        assert [s.pair for s in batch.samples[:2]] == [s.pair for s in batch.samples[2:]]
    assert shapes[4] == shapes[6] == 4


def test_the_order_is_not_the_global_generators() -> None:
    samples, spec = samples_of([]), TrainSpec(objective=ROTATING, batch=2, seed=5)
    random.seed(1)
    first = [id(s) for s in plan(samples, spec).batch(3).samples]
    random.seed(2)
    assert [id(s) for s in plan(samples, spec).batch(3).samples] == first
