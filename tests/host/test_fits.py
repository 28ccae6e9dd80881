"""The model is trained through where it lies: quantised, in fp8, by a GGUF loader, outside the GPU. Nothing but activations is kept.

The oracle is autograd through a plain copy of the same numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from zoo.animals import tiny
from zoo.measure import shaken
from zoo.model import conditioning
from zoo.quantised import build, from_q8_0, gguf_layer, linears, plain_twin, raw_fp8

EXACT = 1e-5  # relative, in float32
ROUNDED = {"float8_e4m3fn": 0.1, "float8_e5m2": 0.2}  # these round the inputs of a layer too
KINDS = ["fp8", "gguf", "offloaded", "int8_tensorwise", *ROUNDED]
MODEL = "ZImage"


def relative(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> float:
    a, b = (torch.cat([t.flatten().double() for t in some]) for some in (found, wanted))
    return float((a - b).norm() / b.norm())


class Case:
    """A tiny model, an adapter on it, and the gradient of one loss of both signs."""

    def __init__(self, pack, patcher: Any, entry: Any, algorithm: str = "lora", targets: Any = None) -> None:
        self.backend = pack.core("comfy_host").ComfyBackend(patcher, None, None)
        self.targets = targets or pack.core("targets").select(self.backend.module)
        self.adapter = shaken(pack.core, self.backend.module, self.targets, torch.float32, algorithm)
        self.cond = [pack.core("backend").Conditioning(str(i), conditioning(entry, i)) for i in range(2)]
        generator = torch.Generator().manual_seed(4)
        self.x, self.weight = (torch.randn(2, *entry.latent, generator=generator) for _ in range(2))
        self.gradients = pack.core("gradients")

    def gradient(self, checkpointing: bool = False) -> list[torch.Tensor]:
        with self.backend.borrowed(), torch.enable_grad():
            sigma = self.backend.sigmas(torch.tensor([0.3, 0.7]))
            twice = self.gradients.checkpointed(self.backend.module, self.adapter)
            with twice if checkpointing else torch.enable_grad(), self.adapter.at(self.backend.module, [1.0, -1.0]):
                loss = (self.backend.predict(self.x, sigma, self.cond) * self.weight).sum()
                return [g.clone() for g in torch.autograd.grad(loss, self.adapter.parameters())]


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_that_of_a_plain_copy(kind: str, checkpointing: bool, pack) -> None:
    entry = tiny(MODEL)
    patcher = build(entry, kind)
    found = Case(pack, patcher, entry).gradient(checkpointing)
    wanted = Case(pack, plain_twin(entry, patcher), entry).gradient()
    print(kind, relative(found, wanted))
    assert relative(found, wanted) < ROUNDED.get(kind, EXACT)
