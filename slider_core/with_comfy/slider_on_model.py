"""A slider on a MODEL: ComfyUI's names for layers, and its stock loading path.

A DoRA and a GLoRA depend on the weights under them, and ComfyUI leaves the patches of whichever MODEL ran last in place: what
reads base weights does so after `load`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import comfy.lora
import comfy.model_management
import comfy.sd
import torch

from ..config.checks import SliderError
from ..layers.layer import Target
from ..lora.algorithm import Kind, LayerWeight
from ..lora.formats import PREFIX, to_native
from ..lora.keys import placed
from ..lora.slider_adapter import Adapter
from ..lora.slider_file import Slider
from .autograd_through import without_memory


def layer_aliases(model: Any) -> dict[str, Target]:
    """ComfyUI's table of names that LoRA files use, for this MODEL: name -> layer, with the rows of a fused one."""
    module = model.model.diffusion_model
    heights = {name: part.weight.shape[0] for name, part in module.named_modules() if isinstance(_weight(part), torch.Tensor)}
    found: dict[str, Target] = {}
    for name, entry in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        key, part = (entry, None) if isinstance(entry, str) else (entry[0], entry[1])
        path = key.removeprefix(PREFIX).removesuffix(".weight")
        if isinstance(entry, tuple) and (len(entry) > 2 or part is None or part[0] != 0):
            continue  # rearranged by a function: no slice
        rows = None if part is None else (part[1], part[1] + part[2])
        # the table takes q, k and v for equal thirds, which grouped queries are not
        if path in heights and (rows is None or rows[1] <= heights[path]) and name != f"{PREFIX}{path}":
            found[name] = Target(path, rows)
    return found


def _weight(module: torch.nn.Module) -> Any:
    return module._parameters.get("weight")


def load(model: Any) -> None:
    """Bring a MODEL to its device with its own patches, and no other's, in its weights."""
    comfy.model_management.load_models_gpu([model])


def needs_base(weights: Mapping[Target, LayerWeight]) -> bool:
    """Whether a slider's change depends on the weights under it."""
    return any(w.is_dora or w.kind is Kind.GLORA for w in weights.values())


def architecture(model: Any) -> str:
    """ComfyUI's class of a MODEL in supported_models: SD15, SDXL, Flux, ZImage, ..."""
    return type(model.model.model_config).__name__


def on_model(slider: Slider, model: Any) -> Slider:
    """The slider with its layers found in this MODEL. SliderError when it is for another one."""
    if slider.info.in_controlnet:
        raise SliderError("This slider is for a ControlNet, not for the model: connect control_net to Slider LoRA Apply.")
    if needs_base(slider.weights):
        load(model)
    weights = placed(slider.weights, model.model.diffusion_model, layer_aliases(model))
    return replace(slider, weights=weights, placed=True)


def adapter_on(model: Any, slider: Slider, dropout: float = 0.0) -> Adapter:
    """The slider as an adapter for this MODEL, on its device."""
    found = on_model(slider, model)
    return Adapter.from_weights(model.model.diffusion_model, found.weights, model.load_device, dropout=dropout)


def with_slider(model: Any, slider: Slider, strength: float) -> Any:
    """A MODEL with the slider at `strength`, by the same path as the stock LoRA loader. At 0 the model itself."""
    if strength == 0:
        return model
    return _stock(model, to_native(on_model(slider, model).weights), strength)


# --- the proof


def _stock(model: Any, state: Mapping[str, torch.Tensor], strength: float) -> Any:
    return without_memory(comfy.sd.load_lora_for_models(model, None, dict(state), strength, 0)[0])
