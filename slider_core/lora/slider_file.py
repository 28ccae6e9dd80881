"""Sliders as files: safetensors out and in, PEFT folders, and what other trainers wrote.

A file is written beside its place and renamed, so a reader sees the old one or the new one and never half of one. A file that
is read is checked whole before anything is made of it. How tensors are named: formats.py; the header: metadata.py.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..config.checks import SliderError
from ..config.lora import FileDtype, FileFormat
from ..layers.layer import Aliases, Target
from .algorithm import LayerWeight
from .algorithms.lora_dora import EXACT_TENSORS
from .combine import rounding_error
from .formats import (
    MOST_ALPHA,
    cut,
    from_state,
    to_diffusers,
    to_kohya,
    to_lycoris,
    to_native,
    to_peft,
)
from .info import SliderInfo
from .safe_files import _write_folder, atomic_write
from .safetensors_file import data_hash, read_tensors, with_header

DTYPES = {FileDtype.FP32: torch.float32, FileDtype.BF16: torch.bfloat16, FileDtype.FP16: torch.float16}
PICKLES = (".pt", ".pth", ".ckpt", ".bin")  # read with weights_only alone
PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT_FILES = (PEFT_WEIGHTS, "adapter_model.bin")
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)  # an alpha may be one of these
READABLE = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2)
_EXACT = (".alpha", *(f".{name}" for name in EXACT_TENSORS), ".lora_magnitude_vector")


@dataclass(frozen=True)
class Slider:
    """A slider in a file or on a socket: weights by target, and what its file says of itself.

    `placed`: the targets are paths of the model, not names of another program that names.placed has yet to find. `left_out`:
    layers of text encoders that the file held besides. `proof`: what its host needs to try it on a real forward.
    """

    weights: dict[Target, LayerWeight]
    info: SliderInfo = field(default_factory=SliderInfo)
    placed: bool = True
    left_out: tuple[str, ...] = ()
    proof: Any = field(default=None, compare=False, repr=False)

    def summary(self) -> str:
        """What it says of itself in a few readable lines."""
        summary = self.info.summary(self.weights)
        if self.left_out:
            summary += f"\n{len(self.left_out)} layers of a text encoder were left out: a slider moves the image side alone."
        return summary


# --- out


def _written(slider: Slider, form: FileFormat, aliases: Aliases | None) -> tuple[dict[str, torch.Tensor], dict[str, Any] | None]:
    """The tensors of a file in that format, and PEFT's configuration where it is a PEFT folder."""
    if not slider.placed:
        raise SliderError("This slider's layers are named by another program: connect the model, so that they can be found.")
    if slider.info.in_controlnet:
        if form is not FileFormat.NATIVE:
            raise SliderError(f"A slider for a ControlNet is saved as native: no program reads one as {form.value}.")
        return to_native(slider.weights, slider.info.place.prefix), None
    if form is FileFormat.PEFT:
        config, state = to_peft(slider.weights)
        return state, config
    if form is FileFormat.DIFFUSERS:
        return to_diffusers(slider.weights, aliases), None
    writers: dict[FileFormat, Callable[[Mapping[Target, LayerWeight]], dict[str, torch.Tensor]]] = {
        FileFormat.NATIVE: to_native,
        FileFormat.KOHYA: to_kohya,
        FileFormat.LYCORIS: to_lycoris,
    }
    return writers[form](slider.weights), None


def _rounded(state: Mapping[str, torch.Tensor], dtype: FileDtype, path: Path) -> dict[str, torch.Tensor]:
    """In the number format of the file, but for what multiplies the base weight. SliderError when something is not finite."""
    found = {k: (v.float() if k.endswith(_EXACT) else v.to(DTYPES[dtype])).contiguous() for k, v in state.items()}
    broken = [k for k, v in found.items() if not bool(v.isfinite().all())]
    if broken:
        raise SliderError(f"{path}: {broken[0]} is not finite as {dtype.value}: not written. Save as fp32, or train again.")
    return found


def save_slider(
    path: Path,
    slider: Slider,
    dtype: FileDtype = FileDtype.FP32,
    overwrite: bool = False,
    form: FileFormat = FileFormat.NATIVE,
    aliases: Aliases | None = None,
) -> None:
    """Save a slider: a file, or with the format peft a folder. `aliases` are the model's diffusers names, for that format.

    Raises SliderError when the file exists, cannot be written, the weights are not finite, or the format cannot hold them.
    """
    state, config = _written(slider, form, aliases)
    tensors = save(_rounded(state, dtype, path))
    content = with_header(tensors, slider.info.header(slider.weights, data_hash(tensors), form, dtype))
    if config is None:
        atomic_write(path, content, overwrite)
    else:
        _write_folder(path, {PEFT_CONFIG: json.dumps(config, indent=2).encode(), PEFT_WEIGHTS: content}, overwrite)


def lost_to(slider: Slider, dtype: FileDtype) -> float:
    """How much a number format changes the slider: |rounded update - update| / |update| over all layers."""
    return rounding_error(slider.weights, DTYPES[dtype])


