"""One layer of a diffusion model that a slider may touch, and how it is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from torch import nn

from ..config.checks import SliderError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
Aliases = Mapping[str, "Target"]  # other programs' names for layers of a model, diffusers' above all


@dataclass(frozen=True)
class Target:
    """One layer: `path` inside the diffusion model; `rows` (start, stop) of a fused output, or None for the whole."""

    path: str
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        if self.rows is None:
            return self.path
        return f"{self.path}[{self.rows[0]}:{self.rows[1]}]"


def slices(targets: Iterable[Target]) -> dict[str, list[tuple[int, int]]]:
    """Of each fused layer among the targets, its slices in order."""
    rows_by_path: dict[str, list[tuple[int, int]]] = {}
    for target in targets:
        if target.rows:
            rows_by_path.setdefault(target.path, []).append(target.rows)
    return {path: sorted(rows) for path, rows in rows_by_path.items()}


def is_linear(module: nn.Module) -> bool:
    """A Linear, or a class of that name that is no subclass of torch's: ComfyUI's for quantised weights."""
    return isinstance(module, nn.Linear) or (type(module).__name__ == "Linear" and hasattr(module, "in_features"))


def is_layer(module: nn.Module) -> bool:
    """A Linear or a convolution."""
    return isinstance(module, CONVOLUTIONS) or is_linear(module)


def is_norm(module: nn.Module) -> bool:
    """Whether it scales by a vector: files may change that and its bias."""
    weight = module._parameters.get("weight")
    return weight is not None and weight.ndim == 1


def adaptable(module: nn.Module) -> bool:
    """Whether a LoRA fits: a Linear, or a convolution without groups that pads with zeros."""
    plain = getattr(module, "groups", 1) == 1 and getattr(module, "padding_mode", "zeros") == "zeros"
    return is_layer(module) and plain


def find_layer(module: nn.Module, target: Target) -> nn.Module:
    """The layer a target names, or the norm; SliderError when `module` lacks it."""
    layer = None
    with suppress(AttributeError):
        layer = module.get_submodule(target.path)
    if layer is None or not (is_layer(layer) or is_norm(layer)):
        message = f'The slider is for another model: it needs a layer "{target.path}", which this model lacks.'
        raise SliderError(message, "slider.layer_missing")
    return layer


def weight_shape(layer: Any) -> tuple[int, ...]:
    """The shape of a layer's weight; by the layer's sizes where a host has not loaded it yet, as ComfyUI with dynamic VRAM."""
    weight = getattr(layer, "weight", None)
    if weight is not None:
        return tuple(weight.shape)
    if isinstance(layer, CONVOLUTIONS):
        return layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size
    return layer.out_features, layer.in_features


def large_kernel(layer: nn.Module) -> bool:
    """Whether it is a convolution with a kernel larger than 1."""
    return max(weight_shape(layer)[2:], default=1) > 1


def layers(diffusion_model: nn.Module) -> Iterator[str]:
    """Paths of every adaptable layer."""
    for path, module in diffusion_model.named_modules():
        if path and adaptable(module):
            yield path


def norms(diffusion_model: nn.Module) -> Iterator[str]:
    """Paths of every norm that has a scale."""
    for path, module in diffusion_model.named_modules():
        if path and is_norm(module):
            yield path


def without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without the ones at its end, behind its first two dimensions."""
    bare = tuple(shape)
    while len(bare) > 2 and bare[-1] == 1:
        bare = bare[:-1]
    return bare
