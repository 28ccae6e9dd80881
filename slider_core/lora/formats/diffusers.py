"""diffusers' keys: transformer.<diffusers path>.lora_A.weight, where ComfyUI has the map of names (`aliases`).

LoRA alone; fused layers come apart into their q, k and v. There is no alpha: diffusers takes it from elsewhere, so B carries it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...config.checks import SliderError, need
from ...config.lora import FileFormat
from ...layers.layer import Aliases
from ..algorithm import OutputSlice
from ..algorithms.lora import DOWN, UP
from ..combine import by_layer
from ..file_format import Format, State, Weights, need_lora

PROCESSOR = ("_lora.down.weight", "_lora.up.weight")  # of the attention processors that were modules once
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

    def write(self, weights: Weights, aliases: Aliases | None = None) -> State:
        if aliases is None:
            message = "diffusers' names come from ComfyUI's table for a model: save in a graph, with the model connected."
            raise SliderError(message, "format.no_aliases")
        names = self._names_by_layer(aliases)
        need(bool(names), "ComfyUI knows no diffusers names for this architecture: choose native or kohya.", "format.no_names")
        state: State = {}
        for path, weight in by_layer(weights).items():
            need_lora(weight, path, "diffusers")
            message = "ComfyUI cannot read a DoRA by its diffusers names: choose native, kohya or peft."
            need(not weight.is_dora, message, "format.no_dora")
            up = weight.tensors[UP] * weight.scale
            chosen = _covering(names.get(path, []), up.flatten(1).any(dim=1))
            need(bool(chosen), f'"{path}" has no diffusers name that ComfyUI knows: choose native or kohya.', "format.no_name")
            for name, rows in chosen:
                endings = PROCESSOR if ".processor." in name else self.lora
                part = up[rows[0] : rows[1]] if rows else up
                state[name + endings[0]] = weight.tensors[DOWN].clone()
                state[name + endings[1]] = part.clone()
        return state

    def _names_by_layer(self, aliases: Aliases) -> dict[str, list[Name]]:
        """Module path -> the diffusers names of it and of its slices."""
        names: dict[str, list[Name]] = {}
        for name, target in aliases.items():
            if name.startswith(self.dotted):
                names.setdefault(target.path, []).append((name, target.rows))
        return names


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
