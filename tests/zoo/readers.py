"""PEFT and LyCORIS with a saved slider: what each layer answers by their own forward, and with the weights of our own merge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.func import functional_call

from .animals import tiny
from .model import build_tiny
from .peers import STRENGTHS, merged, save, slider_on

TITLES = ("SD15", "SDXL", "Flux", "ZImage", "WAN21_T2V", "QwenImage")
Answers = Mapping[str, torch.Tensor]


def _inputs(module: torch.nn.Module, paths: list[str]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    inputs = {}
    for path in paths:
        shape = module.get_submodule(path).weight.shape
        inputs[path] = torch.randn(2, shape[1], *[8] * (len(shape) - 2), generator=generator)
    return inputs


def _answers(module: torch.nn.Module, inputs: Answers) -> dict[str, torch.Tensor]:
    return {path: module.get_submodule(path)(x) for path, x in inputs.items()}


def _in_peft(module: torch.nn.Module, file: Path, paths: list[str]) -> tuple[int, Callable[[float], None]]:
    """(layers that were loaded, a function that sets the strength)."""
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    PeftModel.from_pretrained(module, str(file))  # puts its layers into the module
    layers = [layer for layer in map(module.get_submodule, paths) if isinstance(layer, LoraLayer)]
    return len(layers), lambda strength: [layer.set_scale("default", strength) for layer in layers] and None


def _in_lycoris(module: torch.nn.Module, file: Path, paths: list[str]) -> tuple[int, Callable[[float], None]]:
    from lycoris.wrapper import create_lycoris_from_weights

    network, _ = create_lycoris_from_weights(1.0, str(file), module)
    network.apply_to()
    return len(network.loras), network.set_multiplier


READERS = {"peft": _in_peft, "lycoris": _in_lycoris}


@torch.no_grad()
def deviations(core: Callable[[str], ModuleType], program: str, title: str, folder: Path) -> list[tuple[int, int, float]]:
    """At each strength: how many layers the program loads, how many the slider has, and the gap of the answers as a share
    of the slider's change."""
    patcher: Any = build_tiny(tiny(title))
    module = patcher.model.diffusion_model.requires_grad_(False)
    slider = slider_on(core, patcher, "auto")
    paths = list(core("lora.combine").by_layer(slider.weights))
    inputs = _inputs(module, paths)
    base = _answers(module, inputs)
    expected = {}
    for strength in STRENGTHS:
        state = merged(core, patcher, slider, strength)
        expected[strength] = {
            path: functional_call(module.get_submodule(path), {"weight": state[f"{path}.weight"]}, (x,))
            for path, x in inputs.items()
        }
    name = "slider" if program == "peft" else "slider.safetensors"
    loaded, set_strength = READERS[program](module, save(core, folder / name, slider, program, patcher), paths)
    found = []
    for strength, wanted in expected.items():
        set_strength(strength)
        theirs = _answers(module, inputs)
        gap = sum(float((theirs[path] - wanted[path]).square().sum()) for path in paths)
        size = sum(float((base[path] - wanted[path]).square().sum()) for path in paths)
        found.append((loaded, len(paths), (gap / size) ** 0.5))
    return found
