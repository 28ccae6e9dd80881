"""Sliders as files: safetensors out and in, PEFT folders, and what other trainers wrote.

A file is written beside its place and renamed, so a reader sees the old one or the new one and never half of one. A file that
is read is checked whole before anything is made of it. How layers and tensors are named: formats/; the header: info.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from ..config.checks import SliderError, need
from ..config.lora import FileDtype, FileFormat
from ..layers.layer import Aliases, Target
from .algorithm import LayerWeight
from .algorithms.dora import EXACT_TENSORS
from .combine import cut, norm, rounding_error
from .file_format import State
from .file_left_out import LeftOut, Reason, describe, need_whole
from .formats.native import to_native
from .formats.peft import PEFT_CONFIG, PEFT_FILES, PEFT_WEIGHTS, peft_config
from .formats.registry import FORMATS
from .from_config import Alphas, header_alphas
from .from_state import from_state, layer_of
from .info import SliderInfo
from .keys import found
from .pickle_file import PICKLES, read_pickle
from .safe_files import atomic_write, recover, write_folder
from .safetensors_file import data_hash, read_tensors, with_header

DTYPES = {FileDtype.FP32: torch.float32, FileDtype.BF16: torch.bfloat16, FileDtype.FP16: torch.float16}
MOST_TENSORS = 20_000  # of a LoRA: 4 for each of 5,000 layers; the largest models have 2,000
EXACT_ENDINGS = (".alpha", *(f".{name}" for name in EXACT_TENSORS), ".lora_magnitude_vector")


@dataclass(frozen=True)
class Slider:
    """A slider on a socket or out of a file: changes of layers by target, and what its file says of itself.

    Out of a file the changes are the file's own tensors, as they are: that is enough to patch a model. See `cut`. `placed`: the
    targets are paths of the model, not names of another program that keys.found has yet to find. `left_out`: what the file holds
    besides and is not applied; `strict`: that is an error. `proof`: what its host needs to try it on a real forward.
    """

    weights: dict[Target, LayerWeight]
    info: SliderInfo = field(default_factory=SliderInfo)
    placed: bool = True
    left_out: tuple[LeftOut, ...] = ()
    strict: bool = False
    source: str = field(default="The slider", compare=False)
    proof: Any = field(default=None, compare=False, repr=False)

    def cut(self) -> Slider:
        """The slider to train on, to run live or to write: in float32, fused layers cut into the slices that the file names."""
        weights = {}
        for target, weight in self.weights.items():
            tensors = {name: tensor.float() for name, tensor in weight.tensors.items()}
            weights[target] = replace(weight, tensors=tensors)
        try:
            return replace(self, weights=cut(weights, self.info.slices), info=replace(self.info, slices={}))
        except SliderError as fault:
            raise SliderError(f"{self.source}: {fault}", fault.code) from None

    def on(self, module: nn.Module, aliases: Aliases | None = None) -> Slider:
        """The slider with its layers found in a model, and what the model has no place for left out. SliderError as `keys.found`
        raises it, and where something is left out of a strict one."""
        reshaped = {part.name.removeprefix(self.info.place.prefix) for part in self.left_out if part.reason is Reason.NO_SIGN}
        weights, left_out = found(self.weights, module, aliases, self.source, reshaped)
        if self.strict:
            need_whole(left_out, self.source)
        return replace(self, weights=weights, left_out=(*self.left_out, *left_out), placed=True)

    def left_out_lines(self) -> list[str]:
        """What was left out of the file, by reason, and its share; nothing where it fits whole."""
        if not self.left_out:
            return []
        return describe(self.left_out, list(map(norm, self.weights.values())))

    def summary(self) -> str:
        """What it says of itself in a few readable lines."""
        return "\n".join((self.info.summary(self.weights), *self.left_out_lines()))


# --- out


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
    slider = slider.cut()
    state = _rounded(_state(slider, form, aliases), dtype, path)
    config = FORMATS[form].config(slider.weights)
    tensors = save(state)
    content = with_header(tensors, slider.info.header(slider.weights, data_hash(tensors), form, dtype))
    if config is None:
        atomic_write(path, content, overwrite, _check_written)
    else:
        files = {PEFT_CONFIG: json.dumps(config, indent=2).encode(), PEFT_WEIGHTS: content}
        write_folder(path, files, overwrite, _check_written)


def _check_written(path: Path) -> None:
    """SliderError unless the file that was just written can be read, here and by the library that others read it with."""
    load_slider(path)
    file = path / PEFT_WEIGHTS if path.is_dir() else path
    try:
        with safe_open(file, framework="pt") as written:
            written.metadata()
    except SafetensorError as fault:
        message = f"{path.name}: its header cannot be read back ({fault}): not written. Change the labels."
        raise SliderError(message, "file.not_readable") from None


def _state(slider: Slider, form: FileFormat, aliases: Aliases | None) -> State:
    """The tensors of a file in that format."""
    message = "This slider's layers are named by another program: connect the model, so that they can be found."
    need(slider.placed, message, "slider.not_placed")
    if not slider.info.in_controlnet:
        return FORMATS[form].write(slider.weights, aliases, slider.info.architecture)
    message = f"A slider for a ControlNet is saved as native: no program reads one as {form.value}."
    need(form is FileFormat.NATIVE, message, "format.controlnet")
    return to_native(slider.weights, slider.info.place.prefix)


def _rounded(state: State, dtype: FileDtype, path: Path) -> State:
    """In the number format of the file, but for what multiplies the base weight. SliderError when something is not finite."""
    rounded = {}
    for key, tensor in state.items():
        kind = torch.float32 if key.endswith(EXACT_ENDINGS) else DTYPES[dtype]
        rounded[key] = tensor.to(kind).contiguous()
        message = f"{path}: {key} is not finite as {dtype.value}: not written. Save as fp32, or train again."
        need(bool(rounded[key].isfinite().all()), message, "slider.not_finite")
    return rounded


def lost_to(slider: Slider, dtype: FileDtype) -> float:
    """How much a number format changes the slider: |rounded update - update| / |update| over all layers."""
    return rounding_error(slider.weights, DTYPES[dtype])


def rounding(slider: Slider, dtype: FileDtype) -> list[str]:
    """A line about what a number format takes from a slider; none where that is nothing."""
    lost = lost_to(slider, dtype)
    return [f"As {dtype.value} its effect is rounded by {lost:.2%}."] if lost else []


# --- in


def load_slider(path: Path, strict: bool = False) -> Slider:
    """Read a slider or any LoRA: our own files, kohya's, diffusers', LyCORIS', PEFT folders, `.pt` of tensors alone.

    What has no meaning for a slider is left out and listed, or an error where `strict`. Raises SliderError when the file is
    missing or damaged, holds numbers that are not finite, or nothing for a slider.
    """
    path = _file(path)
    header: dict[str, str] = {}
    if path.suffix.lower() in PICKLES:
        state = read_pickle(path, MOST_TENSORS)
    else:
        state, header = read_tensors(path, MOST_TENSORS)
    info = SliderInfo.from_header(header)
    config = peft_config(path)
    alphas = header_alphas(header, str(path))
    if config is not None:
        alphas = Alphas.from_config(config, f"{path}: {PEFT_CONFIG} beside it")
    weights, left_out = from_state(state, str(path), info.place, info.file_format, alphas)
    if strict:
        need_whole(left_out, str(path))
    not_read = {part.name for part in left_out}
    native = all(key.startswith(info.place.prefix) for key in state if layer_of(key) not in not_read)
    if native:
        info.check("slices", f"Save {path} again from where it was trained.")
    else:
        info = replace(info, slices={})  # by paths, which these targets are not
    return Slider(weights, info, native, tuple(left_out), strict, str(path))


def _file(path: Path) -> Path:
    """The file of tensors that a path means: itself, or the one in a PEFT folder."""
    recover(path)
    if path.is_dir():
        inside = [path / name for name in PEFT_FILES if (path / name).is_file()]
        message = f"{path} is a folder that holds no {PEFT_WEIGHTS}. Give a slider file or a PEFT folder."
        need(bool(inside), message, "file.no_weights")
        return inside[0]
    need(path.is_file(), f"Slider file not found: {path}. Check the path.", "file.missing")
    return path
