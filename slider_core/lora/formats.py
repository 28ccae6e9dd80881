"""How a slider's tensors are named in a file, and back: native (ComfyUI), kohya, diffusers, LyCORIS, PEFT.

    native     diffusion_model.<path>.lora_A.weight          every loader of ComfyUI, every architecture
    kohya      lora_unet_<path_with_underscores>.lora_down.weight
    lycoris    lycoris_<path_with_underscores>.lora_down.weight          LyCORIS' create_lycoris_from_weights
    diffusers  transformer.<diffusers path>.lora_A.weight    LoRA alone; fused layers come apart into their q, k and v
    peft       base_model.model.<path>.lora_A.weight         LoRA and DoRA, with adapter_config.json

A slice is written at the layer's full height, zeros outside its rows. The stock loader's change is strength * alpha / rank * B A,
which is ours, so a strength means the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import torch

from ..config.checks import SliderError
from ..config.lora import FileFormat
from ..layers.layer import Aliases, Target
from .algorithm import Kind, LayerWeight
from .algorithms.lora import DOWN, UP
from .algorithms.lora_dora import MAGNITUDE, DoraWeight
from .catalog import for_tensors, tensor_names
from .combine import by_layer

PREFIX = "diffusion_model."
CONTROL_PREFIX = "control_model."  # no stock loader takes them for the diffusion model's layers


class Place(str, Enum):
    """What a slider's layers are part of."""

    DIFFUSION_MODEL = "diffusion_model"
    CONTROLNET = "controlnet"

    @property
    def prefix(self) -> str:
        """What stands before a layer's path in a native file."""
        return CONTROL_PREFIX if self is Place.CONTROLNET else PREFIX


MOST_ALPHA = 1e6
MOST_NUMBERS = 2**30  # of a layer that a file may claim to change
# the two factors of a LoRA: down, up
LORA_NAMES = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora_A", ".lora_B"),
)
PLAIN = [f".{name}" for name in tensor_names() if name not in (DOWN, UP)]
MAGNITUDES = (".lora_magnitude_vector.weight", ".lora_magnitude_vector.default.weight", ".lora_magnitude_vector")
_SUFFIXES = {
    **{down: DOWN for down, _ in LORA_NAMES},
    **{up: UP for _, up in LORA_NAMES},
    **{suffix: suffix[1:] for suffix in PLAIN},
    **dict.fromkeys(MAGNITUDES, MAGNITUDE),
    ".alpha": "alpha",
}
_LONGEST_FIRST = sorted(_SUFFIXES, key=len, reverse=True)
_TEXT_ENCODER = re.compile(r"^(?:lora_te\d*_|text_encoders?(?:_\d)?\.|te\d?\.|lycoris_text_encoder|conditioner\.)")
NO_SIGN = {
    "oft_blocks": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "oft_diag": "OFT rotates weights, and a rotation by -1 is no rotation back",
    "on_input": "(IA)3 has no place in ComfyUI's loaders",
    "w_norm": "it changes norm layers, which sliders leave alone",
    "set_weight": "it replaces weights, and a replacement has no strength",
    "reshape_weight": "it changes the shape of the model's layers",
    "bm.weight": "a GLoRA with a core tensor is read by LyCORIS alone",
}


# --- reading


def _split(key: str) -> tuple[str, str] | None:
    """(layer, tensor's name at rest) of a key, or None."""
    for suffix in _LONGEST_FIRST:
        if key.endswith(suffix):
            return key[: -len(suffix)], _SUFFIXES[suffix]
    return None


