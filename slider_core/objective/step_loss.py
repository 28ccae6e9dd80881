"""The mathematics of a step. One formula, one function; losses are per sample and the trainer reduces them.

x is the noised latent, v(x, s) the model's prediction with the slider at strength s, v0 = v(x, 0) the frozen model's, v* the
right answer, all in the model's own prediction space (eps, v or flow). D = positive - negative, a pair's difference; k turns a
change of the clean latent into one of the prediction (noising.py). A pair shares noise and noise level in all but rotating.

    denoise_rotating    |v(x, s) - v*|^2, one sign a step, noise of its own for each image
                        SimpleTuner's slider targeting
    denoise_paired      the same, a positive (+s) and its negative (-s) in one step, so what they have in common cancels
                        Gandikota et al. 2023, "Concept Sliders", visual sliders
    teacher_difference  |v(x-, +1) - v0(x-) - k D|^2, and the reverse from the positive: on the noised *other* image the slider
                        must ask for this one                                     TrainTrain's ADDifT and its kin
    displacement        the same with (1 - c^3) D / 2, where c = <D0, D> / <D, D> is the share of D that the frozen model still
                        sees through the noise, D0 the difference of its two estimates of the clean images. Where the picture
                        is decided (little noise, c near 1) a slider has nothing to say and would only paint over it; where it
                        is open, it asks for half of the difference on each side. The exponent was measured (docs/benchmarks.md).
        for strangers   images that do not line up have no D: they are trained as denoise_paired has it, at levels in the middle

    neutral             (|v(x, s) - v0|^2 + |v(x, -s) - v0|^2) / 2
                        Neutral images stay as they are: every third step, at a random strength s up to twice the images' own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..backend import Backend
from ..config.training import Objective, TrainSpec
from ..encode.noised import Noised, predict
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from .batches import Batch
from .noising import from_base, loss_weight, noised
from .prompt_targets import prompt_targets

HALF = 0.5  # of the pair's difference: what one side is away from the middle
DECIDED = 3  # how late a picture counts as decided: 1 - seen^DECIDED of it is open


@dataclass(frozen=True)
class StepResult:
    """Loss per sample (B,), differentiable, and the strengths they were taken at."""

    loss_B: torch.Tensor
    strengths: tuple[float, ...]


def masked_mean(error_BCHW: torch.Tensor, masks: Sequence[torch.Tensor | None]) -> torch.Tensor:
    """(B,) mean over all but the batch, each place of a picture (last two dimensions) weighed by the sample's mask."""
    if all(mask is None for mask in masks):
        return error_BCHW.flatten(1).mean(dim=1)
    plain = error_BCHW.new_ones(1, *error_BCHW.shape[-2:])
    weight = torch.stack([plain if mask is None else mask.to(plain) for mask in masks])
    weight = weight / weight.flatten(1).mean(dim=1).clamp_min(1e-6).reshape(-1, 1, 1, 1)
    if error_BCHW.ndim == 5:
        weight = weight.unsqueeze(2)
    return (error_BCHW * weight).flatten(1).mean(dim=1)


def clean_error(backend: Backend, batch: Noised) -> torch.Tensor:
    """(B,) mean squared error of the clean latent that the model's prediction means, with whatever slider is attached."""
    return masked_mean(((predict(backend, batch) - batch.right) / batch.scale).square(), batch.masks)


