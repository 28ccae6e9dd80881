"""One description of a sampling, for the live preview, the sweep and the prompt library alike.

In: what a KSampler is given, with 0 and "auto" for what the model likes. Out: an immutable description; another prompt or seed
is `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..families.distilled import Distilled
from ..families.table import Preferences
from .plot_video import FPS
from .prompt_library import PromptLibrary

AUTO = "auto"


@dataclass(frozen=True)
class Sampling:
    """Prompts, size, noise and sampler settings. `positive`, `negative` and `latent` are the host's own objects.

    `most_at_once`: strengths in one sampling call; 0: as many as the free memory holds. `fps`: frames a second of a video.
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
    fps: float = FPS


@dataclass(frozen=True)
class SamplerSettings:
    """The sampler's own settings, of which 0 and "auto" are left to the model."""

    steps: int = 0
    cfg: float = 0.0
    sampler_name: str = AUTO
    scheduler: str = AUTO

    def for_model(self, likes: Preferences) -> SamplerSettings:
        """With the model's preferences in the place of 0 and "auto"."""
        drawing = likes.drawing
        return SamplerSettings(
            self.steps or drawing.steps,
            self.cfg or drawing.cfg,
            drawing.sampler if self.sampler_name == AUTO else self.sampler_name,
            drawing.scheduler if self.scheduler == AUTO else self.scheduler,
        )

    def summary(self, likes: Preferences) -> str:
        """What the model's family chose, in one sentence; empty where a person chose everything."""
        drawing = likes.drawing
        chosen = []
        if not self.steps:
            chosen.append(f"{drawing.steps} step{'s' if drawing.steps > 1 else ''}")
        if not self.cfg:
            chosen.append(f"cfg {drawing.cfg:g}")
        if self.sampler_name == AUTO:
            chosen.append(drawing.sampler)
        if self.scheduler == AUTO:
            chosen.append(drawing.scheduler)
        if not chosen:
            return ""
        return f"Drawn as {likes.title} likes it: {', '.join(chosen)}."


@dataclass(frozen=True)
class SamplingRequest:
    """What a person chose of a sampling, before the model is known: the strip of a training and a sweep are drawn by it.

    `positive`, `negative`, `latent`: the host's objects, or None: `prompt`, an empty prompt, the family's size. `clip` encodes
    the prompts. `library`: prompts in the place of `positive`.
    """

    settings: SamplerSettings = SamplerSettings()
    prompt: str = ""
    seed: int = 0
    positive: Any = None
    negative: Any = None
    latent: Mapping[str, Any] | None = None
    clip: Any = None
    library: PromptLibrary | None = None
    distilled: Distilled = Distilled.AUTO
