"""One description of a sampling, for the live preview, the sweep and the prompt library alike.

In: what a KSampler is given. Out: an immutable description; another prompt or seed is `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sampling:
    """Prompts, size, noise and sampler settings. `positive`, `negative` and `latent` are the host's own objects.

    `most_at_once`: strengths in one sampling call; 0: as many as the free memory holds.
    """

    positive: Any
    negative: Any
    latent: Mapping[str, Any]
    seed: int = 0
    steps: int = 20
    cfg: float = 1.0
    sampler: str = "euler"
    scheduler: str = "simple"
    denoise: float = 1.0
    most_at_once: int = 0
