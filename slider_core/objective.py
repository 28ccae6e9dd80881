"""The mathematics of a step. One formula, one function; losses are per sample and the trainer reduces them.

x_sigma is the noised latent, v(x, s) the model's prediction with the slider at strength s, v* the right answer, all in the
model's own prediction space (eps, v or flow).

    denoise, rotating   |v(x_sigma, s) - v*|^2        each image has its own noise        SimpleTuner's slider targeting
    denoise, paired     the same, but a positive (+s) and its negative (-s) share noise   Gandikota et al. 2023, "Concept
                        and timestep, so what they have in common cancels                 Sliders", visual sliders
    neutral             |(v(x, +s) + v(x, -s)) / 2 - v(x, 0)|^2                           the even part: a slider may move a
                                                                                          neutral image, but not both ways alike
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .adapter import Adapter, seeded
from .backend import Backend, Conditioning
from .config import Timesteps, TrainSpec
from .cycle import Batch


@dataclass(frozen=True)
class StepResult:
    """Loss per sample (B,), differentiable, and the strengths they were taken at."""

    loss_B: torch.Tensor
    strengths: tuple[float, ...]


def draw_u(count: int, kind: Timesteps, generator: torch.Generator) -> torch.Tensor:
    """(count,) noise-level positions in (0, 1). Logit-normal: Esser et al. 2024 (Stable Diffusion 3)."""
    if kind is Timesteps.LOGIT_NORMAL:
        return torch.sigmoid(torch.randn(count, generator=generator))
    # stratified: one draw per equal part, in random order, halves the variance at small batches
    return (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count


def draw_noise(batch: Batch, spec: TrainSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """(u_B, noise_BCHW) on the CPU from (seed, step); samples with the same `batch.noise` number share both."""
    generator = seeded(spec.seed, batch.step)
    count = max(batch.noise) + 1
    u = draw_u(count, spec.timesteps, generator).clamp(1e-3, 1 - 1e-3)
    noise = torch.randn(count, *batch.samples[0].latent.shape, generator=generator)
    index = torch.tensor(batch.noise)
    return u[index], noise[index]


def prediction_error(
    backend: Backend,
    latent_BCHW: torch.Tensor,
    noise_BCHW: torch.Tensor,
    sigma_B: torch.Tensor,
    cond: Sequence[Conditioning],
    masks: Sequence[torch.Tensor | None] = (),
) -> torch.Tensor:
    """(B,) mean squared error of the model's prediction, with whatever slider is attached; over each sample's mask (1, H, W)."""
    x = backend.add_noise(latent_BCHW, noise_BCHW, sigma_B)
    error = backend.predict(x, sigma_B, cond).float() - backend.target(latent_BCHW, noise_BCHW, sigma_B).float()
    return masked_mean(error.square(), masks)


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


def neutral_error(
    backend: Backend,
    adapter: Adapter,
    x_BCHW: torch.Tensor,
    sigma_B: torch.Tensor,
    cond: Sequence[Conditioning],
    strengths: Sequence[float],
    dropping: tuple[int, str] | None = None,
    masks: Sequence[torch.Tensor | None] = (),
) -> torch.Tensor:
    """(B/2,) squared even part of the displacement; the first half of the batch is at +s, the second the same at -s."""
    half = len(strengths) // 2
    with torch.no_grad():
        base = backend.predict(x_BCHW[:half], sigma_B[:half], cond[:half]).float()
    with adapter.at(backend.module, strengths, dropping):
        plus, minus = backend.predict(x_BCHW, sigma_B, cond).float().chunk(2)
    return masked_mean(((plus + minus) / 2 - base).square(), masks[:half])


def step_loss(backend: Backend, adapter: Adapter, batch: Batch, spec: TrainSpec) -> StepResult:
    """The loss of one batch, both signs in one forward. Call inside `backend.borrowed()`."""
    u, noise = (t.to(backend.device) for t in draw_noise(batch, spec))
    latent = torch.stack([s.latent for s in batch.samples]).to(backend.device)
    sigma, cond = backend.sigmas(u), [s.cond for s in batch.samples]
    dropping = spec.seed, f"dropout {batch.step}"
    masks = [s.mask for s in batch.samples]
    if batch.neutral:
        x = backend.add_noise(latent, noise, sigma)
        return StepResult(neutral_error(backend, adapter, x, sigma, cond, batch.strengths, dropping, masks), batch.strengths)
    with adapter.at(backend.module, batch.strengths, dropping):
        return StepResult(prediction_error(backend, latent, noise, sigma, cond, masks), batch.strengths)
