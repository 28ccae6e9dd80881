"""What diffusers loads for a model: transformer.<diffusers path>.lora_A.weight; for a UNet kohya's names with diffusers' paths.

LoRA alone; fused layers come apart into their q, k and v. Where there is no alpha, B carries it. A layer that diffusers has no
name for is refused: it would be left out there without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from ...config.checks import SliderError, need
from ...config.lora import FileFormat
from ...layers.layer import Aliases
from ..algorithm import LayerWeight, OutputSlice
from ..algorithm_layer import weight_rows
from ..algorithms.lora import DOWN, UP
from ..combine import by_layer
from ..diffusers_layers import LAYERS, UNETS_1, UNETS_XL, unet_names
from ..file_format import Format, State, Weights, need_lora, tensors_by_key

PROCESSOR = ("_lora.down.weight", "_lora.up.weight")  # of the attention processors that were modules once
KOHYA = (".lora_down.weight", ".lora_up.weight")
OVIS = ".img_mlp.down_proj"  # ComfyUI takes Ovis-Image for FLUX.1 schnell, and its pipeline loads no LoRA
PREFIXES = ("transformer.", "diffusion_model.")  # of diffusers' names in ComfyUI's table
Layers = Mapping[str, LayerWeight]
Name = tuple[str, OutputSlice | None]  # with the rows that it means, None for the whole layer


class Diffusers(Format):
    name = FileFormat.DIFFUSERS
    dotted = ("transformer.", "unet.")  # that both diffusers and ComfyUI read
    lora = (".lora_A.weight", ".lora_B.weight")
    endings = {  # noqa: RUF012
        **{PROCESSOR[0]: DOWN, PROCESSOR[1]: UP},
        **{".lora.down.weight": DOWN, ".lora.up.weight": UP},
        **{".lora_linear_layer.down.weight": DOWN, ".lora_linear_layer.up.weight": UP},
    }

    def write(self, weights: Weights, aliases: Aliases | None = None, architecture: str = "") -> State:
        if aliases is None:
            message = "diffusers' names depend on the model: save in a graph, with the model connected."
            raise SliderError(message, "format.no_aliases")
        layers = by_layer(weights)
        for path, weight in layers.items():
            need_lora(weight, path, "diffusers")
            message = "diffusers leaves the scale of a DoRA out, or takes it at +1 alone: choose native, kohya or peft."
            need(not weight.is_dora, message, "format.no_dora")
        if architecture in (*UNETS_1, *UNETS_XL):
            return self._unet(layers, aliases)
        message = f"No pipeline of diffusers is known to load a LoRA for {architecture or 'this model'}: choose native or kohya."
        loaded = architecture in LAYERS and not any(target.path.endswith(OVIS) for target in aliases.values())
        need(loaded, message, "format.no_names")
        return self._transformer(layers, aliases, architecture)

    def _unet(self, layers: Layers, aliases: Aliases) -> State:
        names = unet_names(aliases)
        state: State = {}
        for path, weight in layers.items():
            if path.startswith("label_emb."):  # which diffusers finds by the checkpoint's name
                names[path] = f"lora_unet_{path.replace('.', '_')}"
            need(path in names, _nameless(path), "format.no_name")
            state |= tensors_by_key(names[path], weight.for_comfyui(), KOHYA)
        return state

    def _transformer(self, layers: Layers, aliases: Aliases, architecture: str) -> State:
        names: dict[str, list[Name]] = {}
        for name, path, rows in _names(layers, aliases, architecture):
            names.setdefault(path, []).append((name, rows))
        state: State = {}
        for path, weight in layers.items():
            up = weight.tensors[UP] * weight.scale
            chosen = _covering(names.get(path, []), up.flatten(1).any(dim=1))
            need(bool(chosen), _nameless(path), "format.no_name")
            for name, rows in chosen:
                state[f"{PREFIXES[0]}{name}{self.lora[0]}"] = weight.tensors[DOWN].clone()
                state[f"{PREFIXES[0]}{name}{self.lora[1]}"] = weight_rows(up, rows).clone()
        return state


def _nameless(path: str) -> str:
    return f'diffusers loads no LoRA for "{path}" of this model: choose native or kohya.'


def _names(layers: Layers, aliases: Aliases, architecture: str) -> Iterator[tuple[str, str, OutputSlice | None]]:
    """(diffusers' name, path, rows) of every layer and slice that diffusers' class has."""
    pattern = LAYERS[architecture]
    for path in layers:
        if pattern.fullmatch(path):
            yield path, path, None
    for alias, target in aliases.items():
        name = alias
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        if pattern.fullmatch(name):
            yield name, target.path, target.rows


def _covering(names: Sequence[Name], moved: torch.Tensor) -> list[Name]:
    """Names that together mean every moved row once: those of slices where these are enough, else one of the whole layer."""
    chosen: list[Name] = []
    reached = torch.zeros_like(moved)
    still = not bool(moved.any())
    slices = [(rows, name) for name, rows in names if rows]
    for rows, name in sorted(slices, key=lambda entry: entry[0]):
        inside = slice(*rows)
        if bool(reached[inside].any()):
            continue
        reached[inside] = True
        if still or bool(moved[inside].any()):
            chosen.append((name, rows))
    if chosen and not bool(moved[~reached].any()):
        return chosen
    whole: list[Name] = [(name, rows) for name, rows in names if rows is None]
    return whole[:1]
