"""One layer of a diffusion model that a slider may touch, and how it is found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from ..config.checks import SliderError

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Target:
    """One layer: `path` inside the diffusion model; `rows` (start, stop) of a fused output, or None for the whole."""

    path: str
    rows: tuple[int, int] | None = None

    def __str__(self) -> str:
        return self.path + (f"[{self.rows[0]}:{self.rows[1]}]" if self.rows else "")


def slices(targets: Iterable[Target]) -> dict[str, list[tuple[int, int]]]:
    """Of each fused layer among the targets, its slices in order."""
    found: dict[str, list[tuple[int, int]]] = {}
    for target in targets:
        if target.rows:
            found.setdefault(target.path, []).append(target.rows)
    return {path: sorted(rows) for path, rows in found.items()}


Aliases = Mapping[str, Target]  # other programs' names for layers of a model, diffusers' above all


def is_linear(module: nn.Module) -> bool:
    """A Linear, or a class of that name that is no subclass of torch's: ComfyUI's for quantised weights."""
    return isinstance(module, nn.Linear) or (type(module).__name__ == "Linear" and hasattr(module, "in_features"))


def is_layer(module: nn.Module) -> bool:
    """A Linear or a convolution."""
    return isinstance(module, CONVOLUTIONS) or is_linear(module)


def adaptable(module: nn.Module) -> bool:
    """Whether a LoRA fits: a Linear, or a convolution without groups that pads with zeros."""
    plain = getattr(module, "groups", 1) == 1 and getattr(module, "padding_mode", "zeros") == "zeros"
    return is_layer(module) and plain


def find_layer(module: nn.Module, target: Target) -> nn.Module:
    """The layer a target names; SliderError when `module` lacks it."""
    try:
        layer = module.get_submodule(target.path)
    except AttributeError:
        layer = None
    if layer is None or not is_layer(layer):
        raise SliderError(f'The slider needs a layer "{target.path}", which this model lacks: it is for another model.')
    return layer


def large_kernel(layer: nn.Module) -> bool:
    """Whether it is a convolution with a kernel larger than 1."""
    return any(k > 1 for k in layer.weight.shape[2:])


def layers(diffusion_model: nn.Module) -> Iterator[str]:
    """Paths of every adaptable layer."""
    return (path for path, module in diffusion_model.named_modules() if path and adaptable(module))
