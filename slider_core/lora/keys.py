"""Which layer a file means: LoRAs name layers by ComfyUI's paths or diffusers', with dots or underscores, after many a prefix.

ComfyUI's own table of names comes in as `aliases`; what it lacks stands in aliases.py. A layer that the model lacks is
left out and named, as is a bias that it lacks. A layer of another shape is another model's, and so is a file that fits nowhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from torch import nn

from ..config.checks import SliderError, need
from ..layers.layer import Aliases, Target, find_layer, layers, norms, weight_shape
from .algorithm import BIAS, Layer, LayerWeight
from .algorithms.dora import ScaledRows
from .algorithms.vector import changes_norm
from .aliases import Named, others_names
from .combine import norm
from .file_left_out import LeftOut, Reason
from .formats.registry import ALL

# what stands before a layer's name: in the formats that we write; Cosmos' and Anima's checkpoints; DiffSynth; Wan Fun; models
# that were compiled or trained in parallel
_DOTTED = [prefix for form in ALL for prefix in form.dotted]
_UNDERSCORED = [prefix for form in ALL for prefix in form.underscored]
_OTHERS = ("model.", "net.", "pipe.dit.", "dit.", "lora_unet__", "lora_unet.", "module.", "_orig_mod.", "_fsdp_wrapped_module.")
PREFIXES = tuple(sorted({*_DOTTED, *_UNDERSCORED, *_OTHERS} - {""}, key=len, reverse=True))
SHOWN = 3
Placed = dict[Target, LayerWeight]


def _spellings(name: str) -> list[str]:
    """A name with every prefix that it may have lost, the shortest last."""
    spellings = [name]
    for spelling in spellings:  # which grows
        for prefix in PREFIXES:
            if spelling.startswith(prefix) and len(spelling) > len(prefix):
                spellings.append(spelling.removeprefix(prefix))
                break
    return spellings


def _letters(name: str) -> str:
    """A name in which dots and underscores are alike, and diffusers' old attention processors are no modules."""
    bare = name.replace(".processor.", ".").replace("_processor_", "_").replace(".", "_")
    return f"{bare}_0" if bare.endswith("_to_out") else bare


def bare_name(name: str) -> str:
    """A name without the prefixes of file formats."""
    return _spellings(name)[-1]


class LayerNames:
    """Every name by which a file may mean a layer of a model. Its own paths come before others' names."""

    def __init__(self, module: nn.Module, aliases: Aliases | None = None) -> None:
        self._own = {path: Named(Target(path)) for path in (*layers(module), *norms(module))}
        self._names: dict[str, Named] = {}
        for name, place in (*self._own.items(), *others_names(module).items()):
            self._names.setdefault(_letters(name), place)
        for alias, target in (aliases or {}).items():
            self._names.setdefault(_letters(alias), Named(target))
            self._names.setdefault(_letters(bare_name(alias)), Named(target))

    def find(self, name: str) -> Named | None:
        """The layer of that name in a file; None where the model has none."""
        for spelling in _spellings(name):
            place = self._own.get(spelling) or self._names.get(_letters(spelling))
            if place is not None:
                return place
        return None


def with_ratio(weights: Mapping[Target, LayerWeight], module: nn.Module) -> Placed:
    """The weights with what PEFT's and LyCORIS' DoRA files need of the base weights: the model must be loaded as it is used."""
    ready = dict(weights)
    for target, weight in weights.items():
        if isinstance(weight, ScaledRows):
            ready[target] = weight.with_ratio(find_layer(module, target), target.rows)
    return ready


def _fitted(weight: LayerWeight, target: Target, layer: Layer, source: str) -> LayerWeight:
    """The change with its tensors in the shapes that the layer asks for. SliderError that names a tensor that has another."""
    whole = weight_shape(layer)
    rows = target.rows
    where = f'{source} was trained on another model, or is damaged: layer "{target}"'
    if rows and (not 0 <= rows[0] < rows[1] <= whole[0] or len(whole) != 2):
        raise SliderError(f"{where} has no such rows here.", "lora.rows")
    message = f"{where} is a norm here or a layer, and the file takes it for the other."
    need(changes_norm(weight) == (len(whole) == 1) or not weight.changes_weight, message, "lora.shape")
    if len(whole) == 2 and weight.has_core:
        weight = weight.flat()
    shape = (rows[1] - rows[0], *whole[1:]) if rows else whole
    tensors = weight.fitted(shape, where)
    return dataclasses.replace(weight, tensors=tensors, base=whole)


def found(
    weights: Mapping[Target, LayerWeight],
    module: nn.Module,
    aliases: Aliases | None = None,
    source: str = "The slider",
    reshaped: Collection[str] = (),
) -> tuple[Placed, list[LeftOut]]:
    """(the weights of a file by the paths of `module`, checked against its shapes; what `module` has no place for).

    `reshaped`: layers of the file that it makes larger, which have a place where the model's are. SliderError when nothing fits,
    any other layer has another shape, or the file changes one twice.
    """
    paths = {*layers(module), *norms(module)}
    names = LayerNames(module, aliases) if any(target.path not in paths for target in weights) else None
    placed: Placed = {}
    left_out: list[LeftOut] = []
    for target, weight in weights.items():
        place = Named(target) if names is None or target.path in paths else names.find(target.path)
        if place is None:
            left_out.append(LeftOut(target.path, Reason.NO_PLACE, norm(weight)))
            continue
        layer = find_layer(module, place.target)
        if BIAS in weight.tensors and getattr(layer, "bias", None) is None:
            left_out.append(LeftOut(f"{target.path}.{BIAS}", Reason.NO_PLACE, float(weight.tensors[BIAS].float().norm())))
            weight = weight.without_bias()
            if not weight.changes_weight:
                continue
        twice = f'{source} has two entries for the layer "{place.target}"; the file is damaged.'
        need(place.target not in placed, twice, "lora.layer_twice")
        try:
            if place.swapped:
                weight = weight.swapped()
            weight = _fitted(weight, place.target, layer, source)
        except SliderError:
            if target.path not in reshaped:
                raise
            left_out.append(LeftOut(target.path, Reason.NO_PLACE, norm(weight)))
            continue
        if isinstance(weight, ScaledRows):  # it depends on the layer: the model must be loaded as it will be used
            weight = weight.with_scale(layer, place.target.rows)
        placed[place.target] = weight
    first = ", ".join(part.name for part in left_out[:SHOWN])
    message = f"{source} is for another model: it needs {len(left_out)} layers, none of which this model has ({first})."
    need(bool(placed) or not weights, message, "lora.other_model")
    return placed, left_out


def placed(
    weights: Mapping[Target, LayerWeight], module: nn.Module, aliases: Aliases | None = None, source: str = "The slider"
) -> Placed:
    """`found` without what is left out."""
    return found(weights, module, aliases, source)[0]
