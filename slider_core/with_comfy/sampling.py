"""Latents of one prompt at many strengths, from the same noise, by ComfyUI's own sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import torch

from ..backend import Conditioning, in_parts
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from .autograd_through import forget_prompts
from .control_hints import Hints, control_in
from .model_backend import ComfyBackend

# samplers that draw noise per row, or choose their steps by the whole batch
STOCHASTIC = ("ancestral", "sde", "ddpm", "lcm", "sa_solver", "seeds", "dpm_adaptive")
HEADROOM = 1.5  # ComfyUI's own, of its estimate of what a sampling call takes


def runs_together(
    model: Any, adapter: Adapter, latent: Any, positive: Any, count: int, backend: ComfyBackend | None = None
) -> bool:
    """Whether one sampling call can hold `count` strengths of this adapter. The model is loaded as the sampler loads it."""
    if count < 2:
        return True
    if not isinstance(latent, torch.Tensor):  # sound and video together: ComfyUI packs them into one row
        return False
    backend = backend or ComfyBackend(model, None, None)
    text, extra = positive[0]
    cond = Conditioning("sweep", [[text, {k: v for k, v in extra.items() if k != "control"}]])
    backend.hints = Hints(positive, whole=True) if control_in(positive) is not None else None  # at the levels of the trial, too
    comfy.model_management.load_models_gpu([backend.patcher, *backend.control_models()])
    with backend.running():
        backend.prepare(adapter.paths, latent, cond)
        return not (backend.one_by_one or backend.batch_is_one(cond, latent))


def fit_at_once(model: Any, positive: Any, negative: Any, row: torch.Tensor, count: int) -> int:
    """How many of `count` pictures like `row` (1, C, ...) one sampling call can hold, by ComfyUI's own estimate of its memory.

    The model is loaded first, and others make room, as the sampler would have it; what is free then is shared out.
    """
    conds = {"positive": comfy.sampler_helpers.convert_cond(positive), "negative": comfy.sampler_helpers.convert_cond(negative)}

    def needed(rows: int) -> float:
        return HEADROOM * comfy.sampler_helpers.estimate_memory(model, [rows, *row.shape[1:]], conds)[1]

    comfy.model_management.load_models_gpu([model], memory_required=needed(count), minimum_memory_required=needed(1))
    free = model.get_free_memory(model.load_device)
    return next((rows for rows in range(count, 1, -1) if needed(rows) < free), 1)


def _plan(
    backend: ComfyBackend, adapter: Adapter, first: Any, positive: Any, negative: Any, count: int, sampler: str, most: int
) -> tuple[int, str]:
    """How many of `count` strengths go into one sampling call, and why not more."""
    if any(word in sampler for word in STOCHASTIC):
        return 1, f"{sampler} draws noise of its own for each picture, or chooses its steps by the whole batch"
    if not runs_together(backend.patcher, adapter, first[0], positive, count, backend):
        return 1, "this model mixes the samples of a batch"
    if most:
        return min(most, count), "as most_at_once says"
    return (fit_at_once(backend.patcher, positive, negative, first, count) if count > 1 else 1), "by the memory that is free"


def sample_strengths(
    model: Any,
    adapter: Adapter,
    strengths: Sequence[float],
    seed: int,
    latent: dict[str, Any],
    positive: Any,
    negative: Any,
    steps: int,
    cfg: float,
    sampler: str,
    scheduler: str,
    denoise: float = 1.0,
    most_at_once: int = 0,
    on_calls: Callable[[list[int], str], None] | None = None,
    backend: ComfyBackend | None = None,
) -> torch.Tensor:
    """Latents (S, C, H, W), one per strength, from the same noise: one sampling call with a strength per row.

    `latent` is ComfyUI's LATENT; its first picture counts. Samplers that draw noise of their own per row (ancestral, SDE), and
    models that mix the samples of a batch, are run once per strength instead. `most_at_once` strengths go into one call, at 0
    as many as the memory holds; a call that runs out of it is done again in halves. `on_calls` is told the calls' sizes, and why
    they are not one. `backend`: where the adapter lies, when that is not the diffusion model.
    """
    backend = backend or ComfyBackend(model, None, None)
    first = comfy.sample.fix_empty_latent_channels(
        model,
        latent["samples"][:1],
        latent.get("downscale_ratio_spacial"),
        latent.get("downscale_ratio_temporal"),
    )
    noise = comfy.sample.prepare_noise(first, seed)

    def run(group: Sequence[float]) -> torch.Tensor:
        forget_prompts(backend.diffusion)
        with at_strength(adapter, backend.module, group):
            drawn = comfy.sample.sample(
                model,
                _repeated(noise, len(group)),
                steps,
                cfg,
                sampler,
                scheduler,
                positive,
                negative,
                _repeated(first, len(group)),
                denoise=denoise,
                seed=seed,
                disable_pbar=True,
            )
        return drawn if isinstance(drawn, torch.Tensor) else drawn.unbind()[0]  # of sound and video the video

    def ran_out(fault: Exception) -> bool:
        short = backend.memory.is_short(fault)
        if short:
            backend.memory.tidy()
        return short

    most, why = _plan(backend, adapter, first, positive, negative, len(strengths), sampler, most_at_once)
    try:
        parts = in_parts(strengths, most, run, ran_out)
    finally:
        forget_prompts(backend.diffusion)
    if on_calls:
        sizes = [size for size, _ in parts]
        on_calls(sizes, why if sizes[:-1] == [most] * (len(sizes) - 1) else "the memory ran out")
    return torch.cat([drawn for _, drawn in parts])


def _repeated(row: Any, count: int) -> Any:
    return row if count == 1 else row.repeat(count, *[1] * (row.ndim - 1))
