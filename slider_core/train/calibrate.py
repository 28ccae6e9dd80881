"""What a strength means. After training the strength is found, on each side, that best explains the images of that side; their
geometric mean becomes the unit, so that +1 is the positive images and -1 the negative ones.

Along the strength the error of the predicted clean image is nearly a parabola. It is read at a few strengths on common noise
that no step was trained on (each noise comes with its mirror image), forward passes only, at two noise levels where the frozen
model has nearly lost sight of what the images differ in, and the slider decides it. Where the parabola meets strength 0 again the
slider begins to harm: the end of its useful range.

One unit serves both sides. What the base model misses on both images of a pair alike (they share their noise) pulls the two
sides apart and their geometric mean hardly at all: drawn pictures are more even at one unit than at a unit for each side, and two
noises agree better on it (docs/benchmarks.md).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from ..backend import Backend, seeded
from ..config.checks import SliderError
from ..encode.encoder import Sample, pairs_of
from ..encode.noised import Noised, at_levels, predict
from ..layers.layer import Target
from ..lora.algorithm import LayerWeight
from ..lora.calibration import CalibrationInfo, Curve
from ..lora.info import SliderInfo
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..objective.prompt_targets import measured_on, own_prompt_predictions
from ..objective.step_loss import clean_error, seen

SEEN = (0.35, 0.15)  # how much of a pair's difference the model sees through the noise at the levels that are read
TRIED_LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # positions in the noise schedule where that is looked up
UNALIGNED = (0.6, 0.8)  # and the levels for images that do not line up
TEXT_LEVELS = (0.6, 0.8)  # and for words
IMAGES, NOISES, ROWS = 6, 8, 8  # images per side, noises per image and level, samples per pass
FIRST = (0.5, 1.0, 2.0)  # strengths that are tried, in units that double or halve until the best lies between them
AROUND = (1.0, 1.5, 3.0)  # of the best strength: for the gain there, the curve and the end of the range
DOUBLINGS = 7
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
    passes of the model that it took, of at most ROWS samples."""

    plus: Side | None
    minus: Side | None
    passes: int
    shown: str = "the images"  # what strength 1 shows

    @property
    def unit(self) -> float:
        """The one number that a file can be rescaled by: the geometric mean of both sides, or the side there is; 1 without."""
        best = [side.best for side in (self.plus, self.minus) if side]
        return math.prod(best) ** (1 / len(best)) if best else 1.0

    @property
    def asymmetry(self) -> float | None:
        """How many times more strength the weaker side needs."""
        if not self.plus or not self.minus:
            return None
        return max(self.plus.best, self.minus.best) / min(self.plus.best, self.minus.best)

    def summary(self) -> str:
        """One line for the user."""
        if not self.plus and not self.minus:
            return f"Not calibrated: at no strength does it explain {self.shown} better than the base model."
        sides = [f"{sign}{side.best:.2f}" for sign, side in (("+", self.plus), ("-", self.minus)) if side]
        ends = [f"{sign}{side.end / self.unit:.1f}" for sign, side in (("-", self.minus), ("+", self.plus)) if side]
        one = "" if self.plus and self.minus else f" Only the {'plus' if self.plus else 'minus'} side could be calibrated."
        return f"Strength 1 = {self.shown} (best at {' and '.join(sides)} as trained); useful range {' to '.join(ends)}.{one}"

    def described(self, info: SliderInfo, unit: float) -> SliderInfo:
        """What a file says of itself whose strength 1 does what `unit` did when measured: all in strengths of that file."""
        low, minus, minus_curve = _in_units(self.minus, unit)
        high, plus, plus_curve = _in_units(self.plus, unit)
        works = self.plus is not None or self.minus is not None
        calibration = CalibrationInfo(
            calibrated=works,
            strength_1=f"what {self.shown} show" if works else f"what {self.shown} were trained at",
            unit=self.unit / unit,
            passes=self.passes,
            minus=minus,
            plus=plus,
            minus_curve=minus_curve,
            plus_curve=plus_curve,
            asymmetry=round(self.asymmetry, 4) if self.asymmetry else None,
        )
        return replace(info, calibration=calibration, range=(0.0 - low, high) if works else info.range)


def _in_units(side: Side | None, unit: float) -> tuple[float, float | None, Curve]:
    """(end of the useful range, best strength, curve) of a side, in units."""
    if side is None:
        return 0.0, None, ()
    curve = tuple((round(strength / unit, 4), round(share, 5)) for strength, share in side.curve)
    return round(side.end / unit, 3), side.best / unit, curve