def _pickle(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a `.pt` file. Nothing in it is run: anything but tensors is refused."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a damaged pickle can fail in nearly any way
        reason = str(fault).splitlines()[0][:160] if str(fault) else type(fault).__name__
        raise SliderError(f"Slider file cannot be read: {path} ({reason}). It is damaged, or holds more than tensors.") from None
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in state.items()):
        raise SliderError(f"{path} holds more than named tensors: no LoRA file. Convert it to safetensors.")
    for key, value in state.items():
        if value.is_meta or value.is_nested or value.layout is not torch.strided or value.is_quantized:
            raise SliderError(f"{path}: {key} is no plain tensor; convert the file to safetensors.")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise SliderError(f"{path}: {key} claims {tuple(value.shape)} numbers and holds fewer; the file is damaged.")
    return {key: value.contiguous() for key, value in state.items()}


def _checked(state: Mapping[str, torch.Tensor], path: Path) -> None:
    for key, value in state.items():
        if value.dtype not in READABLE and not (value.numel() == 1 and value.dtype in WHOLE):
            raise SliderError(f"{path}: {key} is no weight ({value.dtype}); a LoRA file is needed.")
        if not bool(value.float().isfinite().all()):
            raise SliderError(f"{path}: {key} holds numbers that are not finite; the file is damaged. Nothing was applied.")


def _peft_config(path: Path) -> dict[str, Any] | None:
    """The configuration beside the tensors of a PEFT folder; None for any other file."""
    beside = path.with_name(PEFT_CONFIG)
    if path.name not in PEFT_FILES or not beside.is_file():
        return None
    try:
        config = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as fault:
        raise SliderError(f"{beside} cannot be read ({fault}).") from None
    if not isinstance(config, dict) or config.get("peft_type", "LORA") != "LORA":
        raise SliderError(f"{beside}: a LoRA of PEFT is needed, and this is none.")
    return config


def _peft_scale(weights: dict[Target, LayerWeight], config: Mapping[str, Any], source: str) -> dict[Target, LayerWeight]:
    """PEFT keeps alpha beside the tensors: put it in. Its patterns must be plain names, for an expression may run for ever."""
    try:
        alpha, rslora = float(config["lora_alpha"]), bool(config.get("use_rslora"))
        patterns, found = dict(config.get("alpha_pattern") or {}), {}
        plain = {re.sub(r"\\(.)", r"\1", p.removeprefix("^").removesuffix("$")): (p, float(a)) for p, a in patterns.items()}
        odd = [p for name, (p, _) in plain.items() if not re.fullmatch(r"[\w.\-]+", name)]
        if odd or not all(abs(a) <= MOST_ALPHA for a in (alpha, *(a for _, a in plain.values()))):
            raise ValueError(f"alpha_pattern {odd[0]} is an expression" if odd else "an alpha is no number")
        for target, weight in weights.items():
            bare = f".{target.path.removeprefix('base_model.model.')}"
            own = next((a for name, (_, a) in plain.items() if bare.endswith(f".{name}")), alpha)
            found[target] = dataclasses.replace(weight, alpha=own * (math.sqrt(weight.rank or 1) if rslora else 1.0))
    except (KeyError, TypeError, ValueError, OverflowError) as fault:
        raise SliderError(f"{source}: {PEFT_CONFIG} beside it is damaged or not taken here ({fault}).") from None
    return found


def _file(path: Path) -> Path:
    """The file of tensors that a path means: itself, or the one in a PEFT folder."""
    inside = next((path / name for name in PEFT_FILES if (path / name).is_file()), path / PEFT_WEIGHTS) if path.is_dir() else path
    if path.is_dir() and not inside.is_file():
        raise SliderError(f"{path} is a folder that holds no {PEFT_WEIGHTS}. Give a slider file or a PEFT folder.")
    if not inside.is_file():
        raise SliderError(f"Slider file not found: {path}. Check the path.")
    return inside


def load_slider(path: Path) -> Slider:
    """Read a slider or any LoRA: our own files, kohya's, diffusers', LyCORIS', PEFT folders, `.pt` of tensors alone.

    Raises SliderError when it is missing, damaged, holds numbers that are not finite, or something with no meaning for a slider.
    """
    path = _file(path)
    state, header = (_pickle(path), {}) if path.suffix.lower() in PICKLES else read_tensors(path)
    _checked(state, path)
    info = SliderInfo.from_header(header)
    weights, left_out = from_state(state, str(path), info.place, info.file_format)
    config = _peft_config(path)
    weights = _peft_scale(weights, config, str(path)) if config is not None else weights
    native = all(key.startswith(info.place.prefix) for key in state)
    if native:
        try:
            info.check("slices", "Save the slider again from where it was trained.")
            weights = cut(weights, info.slices)
        except SliderError as fault:
            raise SliderError(f"{path}: {fault}", fault.code) from None
    return Slider(weights, info, placed=native, left_out=tuple(left_out))
