"""What a file format is: its names for layers and tensors, in and out. Each format has a file in formats/."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..config.checks import need
from ..config.lora import FileFormat
from ..layers.layer import Aliases, Target
from .algorithm import BIAS, Kind, LayerWeight
from .algorithms.lora import DOWN, UP
from .combine import by_layer

State = dict[str, torch.Tensor]
Weights = Mapping[Target, LayerWeight]


class Format:
    """The names of one kind of LoRA file. A subclass says what differs: at least `name`, `lora` and `stem`."""

    name: FileFormat
    lora: tuple[str, str]  # endings of the keys of a LoRA's two factors, down and up, as they are written
    endings: Mapping[str, str] = {}  # further endings that are read -> our name of the tensor
    dotted: tuple[str, ...] = ()  # what may stand before a layer's path
    underscored: tuple[str, ...] = ()  # and before a path whose dots are underscores

    def stem(self, path: str) -> str:
        """What a layer's keys begin with."""
        raise NotImplementedError

    def converted(self, weight: LayerWeight, path: str) -> LayerWeight:  # noqa: ARG002
        """A layer's change as those who read the format understand it."""
        return weight.for_comfyui()

    def write(self, weights: Weights, aliases: Aliases | None = None, architecture: str = "") -> State:  # noqa: ARG002
        """Tensors by key. `aliases`: other programs' names of the model's layers; `architecture`: ComfyUI's class of it."""
        return self.named(by_layer(weights), {})

    def named(self, layers: Mapping[str, LayerWeight], names: Mapping[str, str]) -> State:
        """Tensors by key of whole layers, by path. `names`: what the keys of a layer begin with, where that is not its `stem`."""
        state: State = {}
        for path, weight in layers.items():
            state |= tensors_by_key(names.get(path) or self.stem(path), self.converted(weight, path), self.lora)
        return state

    def config(self, weights: Weights) -> dict[str, Any] | None:  # noqa: ARG002
        """What lies beside the tensors as JSON, where the format is a folder."""
        return None

    def understood(self, weight: LayerWeight) -> LayerWeight:
        """A layer's change out of a file whose header names this format."""
        return weight


def tensors_by_key(stem: str, weight: LayerWeight, lora: tuple[str, str]) -> State:
    """One layer's tensors by key: the two factors of a LoRA by the endings `lora`, all others by LyCORIS' names."""
    endings = {} if weight.has_core else {DOWN: lora[0], UP: lora[1]}
    state: State = {}
    for name, tensor in weight.file_tensors().items():
        state[stem + endings.get(name, f".{name}")] = tensor
    if weight.ranked:  # files hold an alpha of such a kind, be it without effect
        alpha = weight.alpha
        if alpha is None:
            alpha = weight.rank or 1
        state[f"{stem}.alpha"] = torch.tensor(float(alpha))
    return state


def need_weights_alone(weight: LayerWeight, path: str, reader: str) -> None:
    """SliderError where a format holds no biases and norms and this changes one."""
    alone = weight.kind is not Kind.VECTOR and BIAS not in weight.tensors
    need(alone, f'{reader} holds no change of a bias or a norm, and "{path}" has one: choose native or kohya.', "format.bias")


def need_lora(weight: LayerWeight, path: str, reader: str) -> None:
    """SliderError where a format holds LoRAs alone and this is another change."""
    if weight.kind in (Kind.LORA, Kind.DORA, Kind.VECTOR):
        need_weights_alone(weight, path, reader)
    kind = weight.kind.value
    if weight.kind in (Kind.LORA, Kind.DORA):
        kind = "LoCon with a core tensor" if weight.has_core else ""
    need(not kind, f'{reader} reads LoRA only, and "{path}" is a {kind}: choose native, kohya or lycoris.', "format.only_lora")
