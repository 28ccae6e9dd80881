"""The loss of one step: the error of the prediction against the training target, per sample; the trainer reduces.

images, text   weight |v(x, s) - target|^2                             (formulas.py, prompt_targets.py)
neutral        weight (|v(x, s) - v0|^2 + |v(x, -s) - v0|^2) / 2       neutral images stay as they are, at a random strength
                                                                       s up to twice the images' own
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backend import Backend
from ..config.training import TrainSpec
from ..encode.noised import Noised, predict
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from .batch import Batch
from .formulas import training_target
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


def step_loss(backend: Backend, adapter: Adapter, drawn: Batch, spec: TrainSpec) -> torch.Tensor:
    """The loss of one batch per sample (B,), differentiable; both signs in one forward. Call inside `backend.borrowed()`."""
    batch = noised(backend, drawn, spec)
    weight = loss_weight(batch, drawn, spec)
    dropping = spec.seed, f"dropout {drawn.step}"
    if drawn.neutral:
        return spec.neutral_weight * neutral_error(backend, adapter, batch, drawn.strengths, weight, dropping)
    if drawn.text_slider:
        target = text_target(backend, batch, drawn.samples)
    else:
        target = training_target(backend, batch, drawn, spec)
    with at_strength(adapter, backend.module, drawn.strengths, dropping):
        error = predict(backend, target.at) - target.prediction
    loss = masked_mean(weight * error.square(), target.at.masks)
    if drawn.text_slider:
        loss = loss * loss.new_tensor([s.prompt_pair.weight for s in drawn.samples if s.prompt_pair])
    return loss