def _couples(samples: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """(positive, negative) of one shape: the pairs, else both sides in their order."""
    pairs = [pair for pair in pairs_of(samples) if len(pair) == 2]
    if pairs:
        return pairs[:IMAGES]  # type: ignore[return-value]
    sides = [[s for s in samples if s.strength * sign > 0] for sign in (1, -1)]
    for side, name in zip(sides, ("positive", "negative"), strict=True):
        if not side:
            raise SliderError(f"Calibration needs {name} images, and the dataset has none.")
    found = []
    for positive in sides[0][:IMAGES]:
        same = [n for n in sides[1] if n.latent.shape == positive.latent.shape]
        found += [(positive, same[len(found) % len(same)])] if same else []
    if not found:
        raise SliderError("Calibration needs a positive and a negative image of one size, and the dataset has none.")
    return found


Row = tuple[tuple[Sample, Sample], float, torch.Tensor]  # a couple, the noise level and the noise that they share


def _noised(backend: Backend, rows: Sequence[Row]) -> Noised:
    """The positives of the rows, then their negatives."""
    samples = [couple[side] for side in (0, 1) for couple, _, _ in rows]
    latent = torch.stack([s.latent for s in samples]).to(backend.device)
    noise = torch.stack([noise for *_, noise in rows] * 2).to(backend.device)
    sigma = backend.sigmas(torch.tensor([level for _, level, _ in rows] * 2, device=backend.device))
    batch = at_levels(backend, latent, noise, sigma, [s.cond for s in samples], [s.mask for s in samples])
    return batch if samples[0].prompt_pair is None else own_prompt_predictions(backend, batch, samples)


def _parts(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """The rows in passes: of one size, and no more than ROWS samples."""
    found = []
    for shape in dict.fromkeys(couple[0].latent.shape for couple, _, _ in rows):
        same = [row for row in rows if row[0][0].latent.shape == shape]
        found += [same[at : at + ROWS // 2] for at in range(0, len(same), ROWS // 2)]
    return found


def _levels(seen_by_level: Mapping[float, float]) -> tuple[float, ...]:
    """The noise levels where the model sees the shares SEEN, between those that were looked up; seen less the more noise."""
    found, low = [], 1.0
    known = [(level, low := min(low, share)) for level, share in sorted(seen_by_level.items())]
    for wanted in SEEN:
        at = known[-1][0] if known[-1][1] > wanted else known[0][0]
        for (a, fa), (b, fb) in itertools.pairwise(known):
            if fa >= wanted > fb:
                at = a + (b - a) * (fa - wanted) / (fa - fb)
        found.append(round(at, 3))
    return tuple(found)


class _Meter:
    """Errors of both sides on fixed noise, at any strengths."""

    def __init__(
        self, backend: Backend, adapter: Adapter, samples: Sequence[Sample], seed: int, on_pass: Callable[[int], None] | None
    ) -> None:
        self.backend, self.adapter, self.passes, self._on_pass = backend, adapter, 0, on_pass
        generator, rows = seeded(seed, "calibration"), []
        couples = _couples(measured_on(samples))
        self.levels = self._levels(couples)
        for couple in couples:
            for level in self.levels * (NOISES // 2):
                noise = torch.randn(couple[0].latent.shape, generator=generator)
                rows += [(couple, level, noise), (couple, level, -noise)]
        self.count = len(rows)
        self.parts = [_noised(backend, part) for part in _parts(rows)]

    def _levels(self, couples: Sequence[tuple[Sample, Sample]]) -> tuple[float, ...]:
        if couples[0][0].prompt_pair is not None:
            return TEXT_LEVELS
        return self._deciding(couples) if all(s.aligned for couple in couples for s in couple) else UNALIGNED

    def _deciding(self, couples: Sequence[tuple[Sample, Sample]]) -> tuple[float, ...]:
        """Where along the noise schedule the base model loses sight of what the couples differ in."""
        generator, shares = seeded(0, "deciding"), {}
        for level in TRIED_LEVELS:
            rows = [(couple, level, torch.randn(couple[0].latent.shape, generator=generator)) for couple in couples]
            found = []
            for part in _parts(rows):
                batch = _noised(self.backend, part)
                found += seen(batch, predict(self.backend, batch)).flatten().tolist()
                self._passed()
            shares[level] = sum(found) / len(found)
        return _levels(shares)

    def _passed(self) -> None:
        self.passes += 1
        if self._on_pass:
            self._on_pass(self.passes)

    def errors(self, plus: float, minus: float) -> tuple[float, float]:
        """Mean squared error of the clean latent of (the positives at `plus`, the negatives at -`minus`)."""
        total = torch.zeros(2)
        for batch in self.parts:
            half = len(batch.latent) // 2
            with at_strength(self.adapter, self.backend.module, [plus] * half + [-minus] * half):
                total += clean_error(self.backend, batch).reshape(2, half).sum(dim=1).cpu()
            self._passed()
        return tuple((total / self.count).tolist())  # type: ignore[return-value]


def _valley(points: Sequence[tuple[float, float]]) -> float:
    """Where the parabola through three points has its lowest."""
    (a, fa), (b, fb), (c, fc) = points
    up, down = (b - a) * (fb - fc), (b - c) * (fb - fa)
    bend = up - down
    return b - ((b - a) * up - (b - c) * down) / (2 * bend) if bend else b


class _Search:
    """One side's strengths and errors so far; `wanted` is what to read next, none once the best lies between two of them."""

    def __init__(self, base: float) -> None:
        self.errors, self.unit, self.left, self.lost = {0.0: base}, 1.0, DOUBLINGS, False
        self.wanted = list(FIRST)

    def take(self, strength: float, error: float) -> None:
        """A reading; when it was the last that was wanted, see what to read next."""
        self.errors[strength] = error if math.isfinite(error) else math.inf
        self.wanted = [s for s in self.wanted if s not in self.errors]
        if self.wanted:
            return
        lowest, self.left = min(self.errors, key=lambda s: self.errors[s]), self.left - 1
        if 0 < lowest < max(self.errors):
            return
        if self.left <= 0:
            self.lost = True
            return
        self.unit *= 2 if lowest else 0.5
        self.wanted = [s for factor in FIRST if (s := factor * self.unit) not in self.errors]

    def best(self) -> float:
        at = sorted(self.errors)
        place = at.index(min(at, key=lambda s: self.errors[s]))
        if place in (0, len(at) - 1):
            return self.unit
        around = [(s, self.errors[s]) for s in at[place - 1 : place + 2]]
        return _valley(around) if all(math.isfinite(e) for _, e in around) else at[place]

    def side(self) -> Side | None:
        """What was found; None when no strength explains the images better than the base model does."""
        if self.lost:
            return None
        best, base = self.best(), self.errors[0.0]
        curve = tuple((s, 1 - e / base) for s, e in sorted(self.errors.items()) if math.isfinite(e) and s <= 4 * best)
        return Side(best, _end(curve, best), curve) if max(share for _, share in curve) >= TOO_FLAT else None


def _end(curve: Sequence[tuple[float, float]], best: float) -> float:
    """The first strength beyond the best one where nothing is explained any more, between two that were read."""
    for (a, fa), (b, fb) in itertools.pairwise(curve):
        if b > best and fb <= 0 < fa:
            return a + (b - a) * fa / (fa - fb)
    return curve[-1][0]


def _read(meter: _Meter, searches: Sequence[_Search], strengths: Sequence[float]) -> None:
    for search, strength, error in zip(searches, strengths, meter.errors(*strengths), strict=True):
        search.take(strength, error)


@torch.no_grad()
def calibrate(
    backend: Backend,
    adapter: Adapter,
    samples: Sequence[Sample],
    seed: int = 0,
    on_pass: Callable[[int], None] | None = None,
) -> Calibration:
    """Measure a slider on images of both sides. Raises SliderError when a side has none, or the weights are not finite.

    `on_pass` hears how many passes are done; an exception out of it ends the measurement.

    Cost: at each strength couples * levels * noises * 2 samples, in passes of ROWS; usually six strengths, and the base model at
    eight levels: about 180 passes for six pairs.
    """
    if not adapter.finite():
        raise SliderError("The slider's weights are not finite: train it anew at a lower learning rate.")
    with backend.borrowed():
        backend.prepare(adapter.paths, samples[0].latent, samples[0].cond)
        meter = _Meter(backend, adapter, samples, seed, on_pass)
        searches = [_Search(error) for error in meter.errors(0.0, 0.0)]
        while any(search.wanted for search in searches):
            _read(meter, searches, [search.wanted[0] if search.wanted else search.best() for search in searches])
        for factor in AROUND:
            _read(meter, searches, [factor * search.best() for search in searches])
        shown = "the images" if measured_on(samples)[0].prompt_pair is None else "the prompts"
        return Calibration(searches[0].side(), searches[1].side(), meter.passes, shown)


def calibrated(
    weights: Mapping[Target, LayerWeight], info: SliderInfo, calibration: Calibration
) -> tuple[dict[Target, LayerWeight], SliderInfo]:
    """A slider after its calibration, its strength 1 the unit. A DoRA's weights cannot be rescaled, so there `info` alone says
    which strengths are +1 and -1."""
    unit = 1.0 if any(weight.is_dora for weight in weights.values()) else calibration.unit
    rescaled = dict(weights)
    if unit != 1:
        for target, weight in weights.items():
            rescaled[target] = weight.scaled(unit)
    return rescaled, calibration.described(info, unit)
