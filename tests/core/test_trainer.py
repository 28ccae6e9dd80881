"""A run can be stopped, saved, taken up and broken at any step, and its numbers are those of a straight run, bit for bit."""

import math
from dataclasses import replace

import pytest
import torch
from core.faults import refused

from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.training import Objective, Schedule, TrainSpec
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.train import placing
from slider_core.train import trainer as trainer_module
from slider_core.train.guard import on_cpu
from slider_core.train.step_report import StepReport
from slider_core.train.trainer import Trainer, learning_rate
from slider_core.with_tiny.model import TinyBackend

STEPS, STOP, PAIRS, NEUTRAL = 12, 7, 5, 2
FEW_STEPS, MILD_GAIN = 30, 0.002  # of both sides together: the sign of a beginning, not of quality
SPEC = TrainSpec(steps=STEPS, lr=1e-2, seed=3, warmup=4)
RAW = TrainSpec(steps=STEPS, lr=1e-2, seed=3, warmup=4, objective=Objective.DENOISE_ROTATING, weight_decay=0.1)


@pytest.fixture
def trainer(linear_backend, make_samples):
    """A factory of equal trainers, each with its own model: (spec) -> (trainer, backend)."""

    def make(spec: TrainSpec = SPEC, model: object = None, **options: object) -> tuple[Trainer, object]:
        model = model or linear_backend()
        adapter = Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0, **options), seed=spec.seed)
        return Trainer(adapter, make_samples(PAIRS, NEUTRAL), spec), model

    return make


def same_file(one: Trainer, other: Trainer) -> bool:
    """Whether both would be saved as the same weights."""
    first, second = (t.adapter.weights()[Target("mix")].tensors for t in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


def numbers(trainer: Trainer) -> tuple:
    return trainer.step, trainer.losses, [p.tolist() for p in trainer.adapter.parameters()]


def straight(make, spec: TrainSpec, until: int) -> tuple:
    one, model = make(spec)
    one.run(model, until)
    return numbers(one)


@pytest.mark.parametrize("spec", [SPEC, RAW], ids=lambda s: s.objective.value)
def test_a_resumed_run_is_the_straight_run_bit_for_bit(trainer, spec: TrainSpec) -> None:
    first, model = trainer(spec)
    first.run(model, STOP)
    state = first.state_dict()
    second, model = trainer(spec)
    second.load_state_dict(state)
    second.run(model, STEPS)
    assert numbers(second) == straight(trainer, spec, STEPS)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_run_of_every_algorithm_with_dropout_is_resumed_bit_for_bit(trainer, algorithm: Algorithm) -> None:
    options = {"algorithm": algorithm, "dropout": 0.3}
    first, model = trainer(**options)
    first.run(model, STOP)
    second, other = trainer(**options)
    second.load_state_dict(first.state_dict())
    second.run(other, STOP)  # there already: nothing to do, but it can be saved
    assert same_file(first, second)
    with torch.no_grad():  # as under a host's guard
        second.run(other, STEPS)
    first.run(model, STEPS)
    assert numbers(second) == numbers(first)
    assert same_file(first, second)


def test_a_saved_state_is_a_snapshot_that_no_later_run_touches(trainer) -> None:
    first, model = trainer()
    first.run(model, STOP)
    state = first.state_dict()
    first.run(model, STEPS)  # the run it came from goes on,
    for _ in range(2):  # and so does one that was loaded from it
        other, model = trainer()
        other.load_state_dict(state)
        other.run(model, STEPS)
        assert numbers(other) == numbers(first)


def test_running_in_parts_is_the_straight_run_bit_for_bit(trainer) -> None:
    one, model = trainer()
    for until in (3, 3, STOP, STEPS):
        one.run(model, until)
    assert numbers(one) == straight(trainer, SPEC, STEPS)


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_an_exception_from_on_step_keeps_the_last_finished_step(trainer, fault: type[BaseException]) -> None:
    def stop(report: StepReport) -> None:
        if report.step == STOP:
            raise fault

    one, model = trainer()
    weight, flag = model.module.mix.weight.clone(), model.module.mix.weight.requires_grad
    with pytest.raises(fault):
        one.run(model, STEPS, stop)
    assert numbers(one) == straight(trainer, SPEC, STOP)
    assert torch.equal(model.module.mix.weight, weight)
    assert model.module.mix.weight.requires_grad is flag
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.module.modules()) == 0
    one.run(model, STEPS)
    assert numbers(one) == straight(trainer, SPEC, STEPS)


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_stops_the_run_and_spares_the_weights(trainer, where: str) -> None:
    one, model = trainer()
    one.run(model, STOP)
    good, predict = numbers(one), model.predict

    def broken(*args: object) -> torch.Tensor:
        out = predict(*args)
        if where == "loss":
            return out * math.nan
        if out.requires_grad:  # the frozen model is asked too
            out.register_hook(lambda grad: grad * math.inf)
        return out

    model.predict = broken
    with refused("training.not_finite", STOP + 1, SPEC.lr):
        one.run(model, STEPS)
    assert numbers(one) == good
    model.predict = predict
    one.run(model, STEPS)
    assert numbers(one) == straight(trainer, SPEC, STEPS)


