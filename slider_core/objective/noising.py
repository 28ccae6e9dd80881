"""A batch as the model will see it: noise levels, noise, the noised latents, and the scales that belong to them.

A noised latent is x = a x0 + b noise. With x held fixed, another answer x0 + d for the clean latent changes the right
prediction by k d. a, b and k are read off the backend, so the objectives can speak of clean latents in the model's own prediction
space, be it eps, v or flow:

    flow   a = 1 - sigma   b = sigma    k = -1 / sigma
    eps    a = 1           b = sigma    k = -1 / sigma

Weights turn an error of the prediction into what the loss counts (a^2 / b^2 is the signal-to-noise ratio):

    none      1
    clean     1 / k^2                       the error of the clean latent
    min_snr   min(SNR, gamma) / k^2         Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy"
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..backend import Backend, seeded
from ..config.checks import SliderError
from ..config.training import Objective, Timesteps, TrainSpec, Weighting
from ..encode.encoder import Sample
from ..encode.noised import Noised, at_levels
from .batches import Batch

JITTER = 1 / 16  # share of the side, where the objective has it by itself
FROM_BASE = (Objective.DISPLACEMENT, Objective.TEACHER_DIFFERENCE)  # measured from the base model's own answer


def from_base(drawn: Batch, spec: TrainSpec) -> bool:
    """Whether the batch is measured from the base model's answer. Images that do not line up cannot be, and are denoised."""
    return drawn.text_slider or (spec.objective in FROM_BASE and (drawn.aligned or drawn.neutral))


def unaligned_note(samples: Sequence[Sample], spec: TrainSpec) -> str:
    """A sentence for the user when pairs are trained as if they were none; else nothing."""
    paired = [s for s in samples if s.pair is not None and s.prompt_pair is None]
    if spec.objective not in FROM_BASE or not paired or any(s.aligned for s in paired):
        return ""
    return " The images of a pair do not line up, so each was denoised by itself; if they should, set pairing to name or order."


def levels(batch: Batch, spec: TrainSpec) -> Timesteps:
    """Which noise levels a batch is trained at. Images that an objective would measure from the base model, and that do not
    line up, are denoised, mostly in the middle: that measured better than evenly (docs/objectives.md)."""
    denoised = spec.objective in FROM_BASE and not from_base(batch, spec)
    return Timesteps.LOGIT_NORMAL if denoised and spec.timesteps is Timesteps.MODEL else spec.timesteps


def draw_u(count: int, spec: TrainSpec, generator: torch.Generator, kind: Timesteps | None = None) -> torch.Tensor:
    """(count,) noise-level positions in (0, 1), inside the window. Logit-normal: Esser et al. 2024 (Stable Diffusion 3).

    Few steps: the levels at which a sampler of that many steps asks the model, for models distilled to be asked there alone.
    """
    (low, high), kind = spec.window, kind or spec.timesteps
    if kind is Timesteps.FEW_STEP:
        inside = [level for n in range(spec.few_steps) if low <= (level := 1 - n / spec.few_steps) <= high]
        if not inside:
            raise SliderError(f"window {spec.window} holds none of the {spec.few_steps} noise levels of few_step: widen it.")
        picked = torch.randint(len(inside), (count,), generator=generator)
        return torch.tensor(inside)[picked].clamp(1e-3, 1 - 1e-3)
    if kind is Timesteps.LOGIT_NORMAL:
        u = torch.sigmoid(torch.randn(count, generator=generator))
    else:  # stratified: one draw per equal part, in random order, halves the variance at small batches
        u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return (low + (high - low) * u).clamp(1e-3, 1 - 1e-3)


def _draws(batch: Batch) -> int:
    """How many noises the step draws, the other parts of it included."""
    return batch.draws or max(batch.noise) + 1


def draw_noise(batch: Batch, spec: TrainSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """(u_B, noise_BCHW) on the CPU from (seed, step); samples with the same `batch.noise` number share both."""
    generator = seeded(spec.seed, batch.step)
    count = _draws(batch)
    u = draw_u(count, spec, generator, levels(batch, spec))
    noise = torch.randn(count, *batch.samples[0].latent.shape, generator=generator)
    index = torch.tensor(batch.noise)
    return u[index], noise[index]


def draw_shifts(batch: Batch, spec: TrainSpec) -> list[tuple[int, int]]:
    """How far each sample is moved, in latent pixels down and right; samples that share noise move together.

    A handful of images says much about where things lie, which is not what a slider should learn.
    """
    own = JITTER if spec.objective is Objective.DISPLACEMENT and from_base(batch, spec) and not batch.text_slider else 0.0
    share = own if spec.jitter is None else spec.jitter
    generator = seeded(spec.seed, f"jitter {batch.step}")
    most = [round(share * side) for side in batch.samples[0].latent.shape[-2:]]
    drawn = [tuple(int(torch.randint(-m, m + 1, (), generator=generator)) for m in most) for _ in range(_draws(batch))]
    return [drawn[n] for n in batch.noise]  # type: ignore[misc]


def shifted(picture: torch.Tensor, by: tuple[int, int]) -> torch.Tensor:
    """(..., H, W) moved down and right by whole pixels; what comes in at an edge repeats it."""
    if by == (0, 0):
        return picture
    height, width = picture.shape[-2:]
    flat = F.pad(picture.reshape(1, -1, height, width), [abs(by[1])] * 2 + [abs(by[0])] * 2, mode="replicate")
    top, left = abs(by[0]) - by[0], abs(by[1]) - by[1]
    return flat[..., top : top + height, left : left + width].reshape(picture.shape)


def noised(backend: Backend, batch: Batch, spec: TrainSpec) -> Noised:
    """The batch at the noise levels of its step."""
    u, noise = (t.to(backend.device) for t in draw_noise(batch, spec))
    moves = draw_shifts(batch, spec)
    latent = torch.stack([shifted(s.latent, by) for s, by in zip(batch.samples, moves, strict=True)]).to(backend.device)
    masks = [None if s.mask is None else shifted(s.mask, by) for s, by in zip(batch.samples, moves, strict=True)]
    sigma = backend.even_sigmas(u) if spec.timesteps is Timesteps.UNIFORM else backend.sigmas(u)
    return at_levels(backend, latent, noise, sigma, [s.cond for s in batch.samples], masks)


def loss_weight(batch: Noised, drawn: Batch, spec: TrainSpec) -> torch.Tensor:
    """(B, 1, ..., 1) what a squared error of the prediction counts."""
    kind = spec.weighting
    if kind is Weighting.AUTO:
        kind = Weighting.CLEAN if from_base(drawn, spec) else Weighting.NONE
    if kind is Weighting.NONE:
        return torch.ones_like(batch.scale)
    clean = batch.scale.square().reciprocal()
    return clean if kind is Weighting.CLEAN else clean * batch.ratio.square().clamp_max(spec.snr_gamma)
