"""What a step will keep in memory, before the first one: one forward of one sample is recorded, and counted instead of kept.

torch tells of every tensor that autograd would save (saved_tensors_hooks). Each piece of memory counts once and is let go of at
once, so the look costs no more memory than a forward without gradients. Weights, and what is trained, are there anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..backend import Backend
from ..encode.encoder import Sample
from ..layers.autograd_inplace import forgiving
from ..layers.blocks import blocks
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength


@dataclass(frozen=True)
class Estimate:
    """Bytes. `plain` and `twice`: what one sample keeps, as it is and with every block computed twice. `fixed`: gradients and
    optimizer moments that are still to come."""

    plain: int
    twice: int
    fixed: int

    def need(self, checkpointing: bool, rows: int) -> int:
        """What a step with so many samples at once keeps."""
        return self.fixed + rows * (self.twice if checkpointing else self.plain)


class _Count:
    """Bytes of what autograd saves, each piece of memory once."""

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        self.seen: dict[int, StorageWeakRef] = {}  # a weak reference keeps the number of a storage from being used again
        self.bytes = 0
        for tensor in known:
            self.keep(tensor)
        self.bytes = 0

    def keep(self, tensor: torch.Tensor) -> None:
        if is_traceable_wrapper_subclass(tensor):
            for name in tensor.__tensor_flatten__()[0]:
                self.keep(getattr(tensor, name))
            return
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen[storage._cdata] = StorageWeakRef(storage)
            self.bytes += storage.nbytes()


def _gone(_nothing: None) -> torch.Tensor:
    raise RuntimeError("a look ahead has no backward")


def _floats(value: Any) -> int:
    """Bytes of the floating tensors among a block's inputs."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size() if value.is_floating_point() else 0
    return sum(_floats(v) for v in value) if isinstance(value, (tuple, list)) else 0


class _Blocks:
    """What each block keeps, and what it is given."""

    def __init__(self, count: _Count) -> None:
        self.count, self.begun, self.inside, self.given = count, 0, [0], 0

    def before(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.begun = self.count.bytes
        self.given += _floats([*args, *kwargs.values()])

    def after(self, *_call: object) -> None:
        self.inside.append(self.count.bytes - self.begun)


def estimate(backend: Backend, adapter: Adapter, samples: Sequence[Sample], moments: int = 2) -> Estimate:
    """Look ahead with the largest of `samples`. Call inside `backend.borrowed()`, with the blocks as they are.

    `moments`: how many numbers the optimizer will still make for each that is trained.
    """
    sample, module = max(samples, key=lambda s: s.latent.numel()), backend.module
    count = _Count([*module.parameters(), *module.buffers(), *adapter.parameters()])
    # a clone: what was encoded under inference mode cannot be saved for a backward
    seen, latent = _Blocks(count), sample.latent.unsqueeze(0).to(backend.device).clone()
    sigma = backend.sigmas(torch.tensor([0.5], device=backend.device))
    with ExitStack() as stack:
        for block in blocks(module):
            stack.callback(block.register_forward_pre_hook(seen.before, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(seen.after).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(forgiving(True))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(count.keep, _gone))
        stack.enter_context(at_strength(adapter, module, [sample.strength]))
        backend.predict(latent, sigma, [sample.cond])
    outside = count.bytes - sum(seen.inside)
    return Estimate(count.bytes, outside + seen.given + max(seen.inside), (1 + moments) * adapter.bytes())
