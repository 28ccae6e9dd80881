"""Which layer a file means: LoRAs name layers by ComfyUI's paths or diffusers', with dots or underscores, after many a prefix.

ComfyUI's own table of names comes in as `aliases`; what it lacks is added here: the prefixes of every file format on every
architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import nn

from ..config.checks import SliderError, need
from ..layers.layer import Aliases, Target, find_layer, layers
from .algorithm import Layer, LayerWeight
from .algorithms.lora_dora import DoraWeight
from .formats.registry import ALL

DOTTED = [prefix for form in ALL for prefix in form.dotted]
UNDERSCORED = [prefix for form in ALL for prefix in form.underscored]
SHOWN = 3


def _spellings(alias: str) -> list[str]:
    """An alias without its prefix, as it stands and as diffusers spells it today: attention processors are modules no more."""
    bare = alias
    for prefix in sorted((*DOTTED, *UNDERSCORED), key=len, reverse=True):
        if prefix and alias.startswith(prefix):
            bare = alias.removeprefix(prefix)
            break
    today = bare.replace(".processor.", ".")
    if today.endswith(".to_out"):
        return [bare, today, f"{today}.0"]
    return [bare, today]


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


def with_ratio(weights: Mapping[Target, LayerWeight], module: nn.Module) -> dict[Target, LayerWeight]:
    """The weights with what PEFT's and LyCORIS' DoRA files need of the base weights: the model must be loaded as it is used."""
    ready = dict(weights)
    for target, weight in weights.items():
        if isinstance(weight, DoraWeight):
            ready[target] = weight.with_ratio(find_layer(module, target), target.rows)
    return ready


def _fitted(weight: LayerWeight, target: Target, layer: Layer, source: str) -> LayerWeight:
    """The change with its tensors in the shapes that the layer asks for. SliderError that names a tensor that has another."""
    whole = tuple(layer.weight.shape)
    rows = target.rows
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


def placed(
    weights: Mapping[Target, LayerWeight], module: nn.Module, aliases: Aliases | None = None, source: str = "The slider"
) -> dict[Target, LayerWeight]:
    """The weights of a file by the paths of `module`, checked against its shapes: all of them or SliderError."""
    paths = set(layers(module))
    foreign = {target.path for target in weights} - paths
    names = layer_names(module, aliases) if foreign else {}
    missing = [target.path for target in weights if target.path in foreign - names.keys()]
    first = ", ".join(missing[:SHOWN])
    message = f"{source} needs {len(missing)} of its {len(weights)} layers that this model lacks ({first})"
    need(not missing, f"{message}: it is for another model.", "lora.other_model")
    placed: dict[Target, LayerWeight] = {}
    for target, weight in weights.items():
        place = names[target.path] if target.path in foreign else target
        need(place not in placed, f'{source} has two entries for the layer "{place}"; the file is damaged.', "lora.layer_twice")
        layer = find_layer(module, place)
        weight = _fitted(weight, place, layer, source)
        if isinstance(weight, DoraWeight):  # its dora_scale depends on the layer: the model must be loaded as it will be used
            weight = weight.with_scale(layer, place.rows)
        placed[place] = weight
    return placed
