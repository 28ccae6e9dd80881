"""Does the model still know the pictures of a pair when they are moved? Measured before the first step, and reported.

`displacement` moves both images of a pair at random, so that the slider does not learn where things lie in a few images. Where
everything has one place, moved pictures are strange to the model, and a slider that is trained on them learns a quarter as much
(docs/benchmarks-worlds.md). So the frozen model's error on moved images is read against that on the images as they are, with the
same noise. It is read at low noise: there the two kinds of pictures lie apart (0.88 to 1.53 times where things stand
anywhere, 6 of 30 sets above 1.4; 1.54 to 1.81 where they have one place; benchmarks/moved.py). A distilled model is read at the
nearest of the levels at which it is trained; one of a single step sees nothing of a picture there, so its pairs are moved.

Cost: at most 6 samples x MOST_PAIRS x len(LEVELS) = 72 samples, about 1.5 % of a training of 300 steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ..backend import Backend, seeded
from ..config.training import Timesteps, TrainSpec
from ..encode.called_levels import nearest_levels
from ..encode.encoder import Sample, pairs_of
from ..encode.noised import at_levels
from ..objective.formulas import FORMULAS
from ..objective.noising import shifted
from ..objective.step_loss import clean_error

LEVELS = (0.125, 0.25)  # positions in the noise schedule
MOST_PAIRS = 6
FAMILIAR = 1.4  # times the error on the pictures as they are, up to which they are moved

Shift = tuple[int, int]


def is_familiar(moved_error: float | None) -> bool:
    """Whether pairs may be moved, by what `moved_error` has found; they may where nothing was measured."""
    return moved_error is None or moved_error <= FAMILIAR


def pairs_to_move(samples: Sequence[Sample], spec: TrainSpec) -> list[list[Sample]]:
    """The pairs to measure on: none where the objective moves nothing, not by a whole place, or the spec says how far."""
    share = FORMULAS[spec.objective].jitter
    if spec.jitter is not None or not share:
        return []
    fit = []
    for pair in pairs_of([sample for sample in samples if sample.prompt_pair is None]):
        movable = round(share * max(pair[0].latent.shape[-2:])) > 0
        if movable and len(pair) == 2 and all(sample.aligned and not sample.referenced for sample in pair):
            fit.append(list(pair))
    return fit[:MOST_PAIRS]


@torch.no_grad()
def moved_error(
    backend: Backend, pairs: Sequence[Sequence[Sample]], share: float, seed: int, called: Sequence[float] = ()
) -> float:
    """The frozen model's error on the pictures moved by `share` of the side, in units of that on the pictures as they are: the
    geometric mean over LEVELS, or the nearest of the levels `called`. Call inside `backend.borrowed()`, with no slider in force.

    Every other pair is moved down and to the right, the others up and to the left."""
    generator = seeded(seed, "moved")
    logarithms = []
    for level in nearest_levels(LEVELS, called):
        still = moved = 0.0
        for number, pair in enumerate(pairs):
            noise = torch.randn(pair[0].latent.shape, generator=generator)
            sign = 1 if number % 2 else -1
            height, width = pair[0].latent.shape[-2:]
            ways = ((0, 0), (sign * round(share * height), 0), (0, sign * round(share * width)))
            errors = _errors(backend, pair, noise, level, ways)
            still += errors[0]
            moved += (errors[1] + errors[2]) / 2
        logarithms.append(math.log(moved / still) if moved > 0 and still > 0 else 0.0)
    ratio = math.exp(sum(logarithms) / len(logarithms))
    return float(f"{ratio:.4g}") if math.isfinite(ratio) else 1.0


def _errors(backend: Backend, pair: Sequence[Sample], noise: torch.Tensor, level: float, ways: Sequence[Shift]) -> list[float]:
    """Mean squared error of the pair's clean latents, moved in each way; all in one pass."""
    rows = [(sample, way) for way in ways for sample in pair]
    latent = torch.stack([shifted(sample.latent, way) for sample, way in rows]).to(backend.device)
    masks = [None if sample.mask is None else shifted(sample.mask, way) for sample, way in rows]
    sigma = backend.sigmas(torch.full((len(rows),), level, device=backend.device))
    noises = noise.to(backend.device).expand_as(latent)
    batch = at_levels(backend, latent, noises, sigma, [sample.cond for sample, _ in rows], masks)
    errors: list[float] = clean_error(backend, batch).reshape(len(ways), len(pair)).mean(dim=1).tolist()
    return errors


def spec_in_force(spec: TrainSpec, moved_error: float | None) -> TrainSpec:
    """The spec with the jitter that was found, and the noise levels that follow from it (noising.timesteps_of)."""
    if moved_error is None or spec.jitter is not None:
        return spec
    jitter = FORMULAS[spec.objective].jitter if is_familiar(moved_error) else 0.0
    timesteps = spec.timesteps
    if timesteps is Timesteps.AUTO:
        timesteps = Timesteps.MODEL if jitter else Timesteps.LOGIT_NORMAL
    return replace(spec, jitter=jitter, timesteps=timesteps)


def moved_note(spec: TrainSpec, moved_error: float | None) -> str:
    """A sentence on what was measured, for the status."""
    if moved_error is None or spec.jitter is not None:
        return ""
    times = f"the model errs {moved_error:.2f} times as much on moved ones"
    if is_familiar(moved_error):
        return f" The pairs are moved at random (jitter): {times}."
    return f" The pairs stay in their places (jitter 0): {times}."