def _layer(tensors: dict[str, torch.Tensor], where: str) -> LayerWeight:
    """One layer out of a file. SliderError when its tensors make no change of a weight of a size that exists."""
    kind = for_tensors(set(tensors))
    if kind is None:
        message = f"{where} holds {', '.join(tensors)}, which change no weight; the file is damaged or no LoRA."
        raise SliderError(message, "lora.tensors")
    alpha = tensors.pop("alpha", None)
    if alpha is not None and (alpha.numel() != 1 or not abs(float(alpha)) <= MOST_ALPHA):
        raise SliderError(f"{where} has an alpha that is no number up to {MOST_ALPHA:g}; the file is damaged.", "lora.alpha")
    name, lacking, unknown = kind.kind.value, kind.lacking(set(tensors)), kind.unknown(tensors)
    if lacking:
        raise SliderError(f"{where} lacks {lacking[0]}; the file is damaged or not a LoRA.", "lora.lacks")
    if unknown == ["dora_scale"]:
        message = f"{where} is a DoRA on a {name}, which has no meaning here; load it with ComfyUI's LoRA loader."
        raise SliderError(message, "lora.unknown")
    if unknown:
        message = f"{where} holds {unknown[0]} beside a {name}, which has no meaning here; load it with ComfyUI's loader."
        raise SliderError(message, "lora.unknown")
    weight = kind({name: t.float() for name, t in tensors.items()}, None if alpha is None else float(alpha))
    if not weight.multiplies():
        shapes = ", ".join(str(tuple(value.shape)) for value in tensors.values())
        raise SliderError(f"{where} holds {shapes}, which make no {name}; the file is damaged.", "lora.factors")
    rows, numbers = weight.shape()
    if rows * numbers > MOST_NUMBERS:
        message = f"{where} claims a weight of {rows} x {numbers} numbers, larger than any model's; the file is damaged."
        raise SliderError(message, "lora.size")
    return weight


def from_state(
    state: Mapping[str, torch.Tensor],
    source: str,
    place: Place = Place.DIFFUSION_MODEL,
    form: FileFormat | None = None,
) -> tuple[dict[Target, LayerWeight], list[str]]:
    """A file's tensors -> (weights by target, layers of text encoders that were left out). `form`: what its header says.

    A layer that has no native name keeps the file's own name as its path, until `names.placed` meets the model. SliderError
    that names the key when something is no change of a layer, or has no meaning with a sign.
    """
    groups: dict[str, dict[str, torch.Tensor]] = {}
    text: set[str] = set()
    for key, value in state.items():
        reason = next((why for word, why in NO_SIGN.items() if key.endswith(word)), None)
        if reason:
            raise SliderError(f"{source}: {key} cannot be part of a slider: {reason}.")
        split = _split(key)
        if split is None:
            raise SliderError(f'{source}: key "{key}" not understood; a LoRA file is needed.')
        if _TEXT_ENCODER.match(key):
            text.add(split[0])
        elif split[1] in groups.setdefault(split[0], {}):
            raise SliderError(f'{source}: "{split[0]}" has {split[1]} twice; the file is damaged.')
        else:
            groups[split[0]][split[1]] = value
    if not groups:
        raise SliderError(f"{source}: no layer of a diffusion model in it; a LoRA file is needed.")
    weights = {Target(stem.removeprefix(place.prefix)): _layer(group, f"{source}: {stem}") for stem, group in groups.items()}
    if form is FileFormat.LYCORIS:  # its dora_scale is the magnitude itself
        weights = {t: w.from_lycoris() if isinstance(w, DoraWeight) else w for t, w in weights.items()}
    return weights, sorted(text)


def cut(weights: Mapping[Target, LayerWeight], rows: Mapping[str, Sequence[tuple[int, int]]]) -> dict[Target, LayerWeight]:
    """Whole layers narrowed to the slices that a slider moves, by path. SliderError when one changes other rows too."""
    found: dict[Target, LayerWeight] = {}
    for target, weight in weights.items():
        slices = rows.get(target.path, ()) if target.rows is None else ()
        found |= {Target(target.path, part): weight.sliced(part, slices, target.path) for part in slices} or {target: weight}
    return found


# --- writing


