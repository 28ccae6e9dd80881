"""Processes that train one slider together, for test_ranks.py: every rank runs every case and writes down what it came to."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from core.conftest import LinearBackend, samples_of

from slider_core.__main__ import main
from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.training import Objective, TrainSpec
from slider_core.layers.layer import Target
from slider_core.lora.slider_adapter import Adapter
from slider_core.ranks import Group, Ranks
from slider_core.train.trainer import Trainer

STEPS, PAIRS, NEUTRAL = 4, 5, 2
Case = tuple[dict[str, Any], dict[str, Any]]  # of the training, of the adapter
CASES: dict[str, Case] = {
    **{f"objective {objective.value}": ({"objective": objective}, {}) for objective in Objective},
    **{f"algorithm {algorithm.value}": ({}, {"algorithm": algorithm}) for algorithm in Algorithm},
    **{f"optimizer {name}": ({"optimizer": name}, {}) for name in ("adafactor", "schedule_free")},
    "optimizer prodigy": ({"optimizer": "prodigy", "lr": 1.0}, {}),
    "probe": ({"lr": 0.0}, {}),
    "uneven": ({"batch": 6}, {}),
    "accumulated": ({"batch": 4, "accumulate": 2}, {}),
    "average": ({"ema": 0.5}, {}),
    "dropout": ({}, {"dropout": 0.3}),
}
UNEVEN = ("objective displacement", "algorithm lokr", "uneven", "accumulated", "dropout")  # three ranks share them unevenly


def names(world: int) -> tuple[str, ...]:
    return tuple(CASES) if world == 2 else UNEVEN


def trainer_of(case: Case, ranks: Ranks) -> tuple[Trainer, LinearBackend]:
    training, adapter = case
    backend = LinearBackend()
    spec = TrainSpec(**({"steps": STEPS, "lr": 1e-3, "seed": 3, "any_rate": True} | training))
    made = Adapter.create(backend.module, [Target("mix")], AdapterSpec(rank=2, alpha=2.0, **adapter), seed=spec.seed)
    trainer = Trainer(made, samples_of(PAIRS, NEUTRAL), spec)
    trainer.ranks = ranks
    return trainer, backend


def numbers(trainer: Trainer) -> dict[str, Any]:
    weights = [p.detach().clone() for p in trainer.adapter.parameters()]
    return {"losses": trainer.losses, "weights": weights, "step": trainer.step, "readings": [r.mean for r in trainer.readings]}


def trained(name: str, ranks: Ranks) -> dict[str, Any]:
    trainer, backend = trainer_of(CASES[name], ranks)
    trainer.run(backend, STEPS)
    return numbers(trainer)


class Spoilt(LinearBackend):
    """A model that, at one call, gives a NaN, raises, or has no memory."""

    def __init__(self, fault: Callable[[torch.Tensor], torch.Tensor], call: int) -> None:
        super().__init__()
        self.fault, self.left = fault, call

    def predict(self, *args: Any) -> torch.Tensor:
        self.left -= 1
        prediction = super().predict(*args)
        return self.fault(prediction) if self.left == 0 else prediction


def nan(prediction: torch.Tensor) -> torch.Tensor:
    return prediction * float("nan")


def broken(_prediction: torch.Tensor) -> torch.Tensor:
    raise ValueError("this card is on fire")


def short(_prediction: torch.Tensor) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory")


def with_fault(ranks: Ranks, fault: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Any]:
    """What a training comes to in which the last rank alone meets a fault in its second step."""
    trainer, _ = trainer_of(({"steps": STEPS}, {}), ranks)
    backend = Spoilt(fault, 9) if ranks.rank == ranks.world - 1 else LinearBackend()
    try:
        trainer.run(backend, STEPS, read_every=100)
    except (SliderError, ValueError) as error:
        return {"code": getattr(error, "code", ""), "message": str(error), "step": trainer.step}
    return numbers(trainer) | {"level": trainer.fallback.summary()}


def stopped(ranks: Ranks) -> dict[str, Any]:
    """The last rank alone wants to stop after its second step."""
    trainer, backend = trainer_of(({"steps": STEPS}, {}), ranks)
    trainer.run(backend, STEPS, lambda report: ranks.rank == ranks.world - 1 and report.step == 2)
    return {"step": trainer.step}


def rank_main(rank: int, world: int, folder: Path, command: list[str], port: int) -> None:
    """One process of several."""
    torch.set_num_threads(1)
    group = Group(rank, world, f"file://{folder / 'meeting'}", timedelta(seconds=60))
    results: dict[str, Any] = {name: trained(name, group) for name in names(world)}
    for name, fault in (("nan", nan), ("broken", broken), ("short", short)):
        results[name] = with_fault(group, fault)
    results["stopped"] = stopped(group)
    group.end()
    if command:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        results["command"] = main(command)
        os.environ["WORLD_SIZE"] = "1"
    group = Group(rank, world, f"file://{folder / 'second'}", timedelta(seconds=60))
    torch.save(results, folder / f"{rank}.pt")
    if rank == world - 1:
        os._exit(9)  # killed
    trainer, backend = trainer_of(({"steps": STEPS}, {}), group)
    try:
        trainer.run(backend, STEPS)
    except SliderError as error:
        torch.save({"code": error.code, "step": trainer.step}, folder / f"lost{rank}.pt")
    os._exit(0)
