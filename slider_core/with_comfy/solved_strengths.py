"""Strengths of several sliders on one MODEL, solved so that each does what it does alone (use/interference.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..backend import Conditioning
from ..config.checks import need
from ..lora.calibration import Units
from ..lora.slider_file import Slider
from ..use.interference import solve
from ..use.sampling import SamplingRequest
from .model_backend import ComfyBackend
from .sampling import first_latent
from .sampling_request import sampling_on_model

IN_CONTROLNET = (
    "Strengths are solved for sliders of the diffusion model: take the slider of a ControlNet off, or disconnect sampling."
)


def solved_strengths(
    model: Any, sliders: Sequence[Slider], strengths: Sequence[float], request: SamplingRequest, units: Units | str
) -> tuple[list[float], str]:
    """(the strengths, a line for each slider), measured at the request's prompt and size. A slider that has no effect at its
    strength keeps it; fewer than two others are as they were."""
    solved = list(strengths)
    weights = []
    for slider, strength in zip(sliders, strengths, strict=True):
        weights.append(slider.info.lora_weight(strength, units) if strength else 0.0)
    acting = [place for place, weight in enumerate(weights) if weight]
    if len(acting) < 2:
        return solved, ""
    need(not any(sliders[place].info.in_controlnet for place in acting), IN_CONTROLNET, "stack.controlnet")
    asked = sampling_on_model(request, model)
    backend = ComfyBackend(asked.model)
    backend.few_steps = asked.likes.few_steps
    backend.load()  # a DoRA reads its weights
    shape = first_latent(asked.model, asked.sampling).shape[1:]
    adapters = [backend.adapter(sliders[place]) for place in acting]
    names = [sliders[place].info.name or f"slider_{place + 1}" for place in acting]
    cond = Conditioning(request.prompt, asked.sampling.positive)
    result = solve(backend, adapters, [weights[place] for place in acting], cond, shape)
    for place, factor in zip(acting, result.strengths, strict=True):
        solved[place] = strengths[place] * factor
    return solved, result.summary(names)
