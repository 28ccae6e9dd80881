"""What a slider's file says of its strengths: which one shows what the training images show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from ..config.checks import as_tuple, is_number, parse_json

MOST_UNIT = 1e6
WORKS = "works"  # the verdict of a slider whose range was found to be useful
Curve = tuple[tuple[float, float], ...]


class Units(str, Enum):
    """What a strength counts: the images' own effect; places of a dial whose steps look even (even_steps.py); the number that a
    LoRA loader takes."""

    CALIBRATED = "calibrated"
    EVEN_STEPS = "even_steps"
    RAW = "raw"


def is_trusted(judged: str) -> bool:
    """Whether a slider with that verdict in its file was judged to work, or by nobody."""
    return judged in ("", WORKS)


@dataclass(frozen=True)
class CalibrationInfo:
    """LoRA weights at which a slider shows its images. `unit` serves both sides; `minus` and `plus` are the best of each side,
    their curves are (LoRA weight, explained share); `asymmetry` is how many times more the weaker side needs."""

    calibrated: bool = False
    strength_1: str = "what the images were trained at"
    unit: float | None = None
    passes: int | None = None  # forward passes that the measurement took
    drawn: float | None = None  # share of the images that strength 1 draws, from -1 to +1
    minus: float | None = None
    plus: float | None = None
    minus_curve: Curve | None = None
    plus_curve: Curve | None = None
    asymmetry: float | None = None
    useful: bool = True  # whether the slider was judged to be worth a range of strengths
    by_hand: bool = False  # whether a person has written the range down

    @property
    def lora_weight(self) -> float:
        """The LoRA weight of strength 1."""
        return self.unit if self.calibrated and self.unit else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The fields that say something, as the header has them."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, text: str) -> CalibrationInfo:
        """ValueError or another fault of Python's own where the text is none."""
        values = parse_json(text, "calibration", "calibration.not_json").items()
        calibration = cls(**{name: as_tuple(value) for name, value in values if name in cls.__dataclass_fields__})
        unit = calibration.unit
        if unit is not None and not (is_number(unit) and 0 < unit < MOST_UNIT):
            raise ValueError(f"unit {unit}")
        return calibration
