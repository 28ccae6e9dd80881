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
from .sampling_request import on_model

IN_CONTROLNET = (
    "Strengths are solved for sliders of the diffusion model: take the slider of a ControlNet off, or disconnect sampling."
)


def solved_strengths(
    model: Any, sliders: Sequence[Slider], strengths: Sequence[float], request: SamplingRequest, units: Units | str
) -> tuple[list[float], str]:
    """(the strengths, a line for each slider), measured at the request's prompt and size. A slider at 0 stays there; fewer than
    two others are as they were."""
    solved = list(strengths)
    acting = [place for place, strength in enumerate(strengths) if strength]
    if len(acting) < 2:
        return solved, ""
    need(not any(sliders[place].info.in_controlnet for place in acting), IN_CONTROLNET, "stack.controlnet")
    asked = on_model(request, model)
    backend = ComfyBackend(asked.model)
    backend.load()  # a DoRA reads its weights
    shape = first_latent(asked.model, asked.sampling).shape[1:]
    adapters = []
    weights = []
    names = []
    for place in acting:
        info = sliders[place].info
        adapters.append(backend.adapter(sliders[place]))
        weights.append(info.lora_weight(strengths[place], units))
        names.append(info.name or f"slider_{place + 1}")
    found = solve(backend, adapters, weights, Conditioning(request.prompt, asked.sampling.positive), shape)
    for place, factor in zip(acting, found.strengths, strict=True):
        solved[place] = strengths[place] * factor
    return solved, found.summary(names)
