"""The list of layers that SimpleTuner's slider guide gives for every model, in diffusers' names, on ComfyUI's models."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

NAMES = (
    *("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
    *("conv_in", "conv_out", "time_embedding.linear_1", "time_embedding.linear_2"),
)


def layers_of(core: Callable[[str], ModuleType], patcher: Any) -> list[str]:
    """The layers that the list means on a model. SliderError where it means none."""
    spec = core("config.lora").AdapterSpec(preset="custom", names=NAMES)
    names = core("with_comfy.layer_names").named_layers(patcher)
    return [target.path for target in core("layers.select").survey(patcher.model.diffusion_model, spec, names).targets]
