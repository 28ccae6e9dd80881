"""How well a slider explains the images of both sides at any strength, on common noise that no step was trained on.

The error is that of the clean latent, read at two noise levels where the frozen model has nearly lost sight of what the images
differ in, so that the slider decides it; of a distilled model at the nearest of the levels at which it is called. Every noise
comes with its mirror image. Forward passes only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..backend import Backend, seeded
from ..config.checks import SliderError, need
from ..encode.called_levels import called_levels, nearest_levels
from ..encode.encoder import Sample, pairs_of
from ..encode.noised import Noised, at_levels, predict
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..objective.formulas import visible_share
from ..objective.prompt_targets import measured_on, own_prompt_predictions
from ..objective.step_loss import clean_error

VISIBLE = (0.35, 0.15)  # share of a pair's difference that the model sees through the noise at the levels that are read
UNSEEN = 0.05  # where a distilled model sees less, what explains the images best says nothing of what is drawn
TRIED_LEVELS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # positions in the noise schedule where that is looked up
UNALIGNED_LEVELS = (0.6, 0.8)  # the levels for images that do not line up
TEXT_LEVELS = (0.6, 0.8)  # and for text sliders
IMAGES, NOISES, ROWS = 6, 8, 8  # images per side, noises per image and level, samples per pass
READINGS = 7  # that a calibration mostly takes: the base model's, and six strengths

Couple = tuple[Sample, Sample]  # positive and negative


@dataclass(frozen=True)
class _Row:
    """A couple with the noise level and the noise that its two samples share."""

    couple: Couple
    level: float
    noise: torch.Tensor


def _couples(samples: Sequence[Sample]) -> list[Couple]:
    """(positive, negative) of one shape: the pairs, else both sides in their order."""
    pairs = [(pair[0], pair[1]) for pair in pairs_of(samples) if len(pair) == 2]
    if pairs:
        return pairs[:IMAGES]
    positives = [s for s in samples if s.strength > 0]
    negatives = [s for s in samples if s.strength < 0]
    for side, name in ((positives, "positive"), (negatives, "negative")):
        need(bool(side), f"Calibration needs {name} images, and the dataset has none: add some.", "calibration.one_side")
    couples: list[Couple] = []
    for positive in positives[:IMAGES]:
        same = [negative for negative in negatives if negative.latent.shape == positive.latent.shape]
        if same:
            couples.append((positive, same[len(couples) % len(same)]))
    if not couples:
        message = "Calibration needs a positive and a negative image of one size, and the dataset has none: add one."
        raise SliderError(message, "calibration.sizes")
    return couples


def _noised(backend: Backend, rows: Sequence[_Row]) -> Noised:
    """The positives of the rows, then their negatives."""
    samples = [row.couple[0] for row in rows] + [row.couple[1] for row in rows]
    latent = torch.stack([s.latent for s in samples]).to(backend.device)
    noise = torch.stack([row.noise for row in rows] * 2).to(backend.device)
    sigma = backend.sigmas(torch.tensor([row.level for row in rows] * 2, device=backend.device))
    batch = at_levels(backend, latent, noise, sigma, [s.cond for s in samples], [s.mask for s in samples])
    return batch if samples[0].prompt_pair is None else own_prompt_predictions(backend, batch, samples)


def _passes(rows: Sequence[_Row]) -> list[Sequence[_Row]]:
    """The rows in passes: of one size, and no more than ROWS samples."""
    by_shape: dict[torch.Size, list[_Row]] = {}
    for row in rows:
        by_shape.setdefault(row.couple[0].latent.shape, []).append(row)
    passes: list[Sequence[_Row]] = []
    for same in by_shape.values():
        passes += [same[at : at + ROWS // 2] for at in range(0, len(same), ROWS // 2)]
    return passes


def _levels(visible_by_level: Mapping[float, float]) -> tuple[float, ...]:
    """The noise levels where the model sees the shares VISIBLE, between those that were looked up; less with more noise."""
    known: list[tuple[float, float]] = []
    lowest = 1.0
    for level, share in sorted(visible_by_level.items()):
        lowest = min(lowest, share)
        known.append((level, lowest))
    levels = []
    for wanted in VISIBLE:
        at = known[-1][0] if known[-1][1] > wanted else known[0][0]
        for (a, share_a), (b, share_b) in itertools.pairwise(known):
            if share_a >= wanted > share_b:
                at = a + (b - a) * (share_a - wanted) / (share_a - share_b)
        levels.append(round(at, 3))
    return tuple(levels)


OnPass = Callable[[int, int], None]  # called with the number of passes done, and about how many there will be


class PassCount:
    """Counts forward passes of the model and tells each; an exception out of `on_pass` ends what is measured. `expected`: about
    how many there will be."""

    def __init__(self, on_pass: OnPass | None, count: int = 0, expected: int = 0) -> None:
        self.count = count
        self.expected = expected
        self._on_pass = on_pass

    def __call__(self) -> None:
        self.count += 1
        if self._on_pass:
            self._on_pass(self.count, max(self.count, self.expected))


def _expected(couples: int) -> int:
    """About how many forward passes a calibration takes that looks for its levels first."""
    rows = couples * (len(TRIED_LEVELS) + READINGS * len(VISIBLE) * NOISES)
    return rows // (ROWS // 2)


class ErrorMeter:
    """Errors of both sides on fixed noise, or of the plus side alone (`one_way`). `passed` counts forward passes."""

    def __init__(
        self,
        backend: Backend,
        adapter: Adapter,
        samples: Sequence[Sample],
        seed: int,
        on_pass: OnPass | None,
        one_way: bool = False,
    ) -> None:
        self.backend = backend
        self.adapter = adapter
        couples = _couples(measured_on(samples))
        self.passed = PassCount(on_pass, expected=_expected(len(couples)))
        self.levels = self._levels_for(couples, called_levels(backend.few_steps))
        generator = seeded(seed, "calibration")
        rows = []
        for couple in couples:
            for level in self.levels * (NOISES // len(self.levels)):
                noise = torch.randn(couple[0].latent.shape, generator=generator)
                rows += [_Row(couple, level, noise), _Row(couple, level, -noise)]
        self._count = len(rows)
        both = [_noised(backend, part) for part in _passes(rows)]
        self._batches = [batch.rows(range(len(batch.latent) // 2)) for batch in both] if one_way else both
        self.expect(READINGS)

    def _levels_for(self, couples: Sequence[Couple], called: Sequence[float]) -> tuple[float, ...]:
        """Of a distilled model those of `called`, one or two."""
        if couples[0][0].prompt_pair is not None:
            return nearest_levels(TEXT_LEVELS, called)
        if all(sample.aligned for couple in couples for sample in couple):
            return self._deciding_levels(couples, called)
        return nearest_levels(UNALIGNED_LEVELS, called)

    def _deciding_levels(self, couples: Sequence[Couple], called: Sequence[float]) -> tuple[float, ...]:
        """Where along the noise schedule the frozen model loses sight of what the couples differ in; of the levels `called` those
        nearest to there at which it sees anything of it, if there are any."""
        generator = seeded(0, "deciding")
        visible_by_level = {}
        for level in nearest_levels(TRIED_LEVELS, called):
            rows = [_Row(couple, level, torch.randn(couple[0].latent.shape, generator=generator)) for couple in couples]
            shares: list[float] = []
            for part in _passes(rows):
                batch = _noised(self.backend, part)
                shares += visible_share(batch, predict(self.backend, batch)).flatten().tolist()
                self.passed()
            visible_by_level[level] = sum(shares) / len(shares)
        seen = [level for level in called if visible_by_level.get(level, 0.0) > UNSEEN] or called
        return nearest_levels(_levels(visible_by_level), seen)

    def expect(self, readings: int) -> None:
        """So many are still to come."""
        self.passed.expected = self.passed.count + readings * len(self._batches)

    def errors(self, *strengths: float) -> list[float]:
        """Mean squared error of the clean latent of the positives at the first strength, and of the negatives at minus the second
        where there is one."""
        total = torch.zeros(len(strengths))
        for batch in self._batches:
            each = len(batch.latent) // len(strengths)
            rows = [sign * strength for sign, strength in zip((1, -1), strengths, strict=False) for _ in range(each)]
            with at_strength(self.adapter, self.backend.module, rows):
                total += clean_error(self.backend, batch).reshape(len(strengths), each).sum(dim=1).cpu()
            self.passed()
        return (total / self._count).tolist()
