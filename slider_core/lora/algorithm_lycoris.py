"""LyCORIS' modules for a live layer's shape, and LyCORIS' mathematics on it: what LoCon, LoHa, LoKr, full and GLoRA share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import nn

from ..config.lora import AdapterSpec
from ..layers.layer import Target, weight_shape
from .algorithm import Layer, LayerWeight, Shape, Size, Trainable
from .algorithm_layer import serialized_copy, shape_of, shape_only


@contextmanager
def quiet_lycoris() -> Iterator[None]:
    """LyCORIS warns of every layer for which a LoKr's rank is larger than it can use, which our docs say once."""
    from lycoris.logging import logger

    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def new_module(name: str, layer: Layer, shape: Shape, size: Size, **options: Any) -> Any:
    """LyCORIS' own module for a layer like `layer`, of `shape`, with its own first values."""
    from lycoris import modules

    skeleton = shape_only(shape, layer).to_empty(device="cpu")
    if options.get("use_tucker") and len(shape) != 4:
        options["use_tucker"] = False  # ComfyUI reads the core of a 2-D kernel only
    with quiet_lycoris():
        module = getattr(modules, name)("slider", skeleton, 1.0, size.rank, size.alpha, **options)
    for part in ("lora_down", "lora_mid", "b2"):  # LyCORIS leaves the dilation out
        window = getattr(module, part, None)
        if isinstance(window, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and any(k > 1 for k in window.kernel_size):
            window.dilation = layer.dilation
    return module


class LycorisPart(Trainable):
    """A LyCORIS module on one layer."""

    def __init__(self, module: Any, weight: type[LayerWeight], target: Target, base: Shape) -> None:
        self.module = module
        self.weight = weight
        self.rows = target.rows
        self.base = base
        module.org_module = []  # the skeleton that it was made on
        module.org_forward = None

    def parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.module.bypass_forward_diff(x.to(self.parameters()[0].dtype))

    def input_format(self, given: torch.dtype) -> torch.dtype:  # noqa: ARG002
        return self.parameters()[0].dtype

    def serialized(self) -> LayerWeight:
        tensors = {name: serialized_copy(tensor) for name, tensor in self.module.custom_state_dict().items()}
        alpha = float(tensors.pop("alpha"))
        return self.weight(tensors, alpha, self.base)

    def to(self, device: torch.device) -> None:
        self.module.to(device=device, dtype=torch.float32)


class LycorisWeight(LayerWeight):
    """A change whose trainable form is LyCORIS' module of a class."""

    module_class: ClassVar[str]
    part_class: ClassVar[type[LycorisPart]] = LycorisPart

    @classmethod
    def options(cls, spec: AdapterSpec) -> dict[str, Any]:
        return {"use_tucker": spec.tucker}

    @classmethod
    def part(cls, module: Any, layer: Layer, target: Target) -> LycorisPart:
        return cls.part_class(module, cls, target, weight_shape(layer))

    @classmethod
    def fresh(cls, layer: Layer, target: Target, size: Size, spec: AdapterSpec) -> Trainable:
        module = new_module(cls.module_class, layer, shape_of(layer, target), size, **cls.options(spec))
        return cls.part(module, layer, target)

    def revived(self, layer: Layer, target: Target) -> Trainable:
        shape = shape_of(layer, target)
        module = new_module(self.module_class, layer, shape, self.size, use_tucker=self.has_core)
        self.fill(module, shape)
        return self.part(module, layer, target)

    def factors(self, names: Sequence[str]) -> list[torch.Tensor | None]:
        """Tensors in float32 for LyCORIS' functions, None for those that are not there."""
        return [self.tensors[name].float() if name in self.tensors else None for name in names]

    def fill(self, module: Any, shape: Shape) -> None:  # noqa: ARG002
        """Put copies of the tensors into LyCORIS' module, whatever sizes it would have chosen itself."""
        for name, tensor in self.tensors.items():
            owner, _, leaf = name.rpartition(".")
            part = module.get_submodule(owner)
            before = getattr(part, leaf, None)
            if before is not None:
                tensor = tensor.reshape(before.shape)
            setattr(part, leaf, nn.Parameter(tensor.clone()))