def _inner(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(B, 1, ..., 1) sum of products over all but the batch."""
    return (a * b).flatten(1).sum(dim=1).reshape(-1, *[1] * (a.ndim - 1))


@dataclass(frozen=True)
class TrainingTarget:
    """What the slider is to answer: at the noised latents of `at`, `answer` in the prediction space."""

    at: Noised
    predict: torch.Tensor


def denoise(batch: Noised) -> TrainingTarget:
    """The images themselves."""
    return TrainingTarget(batch, batch.right)


@torch.no_grad()
def teacher_difference(backend: Backend, batch: Noised, share: torch.Tensor) -> TrainingTarget:
    """From the other image the whole way to this one."""
    other = batch.swapped()
    base = predict(backend, other)
    return TrainingTarget(other, base + other.scale * share * (batch.latent - other.latent))


def seen(batch: Noised, base: torch.Tensor) -> torch.Tensor:
    """(B / 2, 1, ..., 1) the share of each pair's difference that the frozen model still sees through the noise, 0 to 1.

    Row i and row B / 2 + i are a pair, in either order; `base` is the frozen model's prediction.
    """
    estimate = batch.latent + (base - batch.right) / batch.scale
    (one, other), (clean, other_clean) = estimate.chunk(2), batch.latent.float().chunk(2)
    apart = clean - other_clean
    return (_inner(one - other, apart) / _inner(apart, apart).clamp_min(1e-12)).clamp(0, 1)


@torch.no_grad()
def displacement(backend: Backend, batch: Noised, share: torch.Tensor) -> TrainingTarget:
    """From the other image half of the way to this one, as far as the noise leaves it open."""
    other = batch.swapped()
    base = predict(backend, other)
    still_open = 1 - seen(other, base).pow(DECIDED).repeat(2, *[1] * (base.ndim - 1))
    return TrainingTarget(other, base + other.scale * share * HALF * still_open * (batch.latent - other.latent))


def training_target(backend: Backend, batch: Noised, drawn: Batch, spec: TrainSpec) -> TrainingTarget:
    """What `spec.objective` wants of the slider on this batch."""
    if not from_base(drawn, spec):
        return denoise(batch)
    strength = torch.tensor(drawn.strengths, device=batch.x.device).abs()
    span = strength + strength.roll(len(strength) // 2)  # from the negative's strength to the positive's
    share = (2 * strength / span).reshape(-1, *[1] * (batch.x.ndim - 1))
    if spec.objective is Objective.TEACHER_DIFFERENCE:
        return teacher_difference(backend, batch, share)
    return displacement(backend, batch, share)


def from_words(backend: Backend, batch: Noised, drawn: Batch) -> TrainingTarget:
    """What words ask (words.py). The second half of the batch is the first at minus: the frozen model answers once for both."""
    half = len(drawn.samples) // 2
    both = prompt_targets(backend, batch.rows(range(half)), [s.prompt_pair for s in drawn.samples[:half] if s.prompt_pair])
    return TrainingTarget(batch, torch.cat(both))


def neutral_error(
    backend: Backend,
    adapter: Adapter,
    batch: Noised,
    strengths: Sequence[float],
    weight: torch.Tensor,
    dropping: tuple[int, str] | None = None,
) -> torch.Tensor:
    """(B/2,) what a slider does to neutral images; the first half of the batch is at +s, the second the same at -s."""
    half = len(strengths) // 2
    with torch.no_grad():
        base = backend.predict(batch.x[:half], batch.sigma_B[:half], batch.cond[:half]).float()
    with at_strength(adapter, backend.module, strengths, dropping):
        plus, minus = predict(backend, batch).chunk(2)
    error = ((plus - base).square() + (minus - base).square()) / 2
    return masked_mean(weight[:half] * error, batch.masks[:half])


def step_loss(backend: Backend, adapter: Adapter, drawn: Batch, spec: TrainSpec) -> StepResult:
    """The loss of one batch, both signs in one forward. Call inside `backend.borrowed()`."""
    batch = noised(backend, drawn, spec)
    weight, dropping = loss_weight(batch, drawn, spec), (spec.seed, f"dropout {drawn.step}")
    if drawn.neutral:
        loss = neutral_error(backend, adapter, batch, drawn.strengths, weight, dropping)
        return StepResult(spec.neutral_weight * loss, drawn.strengths)
    wanted = from_words(backend, batch, drawn) if drawn.text_slider else training_target(backend, batch, drawn, spec)
    with at_strength(adapter, backend.module, drawn.strengths, dropping):
        missed = predict(backend, wanted.at) - wanted.predict
    loss = masked_mean(weight * missed.square(), wanted.at.masks)
    if drawn.text_slider:
        loss = loss * loss.new_tensor([s.prompt_pair.weight for s in drawn.samples if s.prompt_pair])
    return StepResult(loss, drawn.strengths)
