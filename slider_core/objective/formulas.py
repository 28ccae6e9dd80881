"""The objectives: what each wants the model to predict with the slider attached. One formula, one function, one registry.

x is the noised latent, v(x, s) the model's prediction with the slider at strength s, v0 = v(x, 0) the frozen model's, v* the
right prediction, all in the model's own prediction space (eps, v or flow). D = positive - negative, a pair's difference; k turns
a change of the clean latent into one of the prediction (noising.py). A pair shares noise and noise level in all but rotating.

    denoise_rotating    |v(x, s) - v*|^2, one sign a step, noise of its own for each image
                        SimpleTuner's slider targeting
    denoise_paired      the same, a positive (+s) and its negative (-s) in one step, so what they have in common cancels
                        Gandikota et al. 2023, "Concept Sliders", visual sliders
    teacher_difference  |v(x-, +1) - v0(x-) - k D|^2, and the reverse from the positive: on the noised *other* image the slider
                        must predict this one                               TrainTrain's ADDifT and its kin
    displacement        the same with (1 - c^3) D / 2, where c = <D0, D> / <D, D> is the share of D that the frozen model still
                        sees through the noise, D0 the difference of its two estimates of the clean images. With little noise
                        (c near 1) the picture is decided and a slider could only paint over it; where it is open, each side
                        is asked for half of the difference. The exponent was measured (docs/benchmarks.md).

To add an objective: a name in config/training.py, its function here, its line in FORMULAS. Text sliders: prompt_targets.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..backend import Backend, per_sample
from ..config.training import Objective, TrainSpec
from ..encode.noised import Noised, predict
from .batch import Batch

HALF = 0.5  # of the pair's difference: what one side is away from the middle
DECIDED = 3  # exponent: 1 - visible^DECIDED of a picture is still open
JITTER = 1 / 16  # share of the side by which displacement moves a pair at random


@dataclass(frozen=True)
class TrainingTarget:
    """With the slider attached the model is to predict `prediction` at the noised latents of `at`, in the prediction space.
    `base`: what the frozen model predicts there, where that is known."""

    at: Noised
    prediction: torch.Tensor
    base: torch.Tensor | None = None


@dataclass(frozen=True)
class Formula:
    """An objective. `from_base(backend, batch, share)` measures the target from the frozen model's prediction on aligned pairs;
    `share`: twice the part of the way between the two images that belongs to this side's strength. Without it, and for
    other images, the images themselves are the target. `jitter`: how far a pair is moved at random unless the spec says."""

    from_base: Callable[[Backend, Noised, torch.Tensor], TrainingTarget] | None = None
    jitter: float = 0.0


@torch.no_grad()
def teacher_difference(backend: Backend, batch: Noised, share: torch.Tensor) -> TrainingTarget:
    """From the other image the whole way to this one."""
    other = batch.swapped()
    base = predict(backend, other)
    return TrainingTarget(other, base + other.scale * share * (batch.latent - other.latent), base)


@torch.no_grad()
def displacement(backend: Backend, batch: Noised, share: torch.Tensor) -> TrainingTarget:
    """From the other image half of the way to this one, as far as the noise leaves it open."""
    other = batch.swapped()
    base = predict(backend, other)
    still_open = 1 - visible_share(other, base).pow(DECIDED).repeat(2, *[1] * (base.ndim - 1))
    return TrainingTarget(other, base + other.scale * share * HALF * still_open * (batch.latent - other.latent), base)


def visible_share(batch: Noised, base: torch.Tensor) -> torch.Tensor:
    """(B / 2, 1, ..., 1) the share of each pair's difference that the frozen model still sees through the noise, 0 to 1.

    Row i and row B / 2 + i are a pair, in either order; `base` is the frozen model's prediction.
    """
    estimate = batch.latent + (base - batch.right) / batch.scale
    first, second = estimate.chunk(2)
    clean, other_clean = batch.latent.float().chunk(2)
    apart = clean - other_clean
    return (_inner(first - second, apart) / _inner(apart, apart).clamp_min(1e-12)).clamp(0, 1)


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B, 1, ..., 1) sum of products over all but the batch."""
    return per_sample((a * b).flatten(1).sum(dim=1), a)


FORMULAS: dict[Objective, Formula] = {
    Objective.DISPLACEMENT: Formula(displacement, JITTER),
    Objective.DENOISE_PAIRED: Formula(),
    Objective.DENOISE_ROTATING: Formula(),
    Objective.TEACHER_DIFFERENCE: Formula(teacher_difference),
}


def from_base(drawn: Batch, spec: TrainSpec) -> bool:
    """Whether the batch is measured from the frozen model's prediction. Images that do not line up cannot be."""
    return drawn.text_slider or (FORMULAS[spec.objective].from_base is not None and (drawn.aligned or drawn.neutral))


def training_target(backend: Backend, batch: Noised, drawn: Batch, spec: TrainSpec) -> TrainingTarget:
    """What `spec.objective` wants of the slider on a batch of images."""
    formula = FORMULAS[spec.objective].from_base
    if formula is None or not from_base(drawn, spec):
        return TrainingTarget(batch, batch.right)
    return formula(backend, batch, shares_of(drawn.strengths, batch.x))


def shares_of(strengths: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    """(B, 1, ..., 1) for a `Formula`: twice the part that each row's strength has of the way between its pair's."""
    strength = torch.tensor(strengths, device=like.device).abs()
    span = strength + strength.roll(len(strength) // 2)  # from the negative's strength to the positive's
    return per_sample(2 * strength / span, like)
