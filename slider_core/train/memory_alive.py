"""How much memory operations hold at a time, counted in their tensors: the same on every device, an allocator's gaps left out."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..layers.autograd_inplace import storages
from ..layers.block_inputs import BlockInputs


class Alive(TorchDispatchMode):
    """Bytes of the tensors on `device` that are made within the block, until they are freed: `now`, and the `most` so far; the
    `most_inside` without what waits in `inputs`."""

    def __init__(self, device: torch.device, inputs: BlockInputs) -> None:
        super().__init__()
        self.device = device
        self.inputs = inputs
        self.now = self.most = self.most_inside = 0
        self._sizes: dict[int, int] = {}  # by the storage's number
        # storages that were there before; a weak reference keeps a storage's number from being used again
        self._older: dict[int, StorageWeakRef] = {}

    def _freed(self, number: int) -> None:
        self.now -= self._sizes.pop(number, 0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **(kwargs or {}))
        known: set[int] | None = None
        for storage in self._storages(out):
            if storage._cdata in self._sizes or storage._cdata in self._older:
                continue
            if known is None:
                known = {given._cdata for given in self._storages((args, kwargs))}
            if storage._cdata in known:  # of a weight, or of what is trained
                self._older[storage._cdata] = StorageWeakRef(storage)
                continue
            self._sizes[storage._cdata] = storage.nbytes()
            self.now += storage.nbytes()
            weakref.finalize(storage, self._freed, storage._cdata)
        self.most = max(self.most, self.now)
        self.most_inside = max(self.most_inside, self.now - self.inputs.bytes)
        return out

    def _storages(self, values: Any) -> list[torch.UntypedStorage]:
        found: list[torch.UntypedStorage] = []
        for value in tree_leaves(values):
            if isinstance(value, torch.Tensor) and value.device.type == self.device.type:
                found += storages(value)
        return found
