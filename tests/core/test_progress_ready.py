"""A training without a number of steps ends when most is learned, and no sooner."""

from dataclasses import replace

import pytest
import torch

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Timesteps, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.displacement import Wanted
from slider_core.train.learning_rate import SETTLED, learning_rate
from slider_core.train.progress import Reading
from slider_core.train.progress_ready import (
    EVERY,
    MOST_STEPS,
    OVERSHOT,
    SOONEST,
    earliest_end,
    fall_of,
    is_due,
    lowered,
    next_reading,
    steps_more,
)
from slider_core.train.trainer import Trainer


def readings(shares: list[float], strength: float = 1.0) -> list[Reading]:
    return [Reading(EVERY * (n + 1), share, share, 0.0, share, strength, share) for n, share in enumerate(shares)]


def rising(count: int) -> list[float]:
    return [0.02 * (n + 1) ** 2 for n in range(count)]


def test_a_share_that_hardly_grows_ends_the_training_with_a_fall() -> None:
    flat = readings([0.3] * 10)
    assert fall_of(flat[:1]) is None
    first, end = fall_of(flat)
    assert (first, end) == (SOONEST, 150)
    assert fall_of(readings([0.2, 0.25, 0.32])) == (first, end), "what is left comes while the rate falls"
    assert fall_of([*flat, Reading(first + 7, 9.0, 9.0)]) == (first, end), "only readings at the fixed steps decide"


def test_while_the_rate_falls_it_reads_half_as_often() -> None:
    flat = readings([0.3] * 3)
    first, end = fall_of(flat)
    assert [step for step in range(1, end + 1) if is_due(step, [r for r in flat if r.step <= step])] == [30, 60, first, end]
    assert [step for step in range(1, 241) if is_due(step, [], Wanted.IMAGES)] == [30, 60, 90, 120, 150, 220]
    assert [next_reading(step, end, flat, Wanted.PAIRS) for step in (first, first + 5, end - 1)] == [end, end, end]
    assert [next_reading(step, 70, flat, None) for step in (0, 30, 59, 60)] == [30, 60, 60, 70], "steps that are set"


def test_a_reading_while_the_rate_falls_does_not_lower_it() -> None:
    flat = readings([0.3] * 3)
    overshooting = Reading(120, 0.1, 0.1, strength=OVERSHOT / 2, reach=0.4)
    assert lowered([*flat, overshooting]) == 1
    assert lowered([*flat[:2], replace(overshooting, step=90)]) < 1


@pytest.mark.parametrize("unfinished", [readings(rising(12)), readings([0.3] * 12, strength=2.0)], ids=["rising", "strength"])
def test_a_slider_that_is_not_done_goes_on(unfinished: list[Reading]) -> None:
    assert fall_of(unfinished) is None
    assert steps_more(unfinished) > 0


def test_the_most_steps_bound_it() -> None:
    first, end = fall_of(readings(rising(MOST_STEPS // EVERY)))
    assert (first < end, end) == (True, MOST_STEPS)


def test_before_the_end_is_known_the_earliest_one_lies_ahead_and_is_what_the_next_reading_would_give() -> None:
    assert [earliest_end(step) for step in (0, SOONEST - 1, MOST_STEPS - 1)] == [150, 150, MOST_STEPS]
    assert all(step < earliest_end(step) for step in range(MOST_STEPS))
    for count in range(1, 12):
        unready = readings([0.3] * (count + 1), strength=2.0)[:-1]
        assert fall_of(unready) is None
        step = unready[-1].step
        ready = [*unready, *(replace(unready[0], step=at, strength=1.0) for at in range(step + EVERY, step + 5 * EVERY, EVERY))]
        assert fall_of(ready)[1] == earliest_end(step)


def test_images_that_do_not_line_up_end_early_whatever_is_read() -> None:
    first, end = fall_of(readings(rising(12)), Wanted.IMAGES)
    assert (first, end) == fall_of([], Wanted.IMAGES)
    assert SOONEST < first < end < MOST_STEPS / 4


def test_the_rate_stays_and_then_falls() -> None:
    spec = TrainSpec(steps=0, lr=0.0, warmup=10)
    assert [learning_rate(spec, step, 2.0) for step in (9, 500)] == [2.0, 2.0]
    rates = [learning_rate(spec, step, 2.0, (100, 140)) for step in range(90, 141)]
    assert rates[:10] == [2.0] * 10
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.1)


def trainer(linear_backend, samples: list[Sample], spec: TrainSpec) -> tuple[Trainer, object]:
    model = linear_backend()
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0), seed=1)
    return Trainer(adapter, samples, spec), model


@pytest.mark.parametrize("timesteps", [Timesteps.AUTO, Timesteps.FEW_STEP])
def test_a_training_that_decides_by_itself_is_the_same_in_parts(linear_backend, make_samples, timesteps: Timesteps) -> None:
    spec = TrainSpec(steps=0, lr=0.0, seed=3, timesteps=timesteps)
    whole, model = trainer(linear_backend, make_samples(5), spec)
    whole.run(model, whole.end)
    assert SOONEST < whole.step == whole.end < MOST_STEPS
    assert [r.step for r in whole.readings if r.step > SOONEST] == [whole.end]
    parts, model = trainer(linear_backend, make_samples(5), spec)
    for until in (SETTLED, 45, whole.step - 5):
        parts.run(model, until)
    again, model = trainer(linear_backend, make_samples(5), spec)
    again.load_state_dict(parts.state_dict())
    again.run(model, again.end)
    assert (again.step, again.losses, again.rate) == (whole.step, whole.losses, whole.rate)
    for mine, theirs in zip(again.adapter.parameters(), whole.adapter.parameters(), strict=True):
        assert torch.equal(mine, theirs)
