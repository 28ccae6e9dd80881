"""ComfyUI's own keys, which every loader of ComfyUI reads on every architecture: diffusion_model.<path>.lora_A.weight.

A slice is written at the layer's full height, zeros outside its rows. The stock loader's change is strength * alpha / rank * B A,
which is ours, so a strength means the same everywhere.
"""

from __future__ import annotations

from enum import Enum

from ...config.lora import FileFormat
from ..file_format import Format, State, Weights

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


class Native(Format):
    name = FileFormat.NATIVE
    dotted = ("", PREFIX, f"model.{PREFIX}")
    lora = (".lora_A.weight", ".lora_B.weight")

    def __init__(self, prefix: str = PREFIX) -> None:
        self.prefix = prefix

    def stem(self, path: str) -> str:
        return self.prefix + path


def to_native(weights: Weights, prefix: str = PREFIX) -> State:
    """Tensors by ComfyUI's own keys. `prefix`: of the slider's Place."""
    return Native(prefix).write(weights)