def test_reports_count_the_steps_and_carry_the_last_reading(trainer) -> None:
    reports: list[StepReport] = []
    one, model = trainer()
    one.run(model, STEPS, reports.append, read_every=5)
    assert [r.step for r in reports] == list(range(1, STEPS + 1))
    assert {r.total for r in reports} == {STEPS}
    assert [r.loss for r in reports] == one.losses
    assert [reading.step for reading in one.readings] == [5, 10, STEPS]
    first, second, third = (reading.positive for reading in one.readings)
    assert [r.explained_positive for r in reports] == [None] * 4 + [first] * 5 + [second] * 2 + [third]
    assert reports[-1].seconds_left == 0
    assert f"step {STEPS}/{STEPS}, learned: plus " in reports[-1].summary()
    assert "learned" not in reports[0].summary()


def test_training_leaves_the_global_generator_alone(trainer) -> None:
    one, model = trainer()
    state = torch.get_rng_state()
    one.run(model, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_device_without_room_for_the_optimizer_costs_it_nothing(trainer, monkeypatch) -> None:
    run, model = trainer()
    run.run(model, STOP)
    before = on_cpu(run.optimizer.state_dict()["state"])
    load, calls = run.optimizer.load_state_dict, []

    def refuse_first(state: dict) -> None:
        calls.append(state)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room")
        load(state)

    monkeypatch.setattr(placing, "_lies_on", lambda *_: False)
    monkeypatch.setattr(run.optimizer, "load_state_dict", refuse_first)
    with pytest.raises(torch.OutOfMemoryError), placing.placed_on(run, torch.device("cpu")):
        pytest.fail("there was no room")
    after = run.optimizer.state_dict()["state"]
    assert len(calls) == 2
    assert all(torch.equal(after[number][name], value) for number, kept in before.items() for name, value in kept.items())


def test_adopting_the_same_choices_changes_nothing(trainer) -> None:
    one, model = trainer()
    one.run(model, STOP)
    one.adopt(TrainSpec.from_json(SPEC.to_json()))
    one.run(model, STEPS)
    assert numbers(one) == straight(trainer, SPEC, STEPS)


def test_adopted_choices_hold_from_the_next_step(trainer) -> None:
    other = straight(trainer, SPEC, STEPS)
    for change in ({"lr": 1e-3}, {"seed": 4}, {"weight_decay": 0.5}, {"batch": 2}):
        one, model = trainer()
        one.run(model, STOP)
        one.adopt(replace(SPEC, **change))
        one.run(model, STEPS)
        assert one.losses[:STOP] == other[1][:STOP]
        assert numbers(one)[2] != other[2], change


def test_the_rate_warms_up_and_goes_down_half_a_cosine() -> None:
    spec = TrainSpec(steps=100, lr=1.0, warmup=10)
    rates = [learning_rate(spec, step) for step in range(120)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] > 0.97
    assert rates[50] == pytest.approx(0.525)
    assert rates[100:] == [pytest.approx(0.05)] * 20
    assert rates[9:101] == sorted(rates[9:101], reverse=True)
    constant = TrainSpec(steps=100, lr=1.0, warmup=10, schedule=Schedule.CONSTANT)
    assert [learning_rate(constant, step) for step in (0, 9, 50, 99)] == pytest.approx([0.1, 1, 1, 1])


def test_samples_that_cannot_train_are_refused_before_the_first_step(linear_backend, make_samples) -> None:
    adapter = Adapter.create(linear_backend().module, [Target("mix")], AdapterSpec())
    with refused("batches.one_side", PAIRS):
        Trainer(adapter, [s for s in make_samples(PAIRS) if s.strength > 0], SPEC)


def half_backend() -> TinyBackend:
    """The embedded model, marked as float16 by a weight that takes no part."""
    backend = TinyBackend()
    backend.module.register_parameter("mark", torch.nn.Parameter(torch.zeros(1, dtype=torch.float16), requires_grad=False))
    return backend


@pytest.mark.parametrize("scale", [2.0**12, 2.0**135], ids=["fits", "overflows_at_first"])
def test_the_loss_scale_of_half_precision_changes_nothing_else(scale, samples, monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "HALF_SCALE", scale)
    results = []
    for backend in (TinyBackend(), half_backend()):
        targets = select(backend.module)
        trainer = Trainer(Adapter.create(backend.module, targets, AdapterSpec()), samples, TrainSpec(seed=3))
        trainer.run(backend, 3)
        results.append(trainer)
    plain, scaled = (t.adapter.weights()[Target("proj_out")].tensors["lora_up.weight"] for t in results)
    assert results[0]._scale == 1.0
    assert 1.0 < results[1]._scale <= scale
    assert torch.allclose(plain, scaled, atol=1e-6)
    assert float(plain.abs().max()) > 1e-4


def test_a_loss_scale_that_was_halved_is_kept_by_the_next_part_of_the_run(samples, monkeypatch) -> None:
    """On float16 another scale rounds other gradients, so a run in parts would not be the straight run."""
    monkeypatch.setattr(trainer_module, "HALF_SCALE", 2.0**135)
    backend, passes = half_backend(), []
    trainer = Trainer(Adapter.create(backend.module, select(backend.module), AdapterSpec()), samples, TrainSpec(seed=3))
    trainer.run(backend, 9, lambda _report: True)
    kept, real = trainer._scale, trainer_module.backward
    monkeypatch.setattr(trainer_module, "backward", lambda *args: passes.append(args[3]) or real(*args))
    trainer.run(backend, 9, lambda _report: True)
    assert trainer.step == 2
    assert passes == [kept], "no pass is lost on a scale that is known to overflow"
