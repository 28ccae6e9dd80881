"""Sliders as files: safetensors with ComfyUI's native keys, which any LoRA loader of ComfyUI reads.

    diffusion_model.<path>.lora_A.weight   (rank, in, ...)
    diffusion_model.<path>.lora_B.weight   (out, rank, ...)   a fused slice is written full height, zeros outside its rows
    diffusion_model.<path>.alpha           ()

The stock loader's update is strength * alpha / rank * B A, which is ours, so a strength means the same everywhere.
A file is written beside its place and renamed, so a reader sees the old one or the new one and never half of one.
"""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from .adapter import LoraWeight
from .config import FileDtype, SliderError

PREFIX = "diffusion_model."
DTYPES = {FileDtype.FP32: torch.float32, FileDtype.BF16: torch.bfloat16, FileDtype.FP16: torch.float16}
FORMAT = "slider_lora.v1"


@dataclass(frozen=True)
class Slider:
    """A slider at rest, in a file or on a socket: weights by module path, and metadata (all strings, as safetensors has it)."""

    weights: dict[str, LoraWeight]
    metadata: dict[str, str] = field(default_factory=dict)


def full_height(weight: LoraWeight) -> torch.Tensor:
    """B with zero rows around the slice, so that loaders without slices give the same result."""
    if weight.rows is None:
        return weight.B
    whole = torch.zeros(weight.height or weight.rows[1], *weight.B.shape[1:], dtype=weight.B.dtype)
    whole[weight.rows[0] : weight.rows[1]] = weight.B
    return whole


def to_native(weights: Mapping[str, LoraWeight]) -> dict[str, torch.Tensor]:
    """Native ComfyUI keys -> tensors."""
    state: dict[str, torch.Tensor] = {}
    for path, weight in weights.items():
        state[f"{PREFIX}{path}.lora_A.weight"] = weight.A
        state[f"{PREFIX}{path}.lora_B.weight"] = full_height(weight)
        state[f"{PREFIX}{path}.alpha"] = torch.tensor(float(weight.alpha))
    return state


def _weight(a: torch.Tensor, b: torch.Tensor, alpha: torch.Tensor | None, where: str) -> LoraWeight:
    """Factors out of a file; a file without alpha means alpha = rank. SliderError when they do not fit together."""
    if a.ndim < 2 or b.ndim < 2 or not a.shape[0] or a.shape[0] != b.shape[1] or (alpha is not None and alpha.numel() != 1):
        raise SliderError(f"{where} holds {tuple(a.shape)} and {tuple(b.shape)}, which make no LoRA; the file is damaged.")
    return LoraWeight(a.float(), b.float(), float(a.shape[0] if alpha is None else alpha))


def from_native(state: Mapping[str, torch.Tensor], source: str) -> dict[str, LoraWeight]:
    """The inverse of `to_native` (a slice comes back full height). SliderError when the keys are no such LoRA."""
    names = ((".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight"))
    weights: dict[str, LoraWeight] = {}
    used: set[str] = set()
    for key in state:
        for down, up in names:
            if not (key.startswith(PREFIX) and key.endswith(down)):
                continue
            stem = key[: -len(down)]
            if stem + up not in state:
                raise SliderError(f"{source}: {stem}{up} is missing; the file is damaged or not a LoRA.")
            weights[stem[len(PREFIX) :]] = _weight(state[key], state[stem + up], state.get(f"{stem}.alpha"), f"{source}: {stem}")
            used |= {key, stem + up, f"{stem}.alpha"}
    unknown = sorted(set(state) - used)
    if not weights or unknown:
        what = f'key "{unknown[0]}"' if unknown else "no keys"
        raise SliderError(f"{source}: {what} not understood; a LoRA with ComfyUI's native keys ({PREFIX}...) is needed.")
    return weights


def atomic_write(path: Path, content: bytes, overwrite: bool = False) -> None:
    """Write `content` to `path` whole or not at all. SliderError when it exists (unless `overwrite`) or cannot be written."""
    if path.exists() and not overwrite:
        raise SliderError(f"File exists: {path}. Choose another name, or ask to overwrite it.")
    path = path.resolve()  # what a link points at is replaced, not the link
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)  # less the umask
    except OSError as fault:
        raise SliderError(f"Cannot write to {path.parent} ({fault.strerror}). Choose a folder that can be written.") from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as fault:
        raise SliderError(f"Cannot write {path} ({fault.strerror}). Free space or choose another folder.") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _square(b: torch.Tensor, a: torch.Tensor) -> float:
    """The squared norm of b (out, rank) times a (rank, in), from the factors: the product itself may be a hundred megabytes."""
    return max(0.0, float((b.T @ b * (a @ a.T)).sum()))


def rounding_error(slider: Slider, dtype: FileDtype) -> float:
    """How much the number format of a file changes the slider: |rounded update - update| / |update| over all layers."""
    lost = whole = 0.0
    for weight in slider.weights.values():
        a, b = weight.A.flatten(1).double(), weight.B.flatten(1).double()
        a_file, b_file = (factor.to(DTYPES[dtype]).flatten(1).double() for factor in (weight.A, weight.B))
        scale = (weight.alpha / weight.rank) ** 2
        whole += scale * _square(b, a)
        lost += scale * _square(torch.cat([b_file - b, b_file], dim=1), torch.cat([a, a_file - a]))
    return math.sqrt(lost / whole) if whole else 0.0


def save_slider(path: Path, slider: Slider, dtype: FileDtype = FileDtype.FP32, overwrite: bool = False) -> None:
    """Save a slider.

    Raises SliderError when the file exists, cannot be written, or the weights are not finite.
    """
    state = {k: (v if k.endswith(".alpha") else v.to(DTYPES[dtype])).contiguous() for k, v in to_native(slider.weights).items()}
    broken = [k for k, v in state.items() if not bool(v.isfinite().all())]
    if broken:
        raise SliderError(f"{path}: {broken[0]} is not finite as {dtype.value}: not written. Save as fp32, or train again.")
    atomic_write(path, save(state, metadata={"format": FORMAT, **slider.metadata}), overwrite)


def load_slider(path: Path) -> Slider:
    """Read a slider file. SliderError when it is missing, damaged, or no LoRA with native keys."""
    if not path.is_file():
        raise SliderError(f"Slider file not found: {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as fault:
        raise SliderError(f"Slider file cannot be read: {path} ({fault}). It is damaged or no safetensors file.") from None
    return Slider(from_native(state, str(path)), metadata)
