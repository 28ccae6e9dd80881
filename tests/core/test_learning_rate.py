"""The probe finds the rate that moves the model by a fixed share of what is wanted, and leaves the weights alone."""

import math
from dataclasses import replace

import pytest
import torch
from core.faults import refused
from torch import nn

from slider_core.backend import Backend
from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.training import Optimizer, Timesteps, TrainSpec
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.objective.batch import Batch
from slider_core.train.guard import MOST_BEGUN, NotFiniteError
from slider_core.train.learning_rate import NOISE, PULL, SETTLED, UNKNOWN, noise_rate, probed_rate, settles
from slider_core.train.progress import Reading
from slider_core.train.progress_ready import EVERY, LOWER, MOST_LOWERED, lowered
from slider_core.train.step_report import StepReport
from slider_core.train.trainer import Trainer
from slider_core.with_tiny.model import TinyBackend

BURNS, START = 0.15, 0.009  # learning rates
EXPLODES = 12  # finished steps
GAINS = (1e-2, 12.0, 50.0, 1000.0)  # displacement per unit of the rate, in units of what is wanted


@pytest.mark.parametrize("gain", GAINS)
def test_the_rate_moves_a_fixed_share_of_what_is_wanted(gain: float) -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    before = parameter.detach().clone()
    gradient = torch.tensor([5.0, -1e-9, 1.0])
    rate = probed_rate([parameter], [gradient], lambda: gain * float((parameter - before).abs().max()))
    assert rate == pytest.approx(min(1.0, NOISE / gain), rel=2e-2)
    assert torch.equal(parameter, before)


@pytest.mark.parametrize(("size", "expected"), [(1, NOISE), (10_000, PULL / 10_000)])
def test_many_parameters_that_pull_together_bound_the_rate_and_few_by_their_noise(size: int, expected: float) -> None:
    parameter = nn.Parameter(torch.zeros(size))
    rate = probed_rate([parameter], [torch.ones(size)], lambda: abs(float(parameter.sum())))
    assert rate == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize(("share", "rate"), [(0.0, UNKNOWN), (math.nan, UNKNOWN), (math.inf, UNKNOWN)])
def test_where_nothing_can_be_measured_there_is_a_rate_all_the_same(share: float, rate: float) -> None:
    assert 0 < probed_rate([nn.Parameter(torch.ones(1))], [torch.ones(1)], lambda: share) <= rate


@pytest.fixture
def trainer(backend: TinyBackend, samples):
    def make(spec: TrainSpec, **options: object) -> Trainer:
        adapter = Adapter.create(backend.module, select(backend.module), AdapterSpec(**options), seed=1)
        return Trainer(adapter, samples, spec)

    return make


@pytest.fixture
def explodes(linear_backend, make_samples):
    """(spec) -> a training of one small layer whose loss explodes, and the same one whose loss does not."""

    def make(spec: TrainSpec) -> tuple[Explodes, Trainer]:
        model = linear_backend().module
        made = (Adapter.create(model, [Target("mix")], AdapterSpec(rank=2, alpha=2.0), seed=1) for _ in range(2))
        one, gentle = (Trainer(adapter, make_samples(4), spec) for adapter in made)
        return Explodes(one), gentle

    return make


def test_the_rate_follows_the_size_of_the_adapter(backend: TinyBackend, trainer) -> None:
    rates = {}
    for options in ({"rank": 1, "alpha": 1.0}, {"rank": 32, "alpha": 32.0}, {"algorithm": Algorithm.FULL}):
        one = trainer(TrainSpec(steps=1, lr=0.0), **options)
        one.run(backend, 1)
        assert one.rate == one.probed
        rates[str(options)] = one.rate
    low, high, full = rates.values()
    assert low > 3 * high > 3 * full


def test_a_found_rate_that_burns_begins_anew_at_a_lower_one(backend: TinyBackend, trainer) -> None:
    burning, gentle = (trainer(TrainSpec(steps=EVERY, lr=0.0)) for _ in range(2))
    burning.probed = BURNS
    burning.run(backend, EVERY)
    assert burning.probed in (BURNS / LOWER, BURNS / LOWER / LOWER)
    assert (burning.step, len(burning.losses), len(burning.readings)) == (EVERY, EVERY, 1)
    gentle.probed = burning.probed
    gentle.run(backend, EVERY)
    for one, other in zip(burning.adapter.parameters(), gentle.adapter.parameters(), strict=True):
        assert torch.equal(one, other)


class Explodes(Trainer):
    """The loss of one step is not finite at a rate above `most`."""

    most = 0.0

    def __init__(self, like: Trainer) -> None:
        super().__init__(like.adapter, like.samples, like.spec)
        self.probed = START
        self.tried: list[float] = []

    def _gradients(self, backend: Backend, batch: Batch) -> float:
        if self.step == EXPLODES and self.rate > self.most:
            self.tried.append(self.rate)
            raise NotFiniteError("The loss is nan", "training.not_finite")
        return super()._gradients(backend, batch)


