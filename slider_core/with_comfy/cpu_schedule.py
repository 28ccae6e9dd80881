"""A model's noise schedule in main memory: a value that is read from a device waits for all that runs there."""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

_COPIES: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def on_cpu(sampling: Any) -> Any:
    """The same schedule with its tables on the CPU, copied once."""
    if all(buffer.device.type == "cpu" for buffer in sampling.buffers()):
        return sampling
    if sampling not in _COPIES:
        _COPIES[sampling] = copy.deepcopy(sampling).to("cpu")
    return _COPIES[sampling]
