"""Whether a change fits a layer: each of its tensors against the layer's shape, before anything is laid on a model.

ComfyUI's loader only logs what does not fit and goes on without it; here it is an error, and nothing is applied.
"""

from __future__ import annotations

import dataclasses

from torch import nn

from ..config.checks import SliderError, need
from ..layers.layer import Target
from .algorithm import LayerWeight


def fitted(weight: LayerWeight, target: Target, layer: nn.Module, source: str = "The slider") -> LayerWeight:
    """The change with its tensors in the shapes that the layer asks for. SliderError that names a tensor that has another."""
    whole, rows = tuple(layer.weight.shape), target.rows
    where = f'{source}: layer "{target}"'
    if rows and (not 0 <= rows[0] < rows[1] <= whole[0] or len(whole) != 2):
        raise SliderError(f"{where} has no such rows here: it was trained on another model.", "lora.rows")
    tensors = weight.fitted((rows[1] - rows[0], *whole[1:]) if rows else whole, where)
    bias = "diff_b" not in tensors or layer.bias is not None
    need(bias, f"{where} has no bias here, but the file changes one: it was trained on another model.", "lora.bias")
    kernel = len(whole) > 2 or not weight.has_core
    message = f"{where} is no convolution here, but the file has a kernel for it: it was trained on another model."
    need(kernel, message, "lora.kernel")
    return dataclasses.replace(weight, tensors=tensors, base=whole)
