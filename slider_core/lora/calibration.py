"""What a slider's file says of its strengths: which one shows what the training images show."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

MOST_UNIT = 1e6

Curve = tuple[tuple[float, float], ...]


class Units(str, Enum):
    """What a strength counts: the images' own effect, or the number that a LoRA loader takes."""

    CALIBRATED = "calibrated"
    RAW = "raw"


@dataclass(frozen=True)
class CalibrationInfo:
    """LoRA weights at which a slider shows its images. `unit` serves both sides; `minus` and `plus` are the best of each side,
    their curves are (LoRA weight, explained share); `asymmetry` is how many times more the weaker side needs."""

    calibrated: bool = False
    strength_1: str = "what the images were trained at"
    unit: float = 1.0
    passes: int = 0  # forward passes that the measurement took
    minus: float | None = None
    plus: float | None = None
    minus_curve: Curve = ()
    plus_curve: Curve = ()
    asymmetry: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, as the header has them."""
        fields: dict[str, Any] = {"calibrated": self.calibrated, "strength_1": self.strength_1}
        if self.passes:
            fields["passes"] = self.passes
        if self.calibrated or self.passes:
            fields["unit"] = self.unit
        for name in ("minus", "plus", "minus_curve", "plus_curve", "asymmetry"):
            if getattr(self, name):
                fields[name] = getattr(self, name)
        return fields

    @classmethod
    def from_json(cls, text: str) -> CalibrationInfo:
        """ValueError or another fault of Python's own where the text is none."""
        fields = json.loads(text)
        calibration = cls(
            calibrated=bool(fields.get("calibrated")),
            strength_1=str(fields.get("strength_1", cls.strength_1)),
            unit=float(fields.get("unit", 1.0)),
            passes=int(fields.get("passes", 0)),
            minus=_number(fields.get("minus")),
            plus=_number(fields.get("plus")),
            minus_curve=_curve(fields.get("minus_curve", [])),
            plus_curve=_curve(fields.get("plus_curve", [])),
            asymmetry=_number(fields.get("asymmetry")),
        )
        if calibration.calibrated and not (math.isfinite(calibration.unit) and 0 < calibration.unit < MOST_UNIT):
            raise ValueError(f"unit {calibration.unit}")
        return calibration


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _curve(points: Any) -> Curve:
    return tuple((float(weight), float(share)) for weight, share in points)