def _plain(weight: LayerWeight, lora: tuple[str, str]) -> dict[str, torch.Tensor]:
    """Suffix -> tensor, the two factors of a LoRA by those names."""
    named = {} if weight.has_core else {DOWN: lora[0], UP: lora[1]}
    out = {named.get(name, f".{name}"): tensor for name, tensor in weight.file_tensors().items()}
    if weight.kind is not Kind.FULL:
        alpha = weight.alpha if weight.alpha is not None else float(weight.rank or 1)
        out[".alpha"] = torch.tensor(float(alpha))
    return out


def to_native(weights: Mapping[Target, LayerWeight], prefix: str = PREFIX) -> dict[str, torch.Tensor]:
    """ComfyUI's own keys -> tensors: what every loader of ComfyUI reads on every architecture. `prefix`: of the slider's Place."""
    state: dict[str, torch.Tensor] = {}
    for path, weight in by_layer(weights).items():
        state |= {f"{prefix}{path}{suffix}": t for suffix, t in _plain(weight.for_comfyui(), LORA_NAMES[0]).items()}
    return state


def to_kohya(weights: Mapping[Target, LayerWeight]) -> dict[str, torch.Tensor]:
    """`lora_unet_` keys, the path with underscores."""
    state: dict[str, torch.Tensor] = {}
    for path, weight in by_layer(weights).items():
        stem = f"lora_unet_{path.replace('.', '_')}"
        state |= {stem + suffix: t for suffix, t in _plain(weight.for_comfyui(), LORA_NAMES[1]).items()}
    return state


def to_lycoris(weights: Mapping[Target, LayerWeight]) -> dict[str, torch.Tensor]:
    """`lycoris_` keys, as LyCORIS' own wrapper writes and reads them. A LoKr that it could not size is a plain difference."""
    state: dict[str, torch.Tensor] = {}
    for path, weight in by_layer(weights).items():
        stem = f"lycoris_{path.replace('.', '_')}"
        state |= {stem + suffix: t for suffix, t in _plain(weight.for_lycoris(path), LORA_NAMES[1]).items()}
    return state


def _only_lora(weight: LayerWeight, path: str, reader: str) -> None:
    lora = weight.kind in (Kind.LORA, Kind.DORA)
    if not lora or weight.has_core:
        kind = "LoCon with a core tensor" if lora else weight.kind.value
        raise SliderError(f'{reader} reads LoRA only, and "{path}" is a {kind}: choose native, kohya or lycoris.')


def _diffusers_names(aliases: Aliases) -> dict[str, list[tuple[str, tuple[int, int] | None]]]:
    """Module path -> the diffusers names of it and of its slices, with the prefix that both diffusers and ComfyUI read."""
    found: dict[str, list[tuple[str, tuple[int, int] | None]]] = {}
    for name, target in aliases.items():
        if name.startswith(("transformer.", "unet.")):
            found.setdefault(target.path, []).append((name, target.rows))
    return found


def _covering(
    names: Sequence[tuple[str, tuple[int, int] | None]], shifted: torch.Tensor
) -> list[tuple[str, tuple[int, int] | None]]:
    """Names that together mean every moved row once: those of slices where these are enough, else one of the whole layer."""
    slices = sorted(((name, rows) for name, rows in names if rows), key=lambda entry: entry[1])
    chosen, reached, still = [], torch.zeros_like(shifted), not bool(shifted.any())
    for name, rows in slices:
        if not bool(reached[rows[0] : rows[1]].any()):
            reached[rows[0] : rows[1]] = True
            chosen += [(name, rows)] if still or bool(shifted[rows[0] : rows[1]].any()) else []
    if chosen and not bool(shifted[~reached].any()):
        return chosen
    return [(name, rows) for name, rows in names if rows is None][:1]


