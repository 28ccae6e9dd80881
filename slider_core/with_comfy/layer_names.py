"""Where the layers of a slider lie in a MODEL or a ControlNet of ComfyUI: its table of the names that LoRA files use.

A DoRA and a GLoRA depend on the weights under them, and ComfyUI leaves the patches of whichever MODEL ran last in place: what
reads base weights does so after `load`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.model_management
import torch
from torch import nn

from ..config.checks import SliderError
from ..layers.layer import Target, is_layer, weight_shape
from ..lora.algorithm import LayerWeight
from ..lora.aliases import others_names
from ..lora.formats.native import PREFIX
from ..lora.keys import bare_name
from ..lora.slider_file import Slider

FOR_CONTROLNET = "This slider is for a ControlNet, not for the model: connect control_net to Slider LoRA Apply."


def layer_aliases(model: Any) -> dict[str, Target]:
    """ComfyUI's table of names that LoRA files use, for this MODEL: name -> layer, with the output slice of a fused one."""
    heights = {}
    for path, layer in model.model.diffusion_model.named_modules():
        if is_layer(layer) or isinstance(layer._parameters.get("weight"), torch.Tensor):
            heights[path] = weight_shape(layer)[0]
    ours = others_names(model.model.diffusion_model)
    aliases: dict[str, Target] = {}
    for name, entry in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        target = _target(entry)
        place = ours.get(bare_name(name))
        if place is not None and not place.swapped:  # ComfyUI's table takes q, k and v for thirds, which grouped ones are not
            target = place.target
        if target is None or target.path not in heights or name == f"{PREFIX}{target.path}":
            continue
        if target.rows is None or target.rows[1] <= heights[target.path]:
            aliases.setdefault(name, target)
    return aliases


def written_names(model: Any) -> dict[str, Target]:
    """The names by which a file may be written for this MODEL: ComfyUI's table, and what it lacks."""
    ours = others_names(model.model.diffusion_model)
    return {name: place.target for name, place in ours.items() if not place.swapped} | layer_aliases(model)


def named_layers(model: Any) -> dict[str, Target]:
    """All names by which a list of a user may mean layers of this MODEL: ComfyUI's table, and what it lacks."""
    ours = others_names(model.model.diffusion_model)
    return {name: place.target for name, place in ours.items()} | layer_aliases(model)


def _target(entry: Any) -> Target | None:
    """The layer of an entry of ComfyUI's table: a weight's name, or (name, (dimension, start, length)) for a slice of it. None
    for a slice of the inputs, or one that a function rearranges."""
    if isinstance(entry, str):
        return Target(_path(entry))
    key, part, *function = entry
    if function or part is None or part[0] != 0:
        return None
    return Target(_path(key), (part[1], part[1] + part[2]))


def _path(key: str) -> str:
    return key.removeprefix(PREFIX).removesuffix(".weight")


def load(model: Any) -> None:
    """Bring a MODEL to its device with its own patches, and no other's, in its weights."""
    comfy.model_management.load_models_gpu([model])


def needs_base(weights: Mapping[Target, LayerWeight]) -> bool:
    """Whether a slider's change depends on the weights under it."""
    return any(weight.needs_base for weight in weights.values())


def architecture(model: Any) -> str:
    """ComfyUI's class of a MODEL in supported_models: SD15, SDXL, Flux, ZImage, ..."""
    return type(model.model.model_config).__name__


def on_model(slider: Slider, model: Any) -> Slider:
    """The slider with its layers found in this MODEL. SliderError when it is for another one."""
    if slider.info.in_controlnet:
        raise SliderError(FOR_CONTROLNET, "slider.controlnet")
    if needs_base(slider.weights):
        load(model)
    return slider.on(model.model.diffusion_model, layer_aliases(model))


def on_control(slider: Slider, module: nn.Module) -> Slider:
    """The slider with its layers found in a ControlNet's network. SliderError when it is for another one, or for none."""
    if not slider.info.in_controlnet:
        message = "This slider is for the diffusion model, not for a ControlNet: take one that was trained in a ControlNet."
        raise SliderError(message, "slider.model")
    return slider.on(module)
