"""Text sliders: the frozen model is the teacher, and no image is needed.

x is a noised latent, t p n the target, positive and negative prompt, v0(x, c) the frozen model's prediction and v(x, c, s) the
one with the slider at strength s, all in the model's own prediction space (eps, v or flow). The training targets, of both signs:

    v(x, t, +1) = v0(x, t) + g (v0(x, p) - v0(x, n))
    v(x, t, -1) = v0(x, t) - g (v0(x, p) - v0(x, n))

    LECO (p1atdev 2023), for one sign; Gandikota et al. 2023, "Concept Sliders", text sliders (their eq. 7, g is eta)

limited: no clean picture of a target has more contrast than the clearest of the three that the frozen model predicts. Else a
large g asks for pictures beyond both ends, which is what burns. Rescaling to the contrast at the target (Lin et al. 2023, "Common
Diffusion Noise Schedules and Sample Steps are Flawed", for guidance) would forbid a slider to change the contrast at all.

The three frozen predictions are one forward pass that both signs share. Cost: 3 frozen samples and 2 with gradients for each
latent of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..backend import Backend, per_sample
from ..encode.encoder import PromptPair, Sample
from ..encode.noised import Noised
from .formulas import TrainingTarget
from .one_way import is_one_way


def limit_contrast(picture: torch.Tensor, most_B: torch.Tensor) -> torch.Tensor:
    """A clean latent (B, ...) with its contrast (standard deviation) brought down to `most_B` where it is above."""
    flat = picture.flatten(1)
    mean = per_sample(flat.mean(dim=1), picture)
    factor = (most_B / flat.std(dim=1).clamp_min(1e-12)).clamp_max(1)
    return mean + per_sample(factor, picture) * (picture - mean)


@torch.no_grad()
def prompt_targets(backend: Backend, batch: Noised, prompts: Sequence[PromptPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """The training targets at +1 and at -1 for each row of the batch (B, ...), out of one frozen forward pass of 3 B samples.
    Call it with no slider attached."""
    conds = [*batch.cond, *(pair.positive for pair in prompts), *(pair.negative for pair in prompts)]
    x = batch.x.repeat(3, *[1] * (batch.x.ndim - 1))
    predictions = backend.predict(x, batch.sigma_B.repeat(3), conds).float().chunk(3)
    target, positive, negative = (batch.latent + (v - batch.right) / batch.scale for v in predictions)
    most = torch.stack([clean.flatten(1).std(dim=1) for clean in (target, positive, negative)]).amax(dim=0)
    change = per_sample(target.new_tensor([pair.guidance for pair in prompts]), target) * (positive - negative)
    plus = limit_contrast(target + change, most)
    minus = limit_contrast(target - change, most)
    return batch.right + batch.scale * (plus - batch.latent), batch.right + batch.scale * (minus - batch.latent)


def _prompt_pairs(samples: Sequence[Sample]) -> list[PromptPair]:
    return [s.prompt_pair for s in samples if s.prompt_pair]


def text_target(backend: Backend, batch: Noised, samples: Sequence[Sample]) -> TrainingTarget:
    """The target of a text step, whose second half is the first at minus: one frozen forward pass serves both."""
    half = len(samples) // 2
    plus, minus = prompt_targets(backend, batch.rows(range(half)), _prompt_pairs(samples[:half]))
    if is_one_way(samples):  # the second half is at 0, where a slider has no effect
        minus = (plus + minus) / 2
    return TrainingTarget(batch, torch.cat([plus, minus]))


@torch.no_grad()
def own_prompt_predictions(backend: Backend, batch: Noised, samples: Sequence[Sample]) -> Noised:
    """The batch with the frozen model's prediction at each row's own prompt, positive or negative, as the right one."""
    prompts = []
    for sample in samples:
        pair = sample.prompt_pair
        if pair:
            prompts.append(pair.positive if sample.strength > 0 else pair.negative)
    return replace(batch, right=backend.predict(batch.x, batch.sigma_B, prompts).float())


def with_prompt_targets(backend: Backend, batch: Noised, samples: Sequence[Sample]) -> Noised:
    """The batch with each row's training target, at the sign of its sample, as the right prediction."""
    plus, minus = prompt_targets(backend, batch, _prompt_pairs(samples))
    sign = per_sample(torch.tensor([(s.strength > 0) - (s.strength < 0) for s in samples]), plus)
    return replace(batch, right=torch.where(sign == 0, (plus + minus) / 2, torch.where(sign > 0, plus, minus)))


def measured_on(samples: Sequence[Sample]) -> list[Sample]:
    """The samples that a slider is judged by: the images, where both sides have some, else those of the prompts."""
    images = [s for s in samples if s.prompt_pair is None]
    both = any(s.side > 0 for s in images) and any(s.side < 0 for s in images)
    if both or len(images) == len(samples):
        return images
    return [s for s in samples if s.prompt_pair is not None]
