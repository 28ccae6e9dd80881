"""Every algorithm: which class a choice of AdapterSpec or the tensors of a file belong to, and their trainable parts.

In: targets of a model and an AdapterSpec, or weights. Out: a Trainable for each target.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..config.checks import SliderError
from ..config.lora import AdapterSpec
from ..layers.layer import Target, find_layer, large_kernel
from .algorithm import BIAS, LayerWeight, Size, Trainable
from .algorithm_layer_bias import WithBias
from .algorithms.full import FullWeight
from .algorithms.loha import LohaWeight
from .algorithms.lokr import LokrWeight
from .algorithms.lokr_dora import DoraLohaWeight, DoraLokrWeight
from .algorithms.lora import LoraWeight
from .algorithms.lora_dora import DoraWeight
from .algorithms.lora_glora import GloraWeight
from .algorithms.vector import DIFF, VectorWeight

REGISTRY: tuple[type[LayerWeight], ...] = (  # the first that recognises a layer's tensors has it
    DoraLokrWeight,
    LokrWeight,
    DoraWeight,
    LoraWeight,
    DoraLohaWeight,
    LohaWeight,
    FullWeight,
    GloraWeight,
    VectorWeight,
)


def for_tensors(tensors: Mapping[str, torch.Tensor]) -> type[LayerWeight] | None:
    """The class of a layer's change by its tensors in a file; None where they change no weight."""
    if DIFF in tensors and tensors[DIFF].ndim < 2:
        return VectorWeight
    return next((weight for weight in REGISTRY if weight.recognises(set(tensors))), None)


def tensor_names() -> list[str]:
    """Every name that a tensor of a layer has in files."""
    names: list[str] = []
    for weight in REGISTRY:
        names += [*weight.needed, *weight.optional]
    return list(dict.fromkeys(names))


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """PEFT and LyCORIS draw from the global generator: borrow it, seeded, and give it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fresh(module: nn.Module, targets: Sequence[Target], spec: AdapterSpec, seed: int) -> dict[Target, Trainable]:
    """New trainable parts that change nothing yet. Convolutions with a conv_rank of 0 are left out."""
    weight = next(weight for weight in REGISTRY if spec.algorithm in weight.algorithms)
    parts = {}
    with _drawing(seed):
        for target in targets:
            layer = find_layer(module, target)
            size = Size(*spec.size(target.path, large_kernel(layer)))
            if size.rank:
                parts[target] = weight.fresh(layer, target, size, spec.at(target.path))
    if not parts:
        raise SliderError("A conv_rank of 0 leaves no layer to train: raise it, or choose other layers.", "adapter_spec.no_layer")
    return parts


def revived(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> dict[Target, Trainable]:
    """Trainable parts that hold a copy of `weights`, which fit `module` (keys.placed)."""
    with _drawing(0):
        return {target: _revived(module, target, weight) for target, weight in weights.items()}


def _revived(module: nn.Module, target: Target, weight: LayerWeight) -> Trainable:
    layer = find_layer(module, target)
    if BIAS not in weight.tensors or isinstance(weight, VectorWeight):
        return weight.revived(layer, target)
    return WithBias(weight.without_bias().revived(layer, target), weight.tensors[BIAS])
