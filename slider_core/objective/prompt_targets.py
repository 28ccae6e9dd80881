"""Sliders from words: the frozen model is the teacher, and no image is needed.

x is a noised latent, t p n the target, positive and negative prompt, v0(x, c) the frozen model's prediction and v(x, c, s) the
one with the slider at strength s, all in the model's own prediction space (eps, v or flow). A step asks, of both signs at once,

    v(x, t, +1) = v0(x, t) + g (v0(x, p) - v0(x, n))
    v(x, t, -1) = v0(x, t) - g (v0(x, p) - v0(x, n))

held back: no clean picture that is asked for has more contrast than the clearest of the three that the frozen model predicts.
Else a large g asks for pictures beyond both ends, which is what burns. Rescaling to the contrast at the target (Lin et al. 2023,
"Common Diffusion Noise Schedules and Sample Steps are Flawed", for guidance) would forbid a slider to change the contrast at all.

    LECO (p1atdev 2023), which asks for one sign; Gandikota et al. 2023, "Concept Sliders", text sliders (their eq. 7, g is eta)

With attributes to hold, each is said beside t, p and n in turn ("person, man", "person, smiling, man", ...), so that what the
model happens to connect with one end cancels: the same authors' preservation set.

The three frozen predictions are one forward pass, and both signs share it. The latents are noised by hand, so the noise level
is any, and they are made once, by the model itself: an Euler loop (DDIM without noise, Song et al. 2020) over few steps at the
target prompt. It is written in the clean latent and the noise that a prediction means, hence the same for eps, v and flow.
Cost: `count` x `steps` samples before the first step; then 3 frozen samples and 2 with gradients for each latent of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..backend import Backend, per_sample
from ..encode.encoder import PromptPair, Sample
from ..encode.noised import Noised

# --- what is asked


def limit_contrast(picture: torch.Tensor, most_B: torch.Tensor) -> torch.Tensor:
    """A clean latent (B, ...) with its contrast (standard deviation) brought down to `most_B` where it is above."""
    mean, contrast = _mean(picture), picture.flatten(1).std(dim=1)
    factor = (most_B / contrast.clamp_min(1e-12)).clamp_max(1)
    return mean + per_sample(factor, picture) * (picture - mean)


def _mean(picture: torch.Tensor) -> torch.Tensor:
    return per_sample(picture.flatten(1).mean(dim=1), picture)


@torch.no_grad()
def prompt_targets(backend: Backend, batch: Noised, prompt_pair: Sequence[PromptPair]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the slider is to predict at +1 and at -1 on each row of the batch (B, ...), out of one frozen forward pass of 3 B
    samples. Call it with no slider attached."""
    conds = [*batch.cond, *(a.positive for a in prompt_pair), *(a.negative for a in prompt_pair)]
    x, sigma = batch.x.repeat(3, *[1] * (batch.x.ndim - 1)), batch.sigma_B.repeat(3)
    predictions = backend.predict(x, sigma, conds).float().chunk(3)
    target, positive, negative = (batch.latent + (v - batch.right) / batch.scale for v in predictions)
    most = torch.stack([clean.flatten(1).std(dim=1) for clean in (target, positive, negative)]).amax(dim=0)
    way = per_sample(target.new_tensor([a.guidance for a in prompt_pair]), target) * (positive - negative)
    plus, minus = (limit_contrast(target + sign * way, most) for sign in (1, -1))
    return batch.right + batch.scale * (plus - batch.latent), batch.right + batch.scale * (minus - batch.latent)


@torch.no_grad()
def own_prompt_predictions(backend: Backend, batch: Noised, samples: Sequence[Sample]) -> Noised:
    """The batch with the frozen model's prediction at each row's own end (the positive or negative prompt) as the right one."""
    own = [s.prompt_pair.positive if s.strength > 0 else s.prompt_pair.negative for s in samples if s.prompt_pair]
    return replace(batch, right=backend.predict(batch.x, batch.sigma_B, own).float())


def with_prompt_targets(backend: Backend, batch: Noised, samples: Sequence[Sample]) -> Noised:
    """The batch with what is asked of each row, at the sign of its sample, as the right prediction."""
    plus, minus = prompt_targets(backend, batch, [s.prompt_pair for s in samples if s.prompt_pair])
    positive = per_sample(torch.tensor([s.strength > 0 for s in samples]), plus)
    return replace(batch, right=torch.where(positive, plus, minus))


def measured_on(samples: Sequence[Sample]) -> list[Sample]:
    """What a slider is judged by: the images, where both sides have some, else the words."""
    images = [s for s in samples if s.prompt_pair is None]
    both = any(s.strength > 0 for s in images) and any(s.strength < 0 for s in images)
    return images if both or len(images) == len(samples) else [s for s in samples if s.prompt_pair is not None]
