"""Which layer a file means: LoRAs name layers by ComfyUI's paths or diffusers', with dots or underscores, after many a prefix.

ComfyUI's own table of names comes in as `aliases`; what it lacks is added here: the prefixes of every file format on every
architecture.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..config.checks import SliderError
from ..layers.layer import Aliases, Target, find_layer, layers
from .algorithm import LayerWeight
from .algorithms.lora_dora import DoraWeight
from .check_shapes import fitted
from .formats.registry import ALL

DOTTED = [prefix for form in ALL for prefix in form.dotted]
UNDERSCORED = [prefix for form in ALL for prefix in form.underscored]
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


def with_ratio(weights: Mapping[Target, LayerWeight], module: nn.Module) -> dict[Target, LayerWeight]:
    """The weights with what PEFT's and LyCORIS' DoRA files need of the base weights: the model must be loaded as it is used."""
    ready = dict(weights)
    for target, weight in weights.items():
        if isinstance(weight, DoraWeight):
            ready[target] = weight.with_ratio(find_layer(module, target), target.rows)
    return ready


def placed(
    weights: Mapping[Target, LayerWeight], module: nn.Module, aliases: Aliases | None = None, source: str = "The slider"
) -> dict[Target, LayerWeight]:
    """The weights of a file by the paths of `module`, checked against its shapes: all of them or SliderError."""
    paths = set(layers(module))
    names = {} if all(target.path in paths for target in weights) else layer_names(module, aliases)
    missing = [target.path for target in weights if target.path not in paths and target.path not in names]
    if missing:
        raise SliderError(
            f"{source} needs {len(missing)} of its {len(weights)} layers that this model lacks "
            f"({', '.join(missing[:SHOWN])}{', ...' if len(missing) > SHOWN else ''}): it is for another model.",
            "lora.other_model",
        )
    placed: dict[Target, LayerWeight] = {}
    for target, weight in weights.items():
        place = target if target.path in paths else names[target.path]
        if place in placed:
            message = f'{source} has two entries for the layer "{place}"; the file is damaged.'
            raise SliderError(message, "lora.layer_twice")
        layer = find_layer(module, place)
        weight = fitted(weight, place, layer, source)
        if isinstance(weight, DoraWeight):  # its dora_scale depends on the layer: the model must be loaded as it will be used
            weight = weight.with_scale(layer, place.rows)
        placed[place] = weight
    return placed
