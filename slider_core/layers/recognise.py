"""Which architecture a diffusion model is of, by the names of its modules (recognise_guess.py: one that no row knows)."""

from __future__ import annotations

from torch import nn

from .architecture import Architecture
from .architectures_image import IMAGE
from .architectures_video import VIDEO_AND_SOUND
from .patterns import matching

ARCHITECTURES = (*VIDEO_AND_SOUND, *IMAGE)  # the first that matches is taken: HunyuanVideo has every name of Flux, and more


def recognise(diffusion_model: nn.Module) -> Architecture | None:
    """The first architecture of which every recognising expression matches some module path, or None."""
    paths = list(dict(diffusion_model.named_modules()))
    for architecture in ARCHITECTURES:
        if all(matching(paths, (expression,)) for expression in architecture.recognised_by):
            return architecture
    return None
