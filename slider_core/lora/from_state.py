"""Tensors of any LoRA file, by key -> changes of layers, by target. Nothing in a file is taken on trust.

One rule: what is a change of a layer is read, what has no meaning here is left out and named. A file is damaged where its tensors
contradict each other, and refused where nothing is left.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from ..config.checks import SliderError, need
from ..config.lora import FileFormat
from ..layers.layer import Target
from .algorithm import BIAS, LayerWeight
from .catalog import for_tensors
from .combine import norm
from .file_format import State
from .file_left_out import LeftOut, Reason
from .formats.native import Place
from .formats.peft import MOST_ALPHA
from .formats.registry import FORMATS, key_endings
from .from_config import Alphas

MOST_NUMBERS = 2**30  # of a layer that a file may claim to change
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # an alpha may be one of these
READABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
SCALAR, UP_BIAS = "scalar", "lora_up.bias"  # LyCORIS' factor of the whole change; PEFT's bias behind the up matrix
KEY_ENDINGS = key_endings() | {
    **dict.fromkeys((".lora_B.bias", ".lora_B.default.bias", ".lora_up.bias"), UP_BIAS),
    ".down.weight": "lora_down.weight",  # XLabs' and USO's attention processors
    ".up.weight": "lora_up.weight",
    f".{SCALAR}": SCALAR,
    f".{BIAS}": BIAS,
    ".w_norm": "diff",  # LyCORIS' names of what ComfyUI calls diff and diff_b on a norm
    ".b_norm": BIAS,
}
# PEFT's own state names the adapter behind the tensor: default, default_0, slider
ADAPTER = re.compile(
    r"^(.*)(\.lora_(?:A|B|down|up|magnitude_vector)|\.(?:hada|lokr)_\w+)\.(?!weight$|bias$)[^.]+(\.weight|\.bias)?$"
)
TEXT_ENCODER = re.compile(
    r"^(?:lora_(?:prior_)?te\d*_|text_encoders?(?:_\d)?\.|te\d?\.|lycoris_(?:text_encoder|te\d*_)|conditioner\.|cond_stage_model\."
    r"|clip_[lgh]\.|(?:um)?t5(?:xxl)?\.|byt5\.|(?:gemma|llama|mistral|qwen)\w*\.|hydit_clip\.|bundle_emb\.|emb_params)"
)
NO_SIGN = {
    "oft_blocks": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "oft_diag": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "oft_R.weight": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "on_input": "(IA)3 has no place in ComfyUI's loaders",
    "set_weight": "it replaces weights, and a replacement has no strength",
    "reshape_weight": "it changes the shape of the model's layers",
    "bm.weight": "a GLoRA with a core tensor is read by LyCORIS alone",
}


FLUX_CONTROL = {"img_in.lora_A.weight", "single_blocks.0.norm.key_norm.scale"}  # BFL's control LoRAs, whose img_in is wider


@dataclass
class Sorted:
    """The keys of a file, by what they are. `layers`: tensors by our names; `text`: those of text encoders."""

    layers: dict[str, State] = field(default_factory=dict)
    text: dict[str, State] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)


def from_state(
    state: Mapping[str, torch.Tensor],
    source: str,
    place: Place = Place.DIFFUSION_MODEL,
    form: FileFormat | None = None,
    alphas: Alphas | None = None,
) -> tuple[dict[Target, LayerWeight], list[LeftOut]]:
    """(changes by target, with the file's own tensors; what is left out). `form`: what the header says; `alphas`: of layers that
    have none among the tensors.

    A layer that has no native name keeps the file's own name as its path, until `keys.found` meets the model. SliderError where
    tensors contradict each other, and where nothing is a change that has a meaning with a sign.
    """
    parts = _sorted(state, source)
    weights: dict[Target, LayerWeight] = {}
    for layer, tensors in parts.layers.items():
        kind, lacking = _kind(tensors)
        if kind is None:
            reason = Reason.INCOMPLETE if lacking else Reason.NO_CHANGE
            parts.left_out.append(LeftOut(layer, reason, detail=lacking))
            continue
        weight = _layer_weight(kind, tensors, layer, f"{source}: {layer}", alphas)
        if form is not None:
            weight = FORMATS[form].understood(weight)
        target = Target(layer.removeprefix(place.prefix))
        need(
            target not in weights, f'{source} has two entries for the layer "{target}"; the file is damaged.', "lora.layer_twice"
        )
        weights[target] = weight
    parts.left_out += [LeftOut(layer, Reason.TEXT_ENCODER, _size(tensors)) for layer, tensors in parts.text.items()]
    _need_any(weights, parts.left_out, source)
    return weights, parts.left_out


def _sorted(state: Mapping[str, torch.Tensor], source: str) -> Sorted:
    parts = Sorted()
    silent: dict[str, str] = {}  # layers that have no meaning with a sign, by reason
    if state.keys() >= FLUX_CONTROL:
        silent["img_in"] = NO_SIGN["reshape_weight"]
    for key, tensor in state.items():
        layer, name = _split(key)
        reason = next((reason for ending, reason in NO_SIGN.items() if key.endswith(f".{ending}")), None)
        if TEXT_ENCODER.match(key):
            parts.text.setdefault(layer, {})[name] = tensor
        elif reason is not None:
            silent[key.rpartition(".")[0].removesuffix(".oft_R").removesuffix(".bm")] = reason
        elif not name:
            parts.left_out.append(LeftOut(key, Reason.NO_CHANGE))
        else:
            _check(tensor, name, f"{source}: {key}")
            tensors = parts.layers.setdefault(layer, {})
            need(name not in tensors, f'{source}: "{layer}" has {name} twice; the file is damaged.', "lora.twice")
            tensors[name] = tensor
    for layer, reason in silent.items():
        if "lora_down.weight" not in parts.layers.get(layer, {}):  # beside a LoRA its shape decides
            parts.layers.pop(layer, None)
        parts.left_out.append(LeftOut(layer, Reason.NO_SIGN, detail=reason))
    return parts


def _split(key: str) -> tuple[str, str]:
    """(layer, our name of the tensor) of a key; (key, "") of one that is no tensor of a layer."""
    adapter = ADAPTER.match(key)
    if adapter:
        key = f"{adapter[1]}{adapter[2]}{adapter[3] or ''}"
    for ending, name in KEY_ENDINGS.items():
        if key.endswith(ending):
            return key.removesuffix(ending), name
    return key, ""


def layer_of(key: str) -> str:
    """The name of a layer in a key; the key itself where it is no tensor of a layer."""
    return _split(key)[0]


def _check(tensor: torch.Tensor, name: str, where: str) -> None:
    """SliderError unless it holds numbers, and finite ones. An alpha is looked at where it has an effect."""
    number = tensor.dtype in READABLE or (tensor.numel() == 1 and tensor.dtype in WHOLE)
    need(number, f"{where} is no weight ({tensor.dtype}); a LoRA file is needed.", "file.no_weight")
    message = f"{where} holds numbers that are not finite; the file is damaged. Nothing was applied."
    need(name == "alpha" or bool(tensor.float().isfinite().all()), message, "file.not_finite")


def _kind(tensors: State) -> tuple[type[LayerWeight] | None, str]:
    """The class of a layer's change; or None and what it lacks, nothing where there was never a change."""
    kind = for_tensors(tensors)
    if kind is None:
        beside = set(tensors) - {"alpha", SCALAR, UP_BIAS, "dora_scale"}
        return None, f"{', '.join(sorted(beside))} alone" if beside else ""
    lacking = kind.lacking(set(tensors))
    if lacking:
        return None, f"no {', '.join(lacking)}"
    return kind, ""


def _layer_weight(kind: type[LayerWeight], tensors: State, layer: str, where: str, alphas: Alphas | None) -> LayerWeight:
    """One layer out of a file. SliderError when its tensors make no change of a weight of a size that exists."""
    tensors = dict(tensors)
    alpha = tensors.pop("alpha", None)
    scalar = tensors.pop(SCALAR, None)
    up_bias = tensors.pop(UP_BIAS, None)
    name = kind.kind.value
    unknown = ", ".join(kind.unknown(tensors)).replace("dora_scale", "the dora_scale of a DoRA")
    message = f"{where} holds {unknown} beside a {name}, which has no meaning here; load it with ComfyUI's LoRA loader."
    need(not unknown, message, "lora.unknown")
    weight = kind(dict(kind.of_file(tensors)))
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors.values())
    need(weight.multiplies(), f"{where} holds {shapes}, which make no {name}; the file is damaged.", "lora.factors")
    rows, numbers = weight.shape()
    message = f"{where} claims a weight of {rows} x {numbers} numbers, larger than any model's; the file is damaged."
    need(rows * numbers <= MOST_NUMBERS, message, "lora.size")
    if alpha is not None and (weight.rank is not None or _is_number(alpha)):  # where nothing has a rank it has no effect
        weight = replace(weight, alpha=_number(alpha, f"{where} has an alpha"))
    elif weight.rank is not None and alphas is not None:
        weight = replace(weight, alpha=alphas.alpha(layer, weight.rank))
    if scalar is not None:
        weight = weight.scaled_update(_number(scalar, f"{where} has a scalar"))
    if up_bias is not None:
        message = f"{where} has two biases; the file is damaged."
        need(BIAS not in tensors, message, "lora.twice")
        weight = weight.with_bias(up_bias.float() * weight.scale, where)
    return weight


