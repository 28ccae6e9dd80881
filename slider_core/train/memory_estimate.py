"""What a step will need in memory, before the first one. Weights, and what is trained, are there anyway.

without checkpointing   one forward of one sample, in which torch reports every tensor that autograd would save
                        (saved_tensors_hooks). Each storage counts once and is released at once, so this costs no more memory than
                        a forward without gradients.
with checkpointing      one sample forwards and backwards, its tensors counted while they live (memory_alive.py). Where there is
                        room without checkpointing it is not run: the inputs of all blocks and the inside of the largest stand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from ..backend import Backend, Conditioning
from ..encode.encoder import Sample
from ..layers.autograd_inplace import forgiving, storages
from ..layers.block_inputs import BlockInputs
from ..layers.blocks import blocks
from ..layers.checkpointing import checkpointed
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength, remember
from .memory_alive import Alive


@dataclass(frozen=True)
class Estimate:
    """Bytes. `plain` and `checkpointed`: what one sample needs without and with gradient checkpointing; `hosted`: with the inputs
    of blocks in the host's memory besides. `fixed`: gradients and optimizer moments that are still to come."""

    plain: int
    checkpointed: int
    hosted: int
    fixed: int

    def need(self, checkpointing: bool, rows: int, host: bool = False) -> int:
        """What a step with so many samples at once needs."""
        checkpointed = self.hosted if host else self.checkpointed
        return self.fixed + rows * (checkpointed if checkpointing else self.plain)


class _SavedBytes:
    """Bytes of what autograd saves, each storage once; those of `present` do not count. One that is saved again after a change
    in place counts again: its old values are copied (autograd_inplace.py)."""

    def __init__(self, present: Iterable[torch.Tensor]) -> None:
        # a weak reference keeps a storage's number from being used again
        self.present = {storage._cdata: StorageWeakRef(storage) for tensor in present for storage in storages(tensor)}
        self.storages: dict[tuple[int, int], StorageWeakRef] = {}
        self.bytes = 0

    def keep(self, tensor: torch.Tensor) -> None:
        for storage in storages(tensor):
            place = storage._cdata, tensor._version
            if storage._cdata not in self.present and place not in self.storages:
                self.storages[place] = StorageWeakRef(storage)
                self.bytes += storage.nbytes()


def _unpack(_nothing: None) -> torch.Tensor:
    raise RuntimeError("a memory estimate has no backward")


def _float_bytes(value: Any) -> int:
    """Bytes of the floating tensors among a block's inputs."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size() if value.is_floating_point() else 0
    return sum(_float_bytes(item) for item in value) if isinstance(value, (tuple, list)) else 0


class _BlockBytes:
    """What each block saves, and the size of its inputs."""

    def __init__(self, saved: _SavedBytes) -> None:
        self.saved = saved
        self.before_block = 0
        self.per_block = [0]
        self.inputs = 0

    def before(self, _block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.before_block = self.saved.bytes
        self.inputs += _float_bytes([*args, *kwargs.values()])

    def after(self, *_call: object) -> None:
        self.per_block.append(self.saved.bytes - self.before_block)


def _inputs(backend: Backend, samples: Sequence[Sample]) -> tuple[torch.Tensor, torch.Tensor, list[Conditioning], list[float]]:
    """The largest sample as the model is given it, and its strength."""
    sample = max(samples, key=lambda s: s.latent.numel())
    # a clone: what was encoded under inference mode cannot be saved for a backward
    latent = sample.latent.unsqueeze(0).to(backend.device).clone()
    sigma = backend.sigmas(torch.tensor([0.5], device=backend.device))
    return latent, sigma, [sample.cond], [sample.strength]


def estimate(backend: Backend, adapter: Adapter, samples: Sequence[Sample], moments: int = 2) -> Estimate:
    """Estimate with the largest of `samples` and one forward. Call inside `backend.borrowed()`, with the blocks as they are.

    `moments`: how many numbers the optimizer will still make for each that is trained.
    """
    module = backend.module
    saved = _SavedBytes([*module.parameters(), *module.buffers(), *adapter.parameters()])
    per_block = _BlockBytes(saved)
    latent, sigma, cond, strength = _inputs(backend, samples)
    with ExitStack() as stack:
        for block in blocks(module):
            stack.callback(block.register_forward_pre_hook(per_block.before, with_kwargs=True).remove)
            stack.callback(block.register_forward_hook(per_block.after).remove)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(forgiving(True))
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(saved.keep, _unpack))
        stack.enter_context(at_strength(adapter, module, strength))
        backend.predict(latent, sigma, cond)
    outside = saved.bytes - sum(per_block.per_block)
    hosted = outside + max(per_block.per_block)
    return Estimate(saved.bytes, hosted + per_block.inputs, hosted, (1 + moments) * adapter.bytes())


def measured_estimate(rough: Estimate, backend: Backend, adapter: Adapter, samples: Sequence[Sample]) -> Estimate:
    """The estimate with what one sample takes forwards and backwards with checkpointing. What the gradients themselves take at
    the peak counts for the sample without checkpointing too."""
    latent, sigma, cond, strength = _inputs(backend, samples)
    inputs = BlockInputs()
    alive = Alive(backend.device, inputs)
    with torch.enable_grad(), checkpointed(backend.module, adapter.factors, remember, inputs), forgiving(True), alive:
        with at_strength(adapter, backend.module, strength):
            loss = backend.predict(latent, sigma, cond).float().square().mean()
        torch.autograd.grad(loss, adapter.parameters(), allow_unused=True)
    plain = rough.plain + max(0, alive.most - rough.checkpointed)
    return replace(rough, plain=plain, checkpointed=alive.most, hosted=alive.most_inside)
