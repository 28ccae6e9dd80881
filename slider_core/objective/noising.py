"""A batch as the model will see it: noise levels, noise, the noised latents, and the weight of their errors.

encode/noised.py has the scales a, b and k of a prediction space. Weights turn an error of the prediction into what the loss
counts (a^2 / b^2 is the signal-to-noise ratio):

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
from ..config.hosts import set_pairing
from ..config.training import Timesteps, TrainSpec, Weighting
from ..encode.called_levels import EDGE, called_levels
from ..encode.encoder import Sample
from ..encode.noised import Noised, at_levels, of_samples
from .batch import Batch
from .formulas import FORMULAS, from_base


def unaligned_note(samples: Sequence[Sample], spec: TrainSpec) -> str:
    """A sentence for the user when pairs are trained as single images; else nothing."""
    paired = [s for s in samples if s.pair is not None and s.prompt_pair is None]
    if FORMULAS[spec.objective].from_base is None or not paired or any(s.aligned for s in paired):
        return ""
    return (
        " The images of a pair do not line up, so each was denoised by itself; if they should, check that their names put the "
        f"right ones together, or {set_pairing('name or order')}."
    )


def timesteps_of(batch: Batch, spec: TrainSpec) -> Timesteps:
    """Which noise levels a batch is trained at. Images that an objective would measure from the base model, and that do not
    line up, are denoised, mostly in the middle: that measured better than evenly (docs/objectives.md). So are, where the levels
    are left to be chosen, pairs that an objective would move and that stay in their places (docs/benchmarks-worlds.md)."""
    formula = FORMULAS[spec.objective]
    denoised = formula.from_base is not None and not from_base(batch, spec)
    if denoised and spec.timesteps in (Timesteps.AUTO, Timesteps.MODEL):
        return Timesteps.LOGIT_NORMAL
    if spec.timesteps is not Timesteps.AUTO:
        return spec.timesteps
    could_move = formula.jitter and not batch.text_slider and not any(sample.referenced for sample in batch.samples)
    return Timesteps.LOGIT_NORMAL if could_move and not jitter_of(batch, spec) else Timesteps.MODEL


def draw_u(count: int, spec: TrainSpec, generator: torch.Generator, kind: Timesteps | None = None) -> torch.Tensor:
    """(count,) noise-level positions in (0, 1), inside the window. Logit-normal: Esser et al. 2024 (Stable Diffusion 3)."""
    kind = kind or spec.timesteps
    low, high = spec.window
    if kind is Timesteps.FEW_STEP:
        return _draw_few_step(count, spec, generator)
    if kind is Timesteps.LOGIT_NORMAL:
        u = torch.sigmoid(torch.randn(count, generator=generator))
    else:  # stratified: one draw per equal part, in random order, halves the variance at small batches
        u = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return (low + (high - low) * u).clamp(EDGE, 1 - EDGE)


def _draw_few_step(count: int, spec: TrainSpec, generator: torch.Generator) -> torch.Tensor:
    levels = few_step_levels(spec)
    picked = torch.randint(len(levels), (count,), generator=generator)
    return torch.tensor(levels)[picked]


def few_step_levels(spec: TrainSpec) -> tuple[float, ...]:
    """Levels at which a sampler of `few_steps` steps calls the model, inside the window; empty unless it is trained at those."""
    if not spec.sampler_steps:
        return ()
    low, high = spec.window
    levels = tuple(level for level in called_levels(spec.sampler_steps) if low <= level <= high)
    if not levels:
        message = f"window {spec.window} holds none of the {spec.few_steps} noise levels of few_step: widen it."
        raise SliderError(message, "training.empty_window")
    return levels


def _draws(batch: Batch) -> int:
    """How many noises the step draws, its other parts included."""
    return batch.draws or max(batch.noise) + 1


def draw_noise(batch: Batch, spec: TrainSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """(u_B, noise_BCHW) on the CPU from (seed, step); samples with the same `batch.noise` number share both."""
    generator = seeded(spec.seed, batch.step)
    count = _draws(batch)
    u = draw_u(count, spec, generator, timesteps_of(batch, spec))
    noise = torch.randn(count, *batch.samples[0].latent.shape, generator=generator)
    index = torch.tensor(batch.noise)
    return u[index], noise[index]


def jitter_of(batch: Batch, spec: TrainSpec) -> float:
    """How far the samples are moved at most, share of the side: as the spec says, or else as the objective has it where the
    model knows moved pictures and that is a whole place of the latents."""
    if any(sample.referenced for sample in batch.samples):
        return 0.0  # where things lie is what the reference says
    if spec.jitter is not None:
        return spec.jitter
    share = FORMULAS[spec.objective].jitter
    longest = max(max(sample.latent.shape[-2:]) for sample in batch.samples)
    moves = from_base(batch, spec) and not batch.text_slider and batch.familiar and round(share * longest) > 0
    return share if moves else 0.0


def draw_shifts(batch: Batch, spec: TrainSpec) -> list[tuple[int, int]]:
    """How far each sample is moved, in latent pixels down and right; samples that share noise move together.

    Where things lie in a few images is not what a slider should learn.
    """
    share = jitter_of(batch, spec)
    height, width = batch.samples[0].latent.shape[-2:]
    down, right = round(share * height), round(share * width)
    generator = seeded(spec.seed, f"jitter {batch.step}")
    shifts = []
    for _ in range(_draws(batch)):
        rows = int(torch.randint(-down, down + 1, (), generator=generator))
        columns = int(torch.randint(-right, right + 1, (), generator=generator))
        shifts.append((rows, columns))
    return [shifts[number] for number in batch.noise]


def shifted(picture: torch.Tensor, by: tuple[int, int]) -> torch.Tensor:
    """(..., H, W) moved down and right by whole pixels; what comes in at an edge repeats it."""
    if by == (0, 0):
        return picture
    height, width = picture.shape[-2:]
    down, right = by
    padding = [abs(right), abs(right), abs(down), abs(down)]
    flat = F.pad(picture.reshape(1, -1, height, width), padding, mode="replicate")
    top = abs(down) - down
    left = abs(right) - right
    return flat[..., top : top + height, left : left + width].reshape(picture.shape)


def noised(backend: Backend, batch: Batch, spec: TrainSpec) -> Noised:
    """The batch at the noise levels of its step."""
    u, noise = draw_noise(batch, spec)
    latents = []
    masks: list[torch.Tensor | None] = []
    for sample, by in zip(batch.samples, draw_shifts(batch, spec), strict=True):
        latents.append(shifted(sample.latent, by))
        masks.append(None if sample.mask is None else shifted(sample.mask, by))
    sigma = backend.even_sigmas(u) if spec.timesteps is Timesteps.UNIFORM else backend.sigmas(u)
    latent = torch.stack(latents).to(backend.device)
    levels = at_levels(backend, latent, noise.to(backend.device), sigma, [s.cond for s in batch.samples], masks)
    return of_samples(levels, batch.samples)


def loss_weight(batch: Noised, drawn: Batch, spec: TrainSpec) -> torch.Tensor:
    """(B, 1, ..., 1) what a squared error of the prediction counts."""
    kind = spec.weighting
    if kind is Weighting.AUTO:
        kind = Weighting.CLEAN if from_base(drawn, spec) else Weighting.NONE
    if kind is Weighting.NONE:
        return torch.ones_like(batch.scale)
    clean = batch.scale.square().reciprocal()
    return clean if kind is Weighting.CLEAN else clean * batch.ratio.square().clamp_max(spec.snr_gamma)
