"""How far a slider moves what the model draws, against how far the two images of a pair lie apart.

Latents are drawn from the same noise at both ends, in a few steps. Their distance, over the distance of the two sides' images, is
1 where the slider shows what the images show; near 0 three strengths give one picture; several times 1 the pictures are burnt.
How much of that way leads along the images' own difference tells a slider that draws the concept from one that draws
anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..backend import Backend, seeded
from ..encode.encoder import Sample, pairs_of
from ..encode.text_latents import make_latents
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..objective.prompt_targets import measured_on

NOISES, STEPS = 4, 6


@dataclass(frozen=True)
class Drawn:
    """`distance` between the latents drawn at both ends, in distances of a pair's images (of both ends' predictions for prompts:
    None); `contrast`: the standard deviation of what is drawn at the ends over that at strength 0."""

    distance: float | None
    contrast: float


@torch.no_grad()
def drawn_effect(backend: Backend, adapter: Adapter, samples: Sequence[Sample], strength: float, seed: int = 0) -> Drawn:
    """Draw at `strength` on both sides and at 0, with the captions of the images. Call inside `backend.borrowed()`.

    Cost: 3 NOISES x STEPS samples.
    """
    measured = measured_on(samples)
    shape = measured[0].latent.shape
    conds = [s.cond for s in measured if s.latent.shape == shape and s.strength > 0]
    latents: dict[float, list[torch.Tensor]] = {strength: [], 0.0: [], -strength: []}
    for number in range(NOISES):
        noise = torch.randn(1, *shape, generator=seeded(seed, f"drawn {number}"))
        for at, drawn in latents.items():
            with at_strength(adapter, backend.module, [at]):
                drawn.append(make_latents(backend, noise, conds[number % len(conds)], STEPS))
    plus, base, minus = (torch.cat(drawn) for drawn in latents.values())
    ends = torch.cat([plus, minus])
    contrast = float(ends.std() / base.std().clamp_min(1e-12))
    apart = _image_distance(measured)
    moved = float((plus - minus).flatten(1).norm(dim=1).mean())
    return Drawn(moved / apart if apart else None, contrast)


def _image_distance(samples: Sequence[Sample]) -> float:
    """The mean distance of the two latents of a pair; 0 where there are no pairs that line up."""
    apart = []
    for pair in pairs_of([s for s in samples if s.prompt_pair is None and s.aligned]):
        if len(pair) == 2:
            apart.append(float((pair[0].latent - pair[1].latent).norm()))
    return sum(apart) / len(apart) if apart else 0.0
