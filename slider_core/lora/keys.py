"""Which layer a file means: LoRAs name layers by ComfyUI's paths or diffusers', with dots or underscores, after many a prefix.

ComfyUI's own table of names comes in as `aliases` (comfy_files.py); what it lacks is added here: the raw names that PEFT saves,
and the prefixes of SimpleTuner, Concept Sliders and ai-toolkit on every architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import nn

from ..config.checks import SliderError
from ..layers.layer import Aliases, Target, find_layer, layers
from .algorithm import MAGNITUDE, RATIO, LayerWeight, norm_ratio, scale_tensors
from .check_shapes import fitted

DOTTED = (
    "",
    "diffusion_model.",
    "model.diffusion_model.",
    "transformer.",
    "unet.",
    "base_model.model.",
    "unet.base_model.model.",
    "transformer.base_model.model.",
)
UNDERSCORED = ("lora_unet_", "lycoris_", "lora_transformer_", "lora_prior_unet_")
SHOWN = 3


def _spellings(alias: str) -> list[str]:
    """An alias without its prefix, as it stands and as diffusers spells it today: attention processors are modules no more."""
    prefixes = (prefix for prefix in sorted((*DOTTED, *UNDERSCORED), key=len, reverse=True) if prefix)
    bare = alias.removeprefix(next((prefix for prefix in prefixes if alias.startswith(prefix)), ""))
    today = bare.replace(".processor.", ".")
    return [bare, today, *([f"{today}.0"] if today.endswith(".to_out") else [])]


def layer_names(module: nn.Module, aliases: Aliases | None = None) -> dict[str, Target]:
    """Every name by which a file may mean a layer of `module`. Its own paths come before others' names."""
    own = {path: Target(path) for path in layers(module)}
    bare = dict(own)
    for alias, target in (aliases or {}).items():
        for spelling in _spellings(alias):
            bare.setdefault(spelling, target)
    known = dict(aliases or {})
    for name, target in bare.items():
        for prefix in DOTTED:
            known.setdefault(prefix + name, target)
        for prefix in UNDERSCORED:
            known.setdefault(prefix + name.replace(".", "_"), target)
    return known | own


def with_scale(weight: LayerWeight, layer: nn.Module, rows: tuple[int, int] | None) -> LayerWeight:
    """A DoRA that PEFT or LyCORIS wrote with the dora_scale that ComfyUI's loader wants in the place of its magnitude.

    It depends on the layer's weight: the model must be loaded as it will be used.
    """
    tensors = dict(weight.tensors)
    if MAGNITUDE in tensors:
        tensors |= scale_tensors(tensors.pop(MAGNITUDE).float(), weight, layer, rows)
    return dataclasses.replace(weight, tensors=tensors)


def with_ratio(weights: Mapping[Target, LayerWeight], module: nn.Module) -> dict[Target, LayerWeight]:
    """The weights with what PEFT's and LyCORIS' DoRA files need of the base weights: the model must be loaded as it is used."""
    found = {}
    for target, weight in weights.items():
        scale = weight.tensors.get("dora_scale")
        if scale is not None and RATIO not in weight.tensors and scale.shape[0] == weight.shape()[0]:
            ratio = norm_ratio(weight, find_layer(module, target), target.rows).reshape(scale.shape)
            weight = dataclasses.replace(weight, tensors=weight.tensors | {RATIO: ratio})
        found[target] = weight
    return found


def placed(
    weights: Mapping[Target, LayerWeight], module: nn.Module, aliases: Aliases | None = None, source: str = "The slider"
) -> dict[Target, LayerWeight]:
    """The weights of a file by the paths of `module`, checked against its shapes: all of them or SliderError."""
    own = set(layers(module))
    foreign = [target for target in weights if target.path not in own]
    known = layer_names(module, aliases) if foreign else {}
    missing = [target.path for target in foreign if target.path not in known]
    if missing:
        raise SliderError(
            f"{source} needs {len(missing)} of its {len(weights)} layers that this model lacks "
            f"({', '.join(missing[:SHOWN])}{', ...' if len(missing) > SHOWN else ''}): it is for another model."
        )
    found: dict[Target, LayerWeight] = {}
    for target, weight in weights.items():
        place = target if target.path in own else known[target.path]
        if place in found:
            raise SliderError(f'{source} has two entries for the layer "{place}"; the file is damaged.')
        found[place] = fitted(weight, place, find_layer(module, place), source)
    return {target: with_scale(weight, find_layer(module, target), target.rows) for target, weight in found.items()}
