"""Where the tensors of a training lie: on the model's device while it runs, in main memory while it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..lora.slider_adapter import Adapter

REST = torch.device("cpu")


@torch.inference_mode(False)
def place(training: Any, device: torch.device) -> None:
    """Move the adapter, the optimizer's state and the averages of a Trainer to `device`, bit for bit, unless they are there."""
    adapter: Adapter = training.adapter
    optimizer = training.optimizer
    if _lies_on(device, adapter, optimizer):
        return
    state = optimizer.state_dict()
    adapter.to(device)
    parameters = adapter.parameters()
    at = 0
    for group in optimizer.param_groups:  # on some devices a module makes new parameters when it is moved
        count = len(group["params"])
        group["params"] = parameters[at : at + count]
        at += count
    optimizer.load_state_dict(state)  # torch's own rules of what belongs beside its parameter; all or nothing
    training.average.place(parameters)


def _lies_on(device: torch.device, adapter: Adapter, optimizer: Any) -> bool:
    """Whether both lie there: a picture drawn while the run waited may have moved the adapter alone."""
    parameters = adapter.parameters()
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    if any(p is not other for p, other in zip(parameters, trained, strict=True)):
        return False
    moments = [t for p in parameters for t in optimizer.state.get(p, {}).values() if torch.is_tensor(t) and t.shape == p.shape]
    return all(tensor.device == device for tensor in (*parameters, *moments))


@contextmanager
def placed_on(training: Any, device: torch.device) -> Iterator[None]:
    """Within the block everything lies on `device`; in main memory afterwards, without gradients."""
    try:
        place(training, device)
        yield
    finally:
        training.optimizer.zero_grad(set_to_none=True)
        place(training, REST)
