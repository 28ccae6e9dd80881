"""The loss of one step: the error of the prediction against the training target, per sample; the trainer reduces.

images, text   weight |v(x, s) - target|^2                             (formulas.py, prompt_targets.py)
neutral        weight |v(x, s) - v0|^2, and the same at -s             neutral images stay as they are, at a random strength
                                                                       s up to twice the images' own
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..backend import Backend
from ..config.training import TrainSpec
from ..encode.noised import Noised, predict
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from .batch import Batch
from .formulas import TrainingTarget, training_target
from .noising import loss_weight, noised
from .prompt_targets import text_target


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


@dataclass(frozen=True)
class StepTarget:
    """What a step asks of the slider, known before the model runs with it: at the noised latents of `at`, each row at its
    strength, the model is to predict `prediction`. The loss is a mean over rows, so they may be computed in parts."""

    at: Noised
    prediction: torch.Tensor
    weight: torch.Tensor  # of the errors, (B, 1, ..., 1)
    strengths: Sequence[float]
    dropping: tuple[int, str] | None = None
    count_B: torch.Tensor | float = 1.0  # what each row counts

    def rows(self, some: Sequence[int]) -> StepTarget:
        """The same for some of the rows."""
        some = list(some)
        count = self.count_B[some] if isinstance(self.count_B, torch.Tensor) else self.count_B
        strengths = [self.strengths[row] for row in some]
        return StepTarget(self.at.rows(some), self.prediction[some], self.weight[some], strengths, self.dropping, count)

    def acting(self) -> StepTarget:
        """Without the rows at strength 0, where a slider has no effect and so no gradient: of a one-way slider half of them. The
        others count for these as well, so that the gradient of the mean is the same."""
        some = [row for row, strength in enumerate(self.strengths) if strength]
        if not some or len(some) == len(self.strengths):
            return self
        kept = self.rows(some)
        return replace(kept, count_B=kept.count_B * (len(some) / len(self.strengths)))

    def loss(self, backend: Backend, adapter: Adapter) -> torch.Tensor:
        """(B,) the loss of each row, differentiable. Call inside `backend.borrowed()`."""
        with at_strength(adapter, backend.module, self.strengths, self.dropping):
            error = predict(backend, self.at) - self.prediction
        return masked_mean(self.weight * error.square(), self.at.masks) * self.count_B


@torch.no_grad()
def step_target(backend: Backend, drawn: Batch, spec: TrainSpec) -> StepTarget:
    """What one batch asks. Call inside `backend.borrowed()`, with no slider in force."""
    batch = noised(backend, drawn, spec)
    weight = loss_weight(batch, drawn, spec)
    dropping = spec.seed, f"dropout {drawn.step}"
    count: torch.Tensor | float = 1.0
    if drawn.neutral:
        half = batch.rows(range(len(drawn.samples) // 2))
        base = predict(backend, half)
        target = TrainingTarget(batch, torch.cat((base, base)))
        count = spec.neutral_weight
    elif drawn.text_slider:
        target = text_target(backend, batch, drawn.samples)
        count = weight.new_tensor([s.prompt_pair.weight for s in drawn.samples if s.prompt_pair])
    else:
        target = training_target(backend, batch, drawn, spec)
    return StepTarget(target.at, target.prediction, weight, drawn.strengths, dropping, count).acting()
