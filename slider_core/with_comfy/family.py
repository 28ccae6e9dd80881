"""Which family a MODEL of ComfyUI is of, and what it takes to draw and train as that family: guidance, shift, size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import torch

from ..config.checks import need
from ..families.distilled import Distilled
from ..families.table import ModelFacts, Preferences, preferences
from ..layers.recognise import recognise
from .assumptions import piece

MODEL_SAMPLING = "model_sampling"


def model_file(model: Any) -> list[str]:
    """The name of the file that a core loader read; empty for another loader's model."""
    loaded = model.cached_patcher_init  # (loader, its arguments, and later more)
    arguments = loaded[1] if isinstance(loaded, (tuple, list)) and len(loaded) > 1 else ()
    first = arguments[0] if isinstance(arguments, (tuple, list)) and arguments else None
    first = first[0] if isinstance(first, (tuple, list)) and first else first
    return [PurePath(first).name] if isinstance(first, str) else []


def preferences_of(model: Any, files: Sequence[str] = (), distilled: Distilled | str = Distilled.AUTO) -> Preferences:
    """What the MODEL wants. `files`: names of the checkpoint and the LoRAs, where a graph tells them."""
    diffusion = model.model.diffusion_model
    architecture = recognise(diffusion)
    host_class = type(model.model.model_config).__name__
    paths = tuple(path for path, _ in diffusion.named_modules())
    names = list(dict.fromkeys([*model_file(model), *files]))
    name = architecture.name if architecture else ""
    return preferences(ModelFacts(name, host_class, paths, names), distilled)


def shifted(model: Any, likes: Preferences) -> Any:
    """The MODEL with its family's shift of the noise levels, where ComfyUI's own is another and no node has set one."""
    shift = likes.drawing.shift
    if not shift or MODEL_SAMPLING in model.object_patches:
        return model
    own = model.get_model_object(MODEL_SAMPLING)
    sampling = piece("comfy_extras.nodes_model_advanced:ModelSamplingSD3")
    return sampling().patch(model, shift, getattr(own, "multiplier", 1.0))[0]


def guided(conditioning: Any, guidance: float) -> Any:
    """The CONDITIONING with that guidance where it has none, as FluxGuidance sets it."""
    if not guidance:
        return conditioning
    return [[text, {"guidance": guidance} | extra] for text, extra in conditioning]


def empty_latent(model: Any, likes: Preferences) -> dict[str, torch.Tensor]:
    """A square LATENT of the family's size; of a video model a single frame. SliderError for a model of sound."""
    latent_format = model.model.latent_format
    message = f"{likes.title} makes no pictures whose size is known: connect latent_image to Slider Sampling."
    need(latent_format.latent_dimensions > 1, message, "sampling.no_size")
    side = max(1, likes.size // latent_format.spacial_downscale_ratio)
    frames = [1] * (latent_format.latent_dimensions - 2)
    return {"samples": torch.zeros(1, latent_format.latent_channels, *frames, side, side)}
