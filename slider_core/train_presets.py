"""Three choices of how long and how carefully to train, for those who don't want to choose each field.

A preset leaves the learning rate, the optimizer and the objective alone: what they should be depends on the model.
docs/training.md says what was measured of them.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from .config import Optimizer, Schedule, TrainSpec


class TrainPreset(str, Enum):
    """How long and how carefully to train; custom: as each field says."""

    CUSTOM = "custom"
    QUICK = "quick"
    BALANCED = "balanced"
    CAREFUL = "careful"


_PLAIN = {"batch": 4, "warmup": 10, "schedule": Schedule.COSINE, "accumulate": 1, "ema": 0.0}
PRESETS: dict[TrainPreset, dict[str, Any]] = {
    TrainPreset.QUICK: {"steps": 100, **_PLAIN},
    TrainPreset.BALANCED: {name: getattr(TrainSpec, name) for name in ("steps", *_PLAIN)},
    TrainPreset.CAREFUL: {"steps": 600, **_PLAIN, "ema": 0.99},
}


def preset_fields(preset: TrainPreset, optimizer: Optimizer = Optimizer.ADAMW) -> dict[str, Any]:
    """The fields of a TrainSpec that `preset` sets; none with custom. Schedule-Free averages by itself, so it gets no EMA."""
    fields = PRESETS.get(preset, {})
    free = optimizer is Optimizer.SCHEDULE_FREE
    return {name: value for name, value in fields.items() if not (free and name == "ema")}
