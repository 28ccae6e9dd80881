"""Tensors of any LoRA file, by key -> changes of layers, by target. Nothing in a file is taken on trust."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch

from ..config.checks import SliderError, need
from ..config.lora import FileFormat
from ..layers.layer import Target
from .algorithm import LayerWeight
from .catalog import for_tensors
from .file_format import State
from .formats.native import Place
from .formats.peft import MOST_ALPHA
from .formats.registry import FORMATS, key_endings

MOST_NUMBERS = 2**30  # of a layer that a file may claim to change
KEY_ENDINGS = key_endings()
TEXT_ENCODER = re.compile(r"^(?:lora_te\d*_|text_encoders?(?:_\d)?\.|te\d?\.|lycoris_text_encoder|conditioner\.)")
NO_SIGN = {
    "oft_blocks": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "oft_diag": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "on_input": "(IA)3 has no place in ComfyUI's loaders",
    "w_norm": "it changes norm layers, which sliders leave alone",
    "set_weight": "it replaces weights, and a replacement has no strength",
    "reshape_weight": "it changes the shape of the model's layers",
    "bm.weight": "a GLoRA with a core tensor is read by LyCORIS alone",
}


def from_state(
    state: Mapping[str, torch.Tensor], source: str, place: Place = Place.DIFFUSION_MODEL, form: FileFormat | None = None
) -> tuple[dict[Target, LayerWeight], list[str]]:
    """(changes by target, with the file's own tensors; layers of text encoders that are left out). `form`: what the header says.

    A layer that has no native name keeps the file's own name as its path, until `keys.placed` meets the model. SliderError
    that names the key when something is no change of a layer, or has no meaning with a sign.
    """
    layers: dict[str, State] = {}
    text: set[str] = set()
    for key, tensor in state.items():
        layer, name = _split(key, source)
        if TEXT_ENCODER.match(key):
            text.add(layer)
            continue
        tensors = layers.setdefault(layer, {})
        need(name not in tensors, f'{source}: "{layer}" has {name} twice; the file is damaged.', "lora.twice")
        tensors[name] = tensor
    need(bool(layers), f"{source}: no layer of a diffusion model in it; a LoRA file is needed.", "lora.no_layer")
    weights = {}
    for layer, tensors in layers.items():
        weight = _layer_weight(tensors, f"{source}: {layer}")
        if form is not None:
            weight = FORMATS[form].understood(weight)
        weights[Target(layer.removeprefix(place.prefix))] = weight
    return weights, sorted(text)


def _split(key: str, source: str) -> tuple[str, str]:
    """(layer, our name of the tensor) of a key."""
    for ending, reason in NO_SIGN.items():
        need(not key.endswith(ending), f"{source}: {key} cannot be part of a slider: {reason}.", "lora.no_sign")
    for ending, name in KEY_ENDINGS.items():
        if key.endswith(ending):
            return key.removesuffix(ending), name
    raise SliderError(f'{source}: key "{key}" not understood; a LoRA file is needed.', "lora.key")


def _layer_weight(tensors: State, where: str) -> LayerWeight:
    """One layer out of a file. SliderError when its tensors make no change of a weight of a size that exists."""
    kind = for_tensors(set(tensors))
    if kind is None:
        message = f"{where} holds {', '.join(tensors)}, which change no weight; the file is damaged or no LoRA."
        raise SliderError(message, "lora.tensors")
    alpha = _alpha(tensors.pop("alpha", None), where)
    name = kind.kind.value
    lacking = kind.lacking(set(tensors))
    need(not lacking, f"{where} lacks {', '.join(lacking)}; the file is damaged or not a LoRA.", "lora.lacks")
    unknown = ", ".join(kind.unknown(tensors)).replace("dora_scale", "the dora_scale of a DoRA")
    message = f"{where} holds {unknown} beside a {name}, which has no meaning here; load it with ComfyUI's LoRA loader."
    need(not unknown, message, "lora.unknown")
    weight = kind(tensors, alpha)
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors.values())
    need(weight.multiplies(), f"{where} holds {shapes}, which make no {name}; the file is damaged.", "lora.factors")
    rows, numbers = weight.shape()
    message = f"{where} claims a weight of {rows} x {numbers} numbers, larger than any model's; the file is damaged."
    need(rows * numbers <= MOST_NUMBERS, message, "lora.size")
    return weight


def _alpha(tensor: torch.Tensor | None, where: str) -> float | None:
    if tensor is None:
        return None
    number = tensor.numel() == 1 and abs(float(tensor)) <= MOST_ALPHA
    need(number, f"{where} has an alpha that is no number up to {MOST_ALPHA:g}; the file is damaged.", "lora.alpha")
    return float(tensor)
