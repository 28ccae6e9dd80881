"""The trainable parts of one layer's change: PEFT and LyCORIS make them and do their mathematics; here they meet a live layer.

Every algorithm gives `change(layer, x, out)`, what the layer's output changes by at strength 1, so that

    y_r = f(x_r) + strength_r * change(x_r)

is exact for each row of a batch. That holds for DoRA as well, in the sense in which ComfyUI's loader applies one: the weight at
strength s is W + s (W' - W) with W' = (W + update) m / |W + update|. Nothing changes at initialisation.
Cost: lora, rslora, locon, lokr, glora are thin products; dora takes the norm of every changed weight in every forward; loha and
full make a matrix as large as the weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..config.checks import SliderError
from ..config.lora import PEFTS, AdapterSpec
from ..layers.layer import Target, find_layer, large_kernel
from .algorithm import Kind, LayerWeight, Size, Trainable, shape_of
from .algorithm_lycoris import revive_lycoris, with_lycoris
from .algorithm_peft import revive_peft, with_peft


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """PEFT and LyCORIS draw from the global generator: borrow it, seeded, and give it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fresh(module: nn.Module, targets: Sequence[Target], spec: AdapterSpec, seed: int) -> dict[Target, Trainable]:
    """New trainable parts that change nothing yet. Convolutions with a conv_rank of 0 are left out."""
    sizes = {t: Size(*spec.size(t.path, large_kernel(find_layer(module, t)))) for t in targets}
    kept = [t for t in targets if sizes[t].rank]
    if not kept:
        raise SliderError("A conv_rank of 0 leaves no layer to train.")
    with _drawing(seed):
        if spec.algorithm in PEFTS:
            return dict(with_peft(module, kept, sizes, spec.algorithm, spec.init))
        return dict(with_lycoris(module, kept, sizes, spec))


def revived(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> dict[Target, Trainable]:
    """Trainable parts that hold a copy of `weights`, which fit `module` (names.placed)."""
    with _drawing(0):
        plain = {t: w for t, w in weights.items() if w.kind is Kind.LORA and "lora_mid.weight" not in w.tensors}
        parts = revive_peft(module, plain)
        for target, weight in weights.items():
            if target not in plain:
                parts[target] = revive_lycoris(find_layer(module, target), target, weight, shape_of(module, target))
    return {target: parts[target] for target in weights}