def _is_number(tensor: torch.Tensor) -> bool:
    return tensor.numel() == 1 and abs(float(tensor)) <= MOST_ALPHA


def _number(tensor: torch.Tensor, what: str) -> float:
    need(_is_number(tensor), f"{what} that is no number up to {MOST_ALPHA:g}; the file is damaged.", "lora.alpha")
    return float(tensor)


def _size(tensors: State) -> float:
    """The norm of a text encoder's change; 0 where it is not understood, for it is left out either way."""
    kind, _ = _kind(tensors)
    if kind is None or not all(tensor.is_floating_point() or tensor.numel() == 1 for tensor in tensors.values()):
        return 0.0
    try:
        size = norm(_layer_weight(kind, tensors, "", "", None))
    except SliderError:
        return 0.0
    return size if math.isfinite(size) else 0.0


def _need_any(weights: Mapping[Target, LayerWeight], left_out: list[LeftOut], source: str) -> None:
    """SliderError, by the reason of what is left out, when nothing else is in a file."""
    if weights:
        return
    silent = [part for part in left_out if part.reason is Reason.NO_SIGN]
    if silent:
        message = f"{source}: {silent[0].name} cannot be part of a slider: {silent[0].detail}."
        raise SliderError(message, "lora.no_sign")
    incomplete = [part for part in left_out if part.reason is Reason.INCOMPLETE]
    if incomplete:
        lacking = incomplete[0].detail or "no factors"
        message = f"{source}: {incomplete[0].name} lacks a part of its tensors ({lacking}): download the file again."
        raise SliderError(message, "lora.lacks")
    first = f' ("{left_out[0].name}")' if left_out else ""
    raise SliderError(f"{source}: no layer of a diffusion model in it{first}; a LoRA file is needed.", "lora.no_layer")
