"""What sliders on one model do to each other, and the strengths at which each does what it does alone.

On latents that the model draws at one prompt, under noise that all share, d_j is what slider j alone changes in the model's clean
estimate, at the strength it is wanted at. Along slider i's own change slider j goes

    M_ij = <d_j, d_i> / <d_i, d_i>                  1 on the diagonal; 0 between sliders that leave each other alone

With all on, i gets about sum_j M_ij of what it does alone. The strengths t, in units of the wanted ones, are those nearest to 1
with M t = 1 (least squares); measured once more with all on, and corrected by the same matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch

from ..backend import Backend, Conditioning, seeded
from ..config.checks import need
from ..encode.called_levels import called_levels, nearest_levels
from ..encode.noised import Noised, at_levels, predict
from ..encode.text_latents import make_latents
from ..lora.slider_adapter import Adapter
from ..lora.strength import at_strength
from ..train.displacement import LEVELS

NOISES, STEPS = 4, 8
SAME = 0.1  # of the largest singular value: two sliders that go one way are shared out, not driven against each other
ROUNDS = 2
Point = tuple[Noised, torch.Tensor]  # with the answer of the model without a slider


@dataclass(frozen=True)
class Solved:
    """In the order of the sliders: `strengths` as factors of the wanted ones; `matrix` (n, n); and of what each does alone along
    its own change, the share that is there with all on, at the wanted strengths and at the solved ones."""

    strengths: tuple[float, ...]
    matrix: np.ndarray
    together: tuple[float, ...]
    solved: tuple[float, ...]

    def summary(self, names: Sequence[str]) -> str:
        """A line for each slider."""
        lines = []
        for name, factor, before, after in zip(names, self.strengths, self.together, self.solved, strict=True):
            lines.append(f"{name}: {before:.0%} of what it does alone, {after:.0%} at {factor:.2f} times the strength.")
        return "\n".join(lines).replace("%", " %")


def nearest_strengths(matrix: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """The smallest change of the strengths that brings what is missing, by least squares."""
    return np.linalg.lstsq(matrix, missing, rcond=SAME)[0]


def _points(backend: Backend, cond: Conditioning, shape: Sequence[int]) -> list[Point]:
    """Latents (NOISES, *shape) that the model draws at the prompt, under noise of each level at which it answers."""
    generator = seeded(0, "interference")
    levels = nearest_levels(LEVELS, called_levels(backend.few_steps))
    begin, *noises = (torch.randn(NOISES, *shape, generator=generator) for _ in range(1 + len(levels)))
    latent = make_latents(backend, begin, cond, STEPS).to(backend.device)
    points = []
    for level, noise in zip(levels, noises, strict=True):
        sigma = backend.sigmas(torch.full((NOISES,), level, device=backend.device))
        batch = at_levels(backend, latent, noise.to(backend.device), sigma, [cond] * NOISES)
        points.append((batch, predict(backend, batch)))
    return points


def _change(backend: Backend, points: Sequence[Point], adapters: Sequence[Adapter], weights: Sequence[float]) -> np.ndarray:
    """What these sliders at once change in the clean estimates, as one vector."""
    changes = []
    with ExitStack() as stack:
        for adapter, weight in zip(adapters, weights, strict=True):
            stack.enter_context(at_strength(adapter, backend.module, [weight] * NOISES))
        for batch, base in points:
            changes.append(((predict(backend, batch) - base) / batch.scale).double().flatten().cpu())
    return torch.cat(changes).numpy()


def solve(
    backend: Backend, adapters: Sequence[Adapter], weights: Sequence[float], cond: Conditioning, shape: Sequence[int]
) -> Solved:
    """`weights`: the LoRA weights that are wanted, none of them 0; `shape` (C, ..., H, W) of one latent. Costs
    NOISES x (STEPS + len(LEVELS) x (n + 2 + ROUNDS)) samples. SliderError for a slider that changes nothing."""
    wanted = np.asarray(weights, dtype=float)
    with backend.borrowed(), torch.no_grad():  # as borrowing ends the mode outside
        paths = sorted({path for adapter in adapters for path in adapter.paths})
        backend.prepare(paths, torch.zeros(*shape), cond)
        points = _points(backend, cond, shape)
        alone = [_change(backend, points, [adapter], [weight]) for adapter, weight in zip(adapters, wanted, strict=True)]
        gram = np.array([[float(one @ other) for other in alone] for one in alone])
        message = "A slider changes nothing at this prompt, so its strength cannot be solved: take it off, or change the prompt."
        need(bool((np.diag(gram) > 0).all()), message, "interference.no_effect")
        matrix = gram / np.diag(gram)[:, None]

        def shares(factors: np.ndarray) -> np.ndarray:
            change = _change(backend, points, adapters, list(wanted * factors))
            return np.array([float(change @ one) for one in alone]) / np.diag(gram)

        factors = np.ones(len(wanted))
        measured = [(factors, shares(factors))]
        for _ in range(ROUNDS):
            factors, share = measured[-1]
            factors = factors + nearest_strengths(matrix, 1 - share)
            measured.append((factors, shares(factors)))
    best = min(measured, key=lambda pair: float(np.abs(1 - pair[1]).max()))
    return Solved(tuple(best[0].tolist()), matrix, tuple(measured[0][1].tolist()), tuple(best[1].tolist()))
