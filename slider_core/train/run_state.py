"""What a run needs to go on exactly where it stopped, taken out of a Trainer and put back."""

from __future__ import annotations

import copy
from dataclasses import astuple
from typing import Any, Protocol

import torch

from ..lora.slider_adapter import Adapter
from .guard import on_cpu
from .optimizers import Average
from .progress import Probe, Reading


class Training(Protocol):
    """A Trainer, as far as its state is concerned."""

    adapter: Adapter
    optimizer: torch.optim.Optimizer
    average: Average
    step: int
    losses: list[float]
    readings: list[Reading]
    probed: float | None
    settled: bool
    probe: Probe


def state_of(trainer: Training) -> dict[str, Any]:
    """Adapter, optimizer, EMA, step, losses, readings and what was found before the first steps; a copy."""
    return {
        "adapter": trainer.average.as_trained(trainer.adapter.state()),
        "ema": on_cpu(trainer.average.ema),
        "optimizer": on_cpu(trainer.optimizer.state_dict()),
        "step": trainer.step,
        "losses": list(trainer.losses),
        "readings": [astuple(reading) for reading in trainer.readings],
        "probed": trainer.probed,
        "settled": trainer.settled,
        "moved_error": trainer.probe.moved_error,
    }


def put_state(trainer: Training, state: dict[str, Any]) -> None:
    """Go on from `state`. Call it outside inference mode."""
    trainer.adapter.load_state(state["adapter"])
    trainer.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # torch would go on writing into the caller's tensors
    trainer.average.load(state.get("ema"))
    trainer.step = state["step"]
    trainer.losses = list(state["losses"])
    trainer.readings = [Reading(*reading) for reading in state["readings"]]
    trainer.probed, trainer.settled = state["probed"], state.get("settled", False)
    trainer.probe.moved_error = state.get("moved_error")
