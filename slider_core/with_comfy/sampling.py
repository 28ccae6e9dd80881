"""Latents of one prompt at many strengths, from the same noise, by ComfyUI's own sampler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import torch

from ..backend import Conditioning, in_parts
from ..layers.caches import forget
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..use.sampling import Sampling
from .assumptions import Feature, need_feature
from .control_hints import Hints, control_in
from .host_patches import mixes_rows
from .model_backend import ComfyBackend

# samplers that draw noise per row, or choose their steps by the whole batch
STOCHASTIC = ("ancestral", "sde", "ddpm", "lcm", "sa_solver", "seeds", "dpm_adaptive")
HEADROOM = 1.5  # ComfyUI's own, of its estimate of what a sampling call takes


@dataclass(frozen=True)
class SampledLatents:
    """`latents`: (S, C, ...), one per strength. `calls`: strengths in each sampling call; `reason`: why they are not one."""

    latents: torch.Tensor
    calls: list[int]
    reason: str


def runs_together(backend: ComfyBackend, adapter: Adapter, latent: Any, positive: Any, count: int) -> bool:
    """Whether one sampling call can hold `count` strengths of this adapter. The model is loaded as the sampler loads it."""
    if count < 2:
        return True
    if not isinstance(latent, torch.Tensor):  # sound and video together: ComfyUI packs them into one row
        return False
    text, extra = positive[0]
    extra = {key: value for key, value in extra.items() if key != "control"}
    cond = Conditioning("sweep", [[text, extra]])
    backend.hints = None
    if control_in(positive) is not None:
        backend.hints = Hints(positive, whole=True)  # at the levels of the trial, too
    comfy.model_management.load_models_gpu([backend.patcher, *backend.control_models()])
    with backend.running():
        backend.prepare(adapter.paths, latent, cond)
        return not (backend.one_by_one or _batch_is_one(backend, cond, latent))


def _batch_is_one(backend: ComfyBackend, cond: Conditioning, latent_CHW: torch.Tensor) -> bool:
    """Whether the model takes the rows of a batch for parts of one thing, as SVD takes them for the frames of a video."""
    with torch.no_grad():
        one = backend.processed(cond, torch.zeros(1, *latent_CHW.shape, device=backend.device))
        two = backend.processed(cond, torch.zeros(2, *latent_CHW.shape, device=backend.device))
    for name, value in one.items():
        if isinstance(value, comfy.conds.CONDConstant) and isinstance(value.cond, int) and two[name].cond != value.cond:
            return True
    return False


def fit_at_once(model: Any, positive: Any, negative: Any, row: torch.Tensor, count: int) -> int:
    """How many of `count` images like `row` (1, C, ...) one sampling call can hold, by ComfyUI's own estimate of its memory.

    The model is loaded first, and others make room, as the sampler would have it; what is free then is shared out.
    """
    conds = {"positive": comfy.sampler_helpers.convert_cond(positive), "negative": comfy.sampler_helpers.convert_cond(negative)}

    def needed(rows: int) -> float:
        return HEADROOM * comfy.sampler_helpers.estimate_memory(model, [rows, *row.shape[1:]], conds)[1]

    comfy.model_management.load_models_gpu([model], memory_required=needed(count), minimum_memory_required=needed(1))
    free = model.get_free_memory(model.load_device)
    for rows in range(count, 1, -1):
        if needed(rows) < free:
            return rows
    return 1


def _plan(backend: ComfyBackend, adapter: Adapter, sampling: Sampling, first: Any, count: int) -> tuple[int, str]:
    """How many of `count` strengths go into one sampling call, and why not more."""
    if any(name in sampling.sampler for name in STOCHASTIC):
        return 1, f"{sampling.sampler} draws noise of its own for each picture, or chooses its steps by the whole batch"
    if count > 1 and (reason := mixes_rows(backend.patcher)):
        return 1, reason
    if not runs_together(backend, adapter, first[0], sampling.positive, count):
        return 1, "this model mixes the samples of a batch"
    if sampling.most_at_once:
        return min(sampling.most_at_once, count), "as most_at_once says"
    if count == 1:
        return 1, ""
    return fit_at_once(backend.patcher, sampling.positive, sampling.negative, first, count), "by the memory that is free"


def sample_latents(backend: ComfyBackend, adapter: Adapter, sampling: Sampling, strengths: Sequence[float]) -> SampledLatents:
    """Latents at each strength (a LoRA weight) from the same noise: one sampling call with a strength per batch row.

    `backend` is where the adapter lies. The first image of `sampling.latent` counts. Samplers that draw noise of their own per
    row (ancestral, SDE), and models that mix the samples of a batch, are run once per strength. A call that runs out of memory
    is done again in halves.
    """
    need_feature(Feature.SWEEP)
    first = first_latent(backend.patcher, sampling)

    def run(group: Sequence[float]) -> torch.Tensor:
        forget(backend.diffusion)
        noise = comfy.sample.prepare_noise(first, sampling.seed)  # and torch's own generator as KSampler leaves it to the model
        with at_strength(adapter, backend.module, group):
            return sampled(backend.patcher, sampling, _repeated(noise, len(group)), _repeated(first, len(group)))

    def ran_out(fault: Exception) -> bool:
        short = backend.memory.is_short(fault)
        if short:
            backend.memory.tidy()
        return short

    most, reason = _plan(backend, adapter, sampling, first, len(strengths))
    try:
        parts = in_parts(strengths, most, run, ran_out)
    finally:
        forget(backend.diffusion)
    sizes = [size for size, _ in parts]
    if any(size != most for size in sizes[:-1]):
        reason = "the memory ran out"
    return SampledLatents(torch.cat([latents for _, latents in parts]), sizes, reason)


def first_latent(model: Any, sampling: Sampling) -> Any:
    """The first image of the sampling's LATENT, (1, C, ...), with the channels that the MODEL takes."""
    latent = sampling.latent
    downscale = latent.get("downscale_ratio_spacial"), latent.get("downscale_ratio_temporal")
    return comfy.sample.fix_empty_latent_channels(model, latent["samples"][:1], *downscale)


def sampled(model: Any, sampling: Sampling, noise: Any, latent: Any) -> torch.Tensor:
    """One sampling call; of sound and video the video."""
    latents = comfy.sample.sample(
        model,
        noise,
        sampling.steps,
        sampling.cfg,
        sampling.sampler,
        sampling.scheduler,
        sampling.positive,
        sampling.negative,
        latent,
        denoise=sampling.denoise,
        seed=sampling.seed,
        disable_pbar=True,
    )
    return latents if isinstance(latents, torch.Tensor) else latents.unbind()[0]


def _repeated(row: Any, count: int) -> Any:
    return row if count == 1 else row.repeat(count, *[1] * (row.ndim - 1))
