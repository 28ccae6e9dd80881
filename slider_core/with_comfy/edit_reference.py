"""The image that an edit model is to edit, as ComfyUI's ReferenceLatent node puts it into a prompt's conditioning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..backend import Conditioning
from ..config.checks import need
from ..config.hosts import advice

REFERENCES = "reference_latents"


def with_reference(cond: Conditioning, latent: torch.Tensor) -> Conditioning:
    """`latent` (1, C, ...) as a VAE gives it, after those that are there."""
    value = [[text, extra | {REFERENCES: [*extra.get(REFERENCES, ()), latent]}] for text, extra in cond.value]
    return Conditioning(cond.text, value)


def has_reference(value: Any) -> bool:
    """Whether a CONDITIONING of ComfyUI, or None, holds a reference image."""
    return any(REFERENCES in extra for _, extra in value or ())


def need_taken(cond: Conditioning, parts_of: Callable[[Conditioning], dict[str, Any]], model: str) -> None:
    """SliderError where the prompt holds a reference image of which the model makes nothing. `parts_of`: what it makes of one."""
    if not has_reference(cond.value):
        return
    plain = []
    for text, extra in cond.value:
        plain.append([text, {key: part for key, part in extra.items() if key != REFERENCES}])
    taken = parts_of(cond).keys() != parts_of(Conditioning(cond.text, plain)).keys()
    without = advice("set reference of Slider Dataset Options to none", "give --reference none")
    message = f"{model} takes no reference images: {without}, or load an edit model."
    need(taken, message, "reference.not_taken")
