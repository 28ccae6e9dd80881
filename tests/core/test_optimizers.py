"""Every optimizer learns and goes on bit for bit; what is read is the average, what is trained are the weights themselves."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from core.faults import refused
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.config.training import Objective, Optimizer, SaveSpec, Schedule, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.layer import Target
from slider_core.layers.select import select
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.optimizers import PACKAGES
from slider_core.train.trainer import Trainer, learning_rate
from slider_core.train.training_file import KEY
from slider_core.train.training_run import Run
from slider_core.train.training_saves import Autosave, run_file
from slider_core.train.trainings import Session
from slider_core.with_tiny.model import TinyBackend

STEPS, STOP, DECAY = 10, 6, 0.8
LONG, LEARNT = 150, 0.05  # steps, after which plus and minus together explain so much; prodigy needs them to begin
SPEC = TrainSpec(steps=STEPS, lr=1e-2, seed=3, warmup=4, weight_decay=0.1)
KINDS = {
    "adamw": SPEC,
    "ema": replace(SPEC, ema=DECAY),
    "accumulated": replace(SPEC, accumulate=2, batch=2, ema=DECAY),
    "adafactor": replace(SPEC, optimizer=Optimizer.ADAFACTOR),
    "prodigy": replace(SPEC, optimizer=Optimizer.PRODIGY, lr=1.0, ema=DECAY),
    "schedule_free": replace(SPEC, optimizer=Optimizer.SCHEDULE_FREE),
}
EVERY = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def make(linear_backend, make_samples):
    """(spec) -> a factory of equal trainers. A DoRA takes from the base weights what it saves, so it must know its changes."""

    def trainers(spec: TrainSpec, algorithm: str = "dora", pairs: int = 5):
        adapter_spec = AdapterSpec(rank=2, alpha=2.0, algorithm=algorithm, dropout=0.2)

        def one() -> Trainer:
            adapter = Adapter.create(linear_backend().module, [Target("mix")], adapter_spec, seed=spec.seed)
            return Trainer(adapter, make_samples(pairs, 2), spec)

        return one

    return trainers


def values(trainer: Trainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in trainer.adapter.parameters()]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def begun(make, root: Path) -> Run:
    return Session().begin("smile", {"model": "linear"}, make, saved=run_file(root, "smile"))


def train(run: Run, backend, root: Path, until: int) -> None:
    with Autosave(run, root, SaveSpec(seconds=0)) as autosave:
        run.trainer.run(backend, until, lambda _report: autosave.after_step())


@EVERY
def test_a_run_goes_on_from_its_file_bit_for_bit(make, linear_backend, tmp_path: Path, kind: str) -> None:
    straight = make(KINDS[kind])()
    straight.run(linear_backend(), STEPS, read_every=STOP)
    train(begun(make(KINDS[kind]), tmp_path), linear_backend(), tmp_path, STOP)
    again = begun(make(KINDS[kind]), tmp_path)
    train(again, linear_backend(), tmp_path, STEPS)
    assert again.trainer.losses == straight.losses
    assert again.trainer.readings == straight.readings
    assert same(values(again.trainer), values(straight))
    raw = [one.average.raw or [] for one in (again.trainer, straight)]
    assert same(*raw)
    assert bool(raw[0]) == (kind not in ("adamw", "adafactor"))


@EVERY
def test_every_optimizer_learns(linear_backend, kind: str) -> None:
    noise = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1)) / 10
    colour = {sign: torch.tensor([2.0, sign, 0.0]).reshape(3, 1, 1) for sign in (1.0, -1.0)}  # of two colours
    apart = [Sample(colour[sign] + one, Conditioning("", None), sign, n) for sign in colour for n, one in enumerate(noise)]
    spec, model = replace(KINDS[kind], steps=LONG, weight_decay=0.0), linear_backend()
    one = Trainer(Adapter.create(model.module, [Target("mix")], AdapterSpec(rank=2)), apart, spec)
    one.run(model, LONG, read_every=LONG)
    assert one.readings[-1].reach > LEARNT


def test_other_choices_begin_from_what_is_read_or_trained(make, linear_backend) -> None:
    plain, averaged, free = make(SPEC)(), make(replace(SPEC, ema=DECAY))(), make(KINDS["schedule_free"])()
    plain.run(linear_backend(), STEPS)
    for one in (averaged, free):
        one.run(linear_backend(), STOP)
    read = values(free)
    free.adopt(SPEC)
    assert same(values(free), read), "another optimizer begins from what is read"
    for one in (averaged, free):
        one.adopt(SPEC)
        one.run(linear_backend(), STEPS)
    assert same(values(averaged), values(plain)), "a switched-off average leaves the weights themselves"
    assert isinstance(free.optimizer, torch.optim.AdamW)
    assert free.average.raw is None


def test_what_is_read_is_the_mean_of_the_weights_with_the_newest_counting_most(make, linear_backend) -> None:
    plain, averaged, trained = make(SPEC)(), make(replace(SPEC, ema=DECAY))(), []
    plain.run(linear_backend(), STEPS, lambda _report: trained.append(values(plain)))
    averaged.run(linear_backend(), STEPS)
    assert averaged.losses == plain.losses, "training goes on from the weights themselves"
    weight = [(1 - DECAY) * DECAY ** (STEPS - n) / (1 - DECAY**STEPS) for n in range(1, STEPS + 1)]
    for number, p in enumerate(averaged.adapter.parameters()):
        mean = sum(w * step[number] for w, step in zip(weight, trained, strict=True))
        assert torch.allclose(p, mean, atol=1e-6)
    assert same(averaged.average.raw, trained[-1])


def test_a_preview_an_autosave_and_the_gain_see_the_average(make, linear_backend, tmp_path: Path) -> None:
    one, seen = make(KINDS["schedule_free"])(), []
    one.run(linear_backend(), STOP, lambda _report: seen.append((values(one), one.adapter.weights()[Target("mix")])))
    beta = one.optimizer.param_groups[0]["betas"][0]
    for p, y in zip(one.adapter.parameters(), one.average.raw, strict=True):
        z = one.optimizer.state[p]["z"]
        assert torch.allclose(p, y + (z - y) * (1 - 1 / beta), atol=1e-6)  # x of Defazio et al. 2024, (1) and (3)
        assert not torch.equal(p, y)
    now = one.adapter.weights()[Target("mix")]
    assert same(seen[-1][0], values(one))
    assert same(list(seen[-1][1].tensors.values()), list(now.tensors.values()))


@pytest.mark.parametrize("objective", Objective)
def test_parts_are_the_larger_batch(make, linear_backend, objective: Objective) -> None:
    whole = replace(SPEC, objective=objective, batch=4)
    results = []
    for spec in (whole, replace(whole, batch=2, accumulate=2)):
        one = make(spec, "lora", pairs=4)()
        one.run(linear_backend(), STOP)
        results.append(one)
    assert results[0].losses == pytest.approx(results[1].losses, rel=1e-5)
    for a, b in zip(values(results[0]), values(results[1]), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_a_missing_package_is_named_with_its_command(make, monkeypatch) -> None:
    for optimizer, name in PACKAGES.items():
        monkeypatch.setitem(sys.modules, name, None)
        with refused("optimizer.package", optimizer.value, f"pip install {name}"):
            make(replace(SPEC, optimizer=optimizer, lr=0.1))()


def test_an_older_torch_without_adafactor_is_named(make, monkeypatch) -> None:
    monkeypatch.delattr(torch.optim, "Adafactor")
    with refused("optimizer.torch", torch.__version__):
        make(KINDS["adafactor"])()


def test_the_rate_goes_down_evenly_or_not_at_all() -> None:
    spec = TrainSpec(steps=100, lr=1.0, warmup=0, schedule=Schedule.LINEAR)
    assert [learning_rate(spec, step) for step in (0, 50, 100, 120)] == pytest.approx([1.0, 0.525, 0.05, 0.05])
    free = TrainSpec(steps=100, lr=0.1, warmup=10, optimizer=Optimizer.SCHEDULE_FREE)
    assert [learning_rate(free, step) for step in (0, 9, 99)] == pytest.approx([0.01, 0.1, 0.1])


def test_a_run_of_before_these_choices_goes_on(make, linear_backend, tmp_path: Path) -> None:
    run = begun(make(SPEC), tmp_path)
    train(run, linear_backend(), tmp_path, STOP)
    file = run_file(tmp_path, "smile")
    with safe_open(file, framework="pt") as opened:
        told = json.loads(opened.metadata()[KEY])
    training = json.loads(told["training"])
    for new in ("optimizer", "accumulate", "ema"):
        del training[new]
    told |= {"training": json.dumps(training), "optimizer": {}}
    save_file(load_file(file), file, {KEY: json.dumps(told)})
    again = begun(make(SPEC), tmp_path)
    again.trainer.run(linear_backend(), STEPS)
    run.trainer.run(linear_backend(), STEPS)
    assert same(values(again.trainer), values(run.trainer))


def test_eight_bits_go_on_bit_for_bit(samples, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    backend, spec = TinyBackend(), TrainSpec(steps=4, optimizer=Optimizer.ADAMW8BIT)

    def trainer() -> Trainer:
        targets = [t for t in select(backend.module) if t.path.startswith("blocks.0.attn1.to_q")]
        return Trainer(Adapter.create(backend.module, targets, AdapterSpec(rank=64)), samples, spec)

    straight = trainer()
    straight.run(backend, 4, read_every=100)
    train(begun(trainer, tmp_path), backend, tmp_path, 2)
    again = begun(trainer, tmp_path)
    train(again, backend, tmp_path, 4)
    assert any(s["state1"].dtype == torch.uint8 for s in straight.optimizer.state.values())
    assert again.trainer.losses == straight.losses
    assert same(values(again.trainer), values(straight))