def to_diffusers(weights: Mapping[Target, LayerWeight], aliases: Aliases | None) -> dict[str, torch.Tensor]:
    """diffusers' names, where ComfyUI has the map (`aliases`). No alpha: diffusers takes it from elsewhere, so B carries it."""
    if aliases is None:
        raise SliderError("diffusers' names come from ComfyUI's table for a model: save in a graph, with the model connected.")
    names, state = _diffusers_names(aliases), {}
    if not names:
        raise SliderError("ComfyUI knows no diffusers names for this architecture: choose native or kohya.")
    for path, weight in by_layer(weights).items():
        _only_lora(weight, path, "diffusers")
        if weight.is_dora:
            raise SliderError("ComfyUI cannot read a DoRA by its diffusers names: choose native, kohya or peft.")
        down, up = weight.tensors["lora_down.weight"], weight.tensors["lora_up.weight"] * weight.scale
        chosen = _covering(names.get(path, []), up.flatten(1).any(dim=1))
        if not chosen:
            raise SliderError(f'"{path}" has no diffusers name that ComfyUI knows: choose native or kohya.')
        for name, rows in chosen:
            suffixes = LORA_NAMES[3] if ".processor." in name else LORA_NAMES[0]
            part = up[rows[0] : rows[1]] if rows else up
            state |= {name + suffixes[0]: down.clone(), name + suffixes[1]: part.clone()}
    return state


def to_peft(weights: Mapping[Target, LayerWeight]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(adapter_config.json, tensors) that peft.PeftModel.from_pretrained reads on the same diffusion model."""
    tall = by_layer(weights)
    state: dict[str, torch.Tensor] = {}
    for path, weight in tall.items():
        _only_lora(weight, path, "A PEFT folder")
        stem = f"base_model.model.{path}"
        state[f"{stem}.lora_A.weight"] = weight.tensors["lora_down.weight"]
        state[f"{stem}.lora_B.weight"] = weight.tensors["lora_up.weight"]
        if isinstance(weight, DoraWeight):
            magnitude = weight.magnitude(path)
            state[f"{stem}.lora_magnitude_vector"] = magnitude.transpose(0, 1) if magnitude.ndim > 2 else magnitude.flatten()
    if len({w.is_dora for w in tall.values()}) > 1:
        raise SliderError("A PEFT folder is DoRA on all its layers or on none, and this slider is mixed: choose native or kohya.")
    ranks = {path: weight.rank for path, weight in tall.items()}
    alphas = {path: weight.scale * weight.rank for path, weight in tall.items() if weight.rank}
    rank, alpha = (max(set(v.values()), key=list(v.values()).count) for v in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{re.escape(p)}$": r for p, r in ranks.items() if r != rank},
        "alpha_pattern": {f"^{re.escape(p)}$": a for p, a in alphas.items() if a != alpha},
        "target_modules": f"^(?:{'|'.join(re.escape(path) for path in sorted(tall))})$",  # a list would match ends of paths
        "use_dora": any(w.is_dora for w in tall.values()),
        "inference_mode": True,
        "lora_dropout": 0.0,
        "bias": "none",
    }, state


def loader_notes(weights: Mapping[Target, LayerWeight], form: FileFormat, aliases: Aliases | None = None) -> list[str]:
    """Where ComfyUI's loaders cannot be right about this file, in words. `aliases` as for `to_diffusers`."""
    tall = by_layer(weights)
    fused = {target.path for target in (aliases or {}).values() if target.rows}
    found = {
        "leaves a DoRA's scale out": any(w.is_dora for w in tall.values()),
        "cannot run a GLoRA": any(w.kind is Kind.GLORA for w in tall.values()),
        "skips slices of fused layers": form is FileFormat.DIFFUSERS and bool(fused & tall.keys()),
        "cannot run a LoKr on 1-D and 3-D convolutions": any(
            "lokr_w2" in w.tensors and w.tensors["lokr_w2"].ndim in (3, 5) for w in tall.values()
        ),
    }
    notes = [f"ComfyUI's bypass loader {what}: use Load LoRA." for what, true in found.items() if true]
    if form in (FileFormat.LYCORIS, FileFormat.PEFT):
        notes = [f"This file is for {form.value}: Load LoRA leaves out what it cannot read. Save as native for ComfyUI."]
    return notes