@pytest.mark.parametrize("part", [EXPLODES - 1, EVERY])  # a part of the run before that step, or none
def test_a_found_rate_that_explodes_between_two_readings_begins_anew_at_a_lower_one(linear_backend, explodes, part: int) -> None:
    (one, gentle), backend = explodes(TrainSpec(steps=EVERY, lr=0.0)), linear_backend()
    one.most = START / LOWER / 2
    reports: list[StepReport] = []
    for until in (part, EVERY):
        one.run(backend, until, reports.append)
    assert one.tried == pytest.approx([START, START / LOWER])
    assert one.step == len(one.losses) == reports[-1].step == EVERY
    assert all(report.seconds_left >= 0 for report in reports)
    gentle.probed = START / LOWER / LOWER
    gentle.run(backend, EVERY)
    for a, b in zip(one.adapter.parameters(), gentle.adapter.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_continued_training_whose_found_rate_explodes_goes_on_from_its_last_good_step(linear_backend, explodes) -> None:
    (one, _), (again, _) = (explodes(TrainSpec(steps=EVERY, lr=0.0)) for _ in range(2))
    backend = linear_backend()
    one.run(backend, EXPLODES - 1)
    again.load_state_dict(one.state_dict())
    again.most = START / LOWER / 2
    again.run(backend, EVERY)
    assert again.tried == pytest.approx([START, START / LOWER])
    assert (again.step, again.losses[: EXPLODES - 1]) == (EVERY, one.losses)


def test_a_loss_that_no_rate_mends_ends_in_an_error(linear_backend, explodes) -> None:
    one, _ = explodes(TrainSpec(steps=EVERY, lr=0.0))
    with refused("training.not_finite", "learning rate"):
        one.run(linear_backend(), EVERY)
    assert len(one.tried) == MOST_BEGUN + 1
    assert one.step < EXPLODES


@pytest.mark.parametrize(
    ("readings", "factor"),
    [
        ([(EVERY, 0.5, 0.2, 0.1)], 1 / LOWER),
        ([(EVERY, 0.5, 0.2, 0.19)], 1),  # nothing to speak of is lost
        ([(EVERY, 1.1, 0.3, 0.3), (EVERY + 1, 0.5, 0.2, 0.1)], 1),
        ([(n * EVERY, 0.1, 0.1, -0.4) for n in range(1, 9)], LOWER**-MOST_LOWERED),
    ],
)
def test_each_reading_of_a_slider_that_overshoots_lowers_the_rate(readings: list, factor: float) -> None:
    read = [Reading(step, mean, mean, None, None, best, reach) for step, best, reach, mean in readings]
    assert lowered(read) == pytest.approx(factor)


def test_a_rate_far_beyond_the_probes_is_questioned_before_the_first_step(backend: TinyBackend, trainer) -> None:
    one = trainer(TrainSpec(steps=1, lr=0.5))
    weights = [p.detach().clone() for p in one.adapter.parameters()]
    with refused("training.rate_far_beyond", 0.5, "--any-rate"):
        one.check_rate(backend)
    for before, after in zip(weights, one.adapter.parameters(), strict=True):
        assert torch.equal(before, after)
    for spec in (
        TrainSpec(steps=1, lr=0.5, any_rate=True),
        TrainSpec(steps=1, lr=2 * one.probed),
        TrainSpec(steps=1, lr=1.0, optimizer=Optimizer.PRODIGY),
    ):
        trainer(spec).check_rate(backend)


def test_a_rate_far_beyond_the_probes_is_refused_where_a_training_goes_on_and_its_weights_stay(linear_backend, explodes) -> None:
    """Found at its beginning, or set then and probed for now; a training that is at its end is not looked at."""
    model = linear_backend()
    for begun in (TrainSpec(steps=8, lr=0.0), TrainSpec(steps=8, lr=1e-3, any_rate=True)):
        _, one = explodes(begun)
        one.run(model, 4)
        weights, losses = [p.detach().clone() for p in one.adapter.parameters()], list(one.losses)
        one.adopt(replace(begun, lr=0.9, any_rate=False))
        with refused("training.rate_far_beyond", 0.9):
            one.check_rate(model)
        assert all(torch.equal(before, after) for before, after in zip(weights, one.adapter.parameters(), strict=True))
        assert (one.step, one.losses) == (4, losses)
        one.adopt(replace(begun, lr=2 * one.probed, any_rate=False))
        one.check_rate(model)
        one.run(model, 8)
        one.adopt(replace(begun, lr=0.9, any_rate=False))
        one.check_rate(model)


def test_on_a_distilled_model_the_noise_is_read_again_once_the_weights_act(linear_backend, make_samples) -> None:
    """A hundred times larger first factors make a random step of the second ones a hundred times as loud."""
    model = linear_backend()
    adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0), seed=1)
    spec = TrainSpec(steps=2 * SETTLED, lr=0.0, timesteps=Timesteps.FEW_STEP)
    trainer = Trainer(adapter, make_samples(4), spec)
    trainer.run(model, SETTLED)
    first = trainer.probed
    assert not trainer.settled
    with torch.no_grad():
        adapter.parameters()[0].mul_(100)
    trainer.run(model, SETTLED + 1)
    assert trainer.settled
    assert trainer.probed < first / 30
    lower = trainer.probed
    trainer.run(model, SETTLED + 2)
    assert trainer.probed == lower, "once"
    assert [settles(spec, step) for step in (SETTLED - 1, SETTLED, SETTLED + 5)] == [False, True, True]
    for other in ({"timesteps": Timesteps.AUTO}, {"lr": 0.01}, {"warmup": 2 * SETTLED}):
        assert not settles(replace(spec, **other), SETTLED)


def test_noise_lowers_a_rate_and_never_raises_it() -> None:
    parameter = nn.Parameter(torch.ones(3))
    before = parameter.detach().clone()

    def share() -> float:
        return 9.0 * float((parameter - before).abs().max())

    assert noise_rate([parameter], share, 0.1) == pytest.approx(NOISE / 9, rel=1e-2)
    assert noise_rate([parameter], share, 1e-3) == 1e-3
    assert noise_rate([parameter], lambda: math.nan, 0.1) == 0.1
    assert torch.equal(parameter, before)
