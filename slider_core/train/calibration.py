"""What the strengths of a slider mean, as a measurement found it (calibration_search.py), and the slider rescaled by it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..layers.layer import Target
from ..lora.algorithm import LayerWeight
from ..lora.calibration import CalibrationInfo, Curve
from ..lora.info import SliderInfo

ENOUGH = 0.75  # of the images; a strength that draws more is said to show them
TOO_FLAT = 1e-4  # share of the error; a best strength that explains less explains nothing


@dataclass(frozen=True)
class Side:
    """One side: `best` strength (positive numbers on both sides), `end` of the useful range, and the curve: strength -> the
    share of the base model's error that is explained there."""

    best: float
    end: float
    curve: Curve

    @property
    def explained(self) -> float:
        """What is explained at the best strength."""
        return max(share for _, share in self.curve)


@dataclass(frozen=True)
class Calibration:
    """Both sides in strengths of the slider that was measured; None for a side that no strength explains. `passes`: forward
    passes of the model that it took. `weight_of_1`, `drawn`: the LoRA weight that was chosen as strength 1 and the share of the
    images that is drawn there; 0 and None where nothing was drawn. `proven`: not where what is drawn could not show it."""

    plus: Side | None
    minus: Side | None
    passes: int
    shown: str = "the images"  # what strength 1 shows
    weight_of_1: float = 0.0
    drawn: float | None = None
    one_way: bool = False  # there is no minus side
    proven: bool = True

    @property
    def unit(self) -> float:
        """The one number that a file can be rescaled by: as it was chosen, or else the geometric mean of both sides, or the side
        there is; 1 without."""
        if self.weight_of_1:
            return self.weight_of_1
        best = [side.best for side in (self.plus, self.minus) if side]
        return math.prod(best) ** (1 / len(best)) if best else 1.0

    @property
    def asymmetry(self) -> float | None:
        """How many times more strength the weaker side needs."""
        if not self.plus or not self.minus:
            return None
        return max(self.plus.best, self.minus.best) / min(self.plus.best, self.minus.best)

    def summary(self, useful: bool = True, proven: bool = True) -> str:
        """One line for the user. `useful`: whether the slider is worth a range of strengths; `proven`: whether it works."""
        if not self.plus and not self.minus:
            return f"Not calibrated: at no strength does it explain {self.shown} better than the base model."
        if not useful:
            return "" if self.drawn is None else f"Strength 1 draws {_about(self.drawn)}{self.shown}."
        sides = [f"{sign}{side.best:.2f}" for sign, side in (("+", self.plus), ("-", self.minus)) if side]
        ends = ["0"] if self.one_way else []
        ends += [f"{sign}{side.end / self.unit:.1f}" for sign, side in (("-", self.minus), ("+", self.plus)) if side]
        one = ""
        if not self.one_way and not (self.plus and self.minus):
            one = f" Only the {'plus' if self.plus else 'minus'} side could be calibrated."
        best = f"best at {' and '.join(sides)} as trained"
        span = ("useful range " if proven else "to try: ") + " to ".join(ends)
        return f"Strength 1 = {self._share()}{self.shown}{self._doubt()} ({best}); {span}.{one}"

    def _end(self, side: Side | None) -> float:
        """Where the useful range of a side ends, as a calibrated strength; 0 of a side that was not calibrated."""
        return round(side.end / self.unit, 3) if side else 0.0

    def _share(self) -> str:
        """How much of the images strength 1 draws, where that is no more than three quarters."""
        return "" if self.drawn is None or self.drawn > ENOUGH else _about(self.drawn)

    def _doubt(self) -> str:
        return "" if self.proven else ", not proven"

    def described(self, info: SliderInfo, unit: float, useful: bool = True) -> SliderInfo:
        """What a file says of itself whose LoRA weight 1 does what `unit` did when measured: all in weights of that file but the
        range, which is in calibrated strengths. Of a slider that is not `useful` it stays the one that it was trained at."""
        minus, minus_curve = _in_units(self.minus, unit)
        plus, plus_curve = _in_units(self.plus, unit)
        works = self.plus is not None or self.minus is not None
        share = self._share() if useful or self.drawn is None else _about(self.drawn)
        calibration = CalibrationInfo(
            calibrated=works,
            useful=useful,
            strength_1=f"{share}what {self.shown} show{self._doubt()}" if works else f"what {self.shown} were trained at",
            unit=self.unit / unit,
            passes=self.passes,
            drawn=self.drawn,
            minus=minus,
            plus=plus,
            minus_curve=minus_curve,
            plus_curve=plus_curve,
            asymmetry=round(self.asymmetry, 4) if self.asymmetry else None,
        )
        span = (0.0 - self._end(self.minus), self._end(self.plus)) if works and useful else info.range
        return replace(info, calibration=calibration, range=span, even_steps=None)  # which were of other strengths


def _about(share: float) -> str:
    return f"about {max(0.0, share):.0%} of ".replace("%", " %")


def _in_units(side: Side | None, unit: float) -> tuple[float | None, Curve | None]:
    """(best strength, curve) of a side, in units."""
    if side is None:
        return None, None
    curve = tuple((round(strength / unit, 4), round(share, 5)) for strength, share in side.curve)
    return side.best / unit, curve


def calibrated(
    weights: Mapping[Target, LayerWeight], info: SliderInfo, calibration: Calibration, useful: bool = True
) -> tuple[dict[Target, LayerWeight], SliderInfo]:
    """A slider after its calibration, its strength 1 the unit. A DoRA's weights cannot be rescaled, so there `info` alone says
    which strengths are +1 and -1. `useful`: as in Calibration.described."""
    unit = 1.0 if any(weight.is_dora for weight in weights.values()) else calibration.unit
    rescaled = dict(weights)
    if unit != 1:
        for target, weight in weights.items():
            rescaled[target] = weight.scaled(unit)
    return rescaled, calibration.described(info, unit, useful)
