"""A slider merged into the weights of a MODEL or a CONTROL_NET, by ComfyUI's own patches: full speed, as any LoRA loader does it.

ComfyUI's LoRA loaders patch no ControlNet, but its patcher does: the same patches are put there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import comfy.lora
import comfy.sd
import torch

from ..config.checks import SliderError
from ..lora.combine import by_layer
from ..lora.formats.native import CONTROL_PREFIX, to_native
from ..lora.slider_file import Slider
from .assumptions import Feature, need_feature
from .autograd_through import without_memory
from .control_hints import network
from .layer_names import on_control, on_model


def stock_lora(model: Any, state: Mapping[str, torch.Tensor], strength: float) -> Any:
    """A MODEL with the tensors of a LoRA file on it, as Load LoRA puts them there."""
    need_feature(Feature.MERGING)
    return without_memory(comfy.sd.load_lora_for_models(model, None, dict(state), strength, 0)[0])


def control_patches(paths: Iterable[str], state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """ComfyUI's patches of a ControlNet's layers, by the names of its weights."""
    return comfy.lora.load_lora(state, {f"{CONTROL_PREFIX}{path}": f"{path}.weight" for path in paths})


def merged_into_model(model: Any, slider: Slider, strength: float) -> Any:
    """A clone of a MODEL that is patched with the slider at `strength` (a LoRA weight)."""
    return stock_lora(model, to_native(on_model(slider, model).weights), strength)


def merged_into_control(control_net: Any, slider: Slider, strength: float) -> Any:
    """A copy of a CONTROL_NET that is patched with the slider at `strength` (a LoRA weight). At 0 the CONTROL_NET itself."""
    weights = on_control(slider, network(control_net)).weights
    if strength == 0:
        return control_net
    paths = list(by_layer(weights))
    copy = control_net.copy()
    patcher = control_net.control_model_wrapped.clone()
    patched = set(patcher.add_patches(control_patches(paths, to_native(weights, CONTROL_PREFIX)), strength))
    for path in paths:
        if f"{path}.weight" not in patched:
            message = f'ComfyUI takes no change of the ControlNet\'s layer "{path}": train the slider without it (exclude).'
            raise SliderError(message, "controlnet.layer")
    copy.control_model_wrapped = patcher
    return copy
