"""Is there a direction at all? What pairs, or prompts, ask of a model before anything is trained.

For each pair, noise level and noise the gradient of the loss at a slider without effect: the step in the layers' weights that it
asks for. A slider is one change of the weights for all pairs, so what they ask must point the same way:

    agreement   the mean cosine between the gradients of different pairs, all noise levels together
    by level    the same at one noise level; and the size of the mean gradient there, over the largest: what a step moves
    by noise    the mean cosine between gradients of the same pair and level from two noises: what noise alone leaves in common
    layers      the share of each layer in the mean gradient's square

The factor A of a fresh LoRA is random and B nothing, so the gradient of B is the gradient of the weight seen through A: a random
projection, which keeps cosines. Cost: PAIRS x LEVELS x NOISES forward and backward passes of two samples, as many steps of a
training at batch 2. No pass is taken with a slider that acts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import torch

from ..backend import Backend
from ..config.checks import need
from ..config.hosts import set_pairing
from ..config.training import Timesteps, TrainSpec
from ..encode.called_levels import nearest_levels
from ..encode.encoder import Sample, pairs_of, widest_pairs
from ..lora.slider_adapter import Adapter
from ..lora.strength import attached
from ..objective.batch import Batch
from ..objective.noising import few_step_levels
from ..objective.step_loss import step_target

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)  # positions in the noise schedule; of a distilled model the nearest of its sampler's
PAIRS, NOISES = 6, 2
NUMBERS = 1021  # of a tensor
HALF_WIDTH = 0.005
MOVES = 0.5  # of the largest mean gradient: a level that counts
NONE, SOME = 0.03, 0.1  # agreement (docs/benchmarks-verdicts.md)


class Direction(str, Enum):
    """Whether a slider can be learned of it."""

    CLEAR = "clear"
    WEAK = "weak"
    NONE = "none"


@dataclass(frozen=True)
class Asked:
    """What was measured. `sizes`, `agreements`: by level; `layers`: (path, share), the largest first."""

    agreement: float
    agreements: tuple[float, ...]
    sizes: tuple[float, ...]
    by_noise: float
    layers: tuple[tuple[str, float], ...]
    pairs: int
    levels: tuple[float, ...] = LEVELS

    @property
    def direction(self) -> Direction:
        if self.agreement < NONE:
            return Direction.NONE
        return Direction.CLEAR if self.agreement >= SOME else Direction.WEAK

    @property
    def window(self) -> tuple[float, float]:
        """The noise levels, lowest and highest, at which a step moves at least half as much as at the best one; all of them where
        none moves anything."""
        counted = [level for level, size in zip(self.levels, self.sizes, strict=True) if size >= MOVES] or self.levels
        edges = [0.0, *((a + b) / 2 for a, b in itertools.pairwise(self.levels)), 1.0]
        return edges[self.levels.index(min(counted))], edges[self.levels.index(max(counted)) + 1]

    def share_of(self, paths: Sequence[str]) -> float:
        """Of the mean gradient's square, what lies in these layers."""
        return sum(share for path, share in self.layers if path in paths)


def asked_levels(spec: TrainSpec) -> tuple[float, ...]:
    """The noise levels that a training with these choices is asked at."""
    return nearest_levels(LEVELS, few_step_levels(spec))


def _units(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    units = widest_pairs([s for s in samples if s.prompt_pair is None])
    if not units:
        of_text = pairs_of([s for s in samples if s.prompt_pair is not None])
        units = [pair for pair in of_text if len(pair) == 2]
    count = min(PAIRS, len(units))
    message = f"The probe compares pairs, and there are fewer than two: add pairs, or {set_pairing('name or order')}."
    need(count > 1, message, "probe.no_pairs")
    shape = units[0][0].latent.shape
    return [unit for unit in units if unit[0].latent.shape == shape][:count]


def _batch(unit: tuple[Sample, ...], step: int) -> Batch:
    text = unit[0].prompt_pair is not None
    aligned = not text and all(sample.aligned for sample in unit)
    return Batch(step, unit, tuple(s.strength for s in unit), (0, 0), False, aligned, text_slider=text)


def asked(
    backend: Backend, adapter: Adapter, samples: Sequence[Sample], spec: TrainSpec, on_pass: Callable[[], object] = int
) -> Asked:
    """What the samples ask of a fresh `adapter`, whose factors stay as they are. SliderError without two pairs."""
    units, levels = _units(samples), asked_levels(spec)
    parameters = adapter.parameters()
    gradients = []  # of each level, pair, noise and parameter
    with backend.borrowed(), torch.enable_grad(), attached(adapter, backend.module):
        backend.prepare(adapter.paths, units[0][0].latent, units[0][0].cond)
        for level in levels:
            window = level - HALF_WIDTH, min(1.0, level + HALF_WIDTH)
            at = replace(spec, window=window, timesteps=Timesteps.MODEL, jitter=0.0)
            rows = []
            for number, unit in enumerate(units):
                noises = []
                for noise in range(NOISES):
                    loss = step_target(backend, _batch(unit, number * NOISES + noise), at).loss(backend, adapter).mean()
                    grads = torch.autograd.grad(loss, parameters, allow_unused=True)
                    noises.append(list(map(_sampled, grads)))
                    on_pass()
                rows.append(noises)
            gradients.append(rows)
    return replace(_asked(gradients, _owners(adapter), len(units)), levels=levels)


def _sampled(gradient: torch.Tensor | None) -> torch.Tensor:
    """At most NUMBERS of its numbers, evenly spread, scaled to the norm of all: those of a large model would fill the memory."""
    if gradient is None:
        return torch.zeros(0)
    stride = -(-gradient.numel() // NUMBERS)
    return gradient.detach().flatten()[::stride].float().cpu() * stride**0.5


def _owners(adapter: Adapter) -> list[str]:
    """The layer's path of each parameter."""
    return [target.path for target in adapter.targets for _ in adapter.part(target).parameters()]


def _asked(gradients: Sequence[Sequence[Sequence[Sequence[torch.Tensor]]]], owners: Sequence[str], pairs: int) -> Asked:
    flat = _stacked(gradients)  # (levels, pairs, noises, numbers)
    by_pair = flat.mean(dim=2)  # (levels, pairs, numbers)
    mean = by_pair.mean(dim=1)
    sizes = mean.norm(dim=1)
    whole = by_pair.sum(dim=0)
    by_noise = torch.nn.functional.cosine_similarity(flat[:, :, 0], flat[:, :, 1], dim=-1)
    total = mean.sum(dim=0)
    shares: dict[str, float] = {}
    start = 0
    for owner, tensor in zip(owners, gradients[0][0][0], strict=True):
        stop = start + tensor.numel()
        shares[owner] = shares.get(owner, 0.0) + float(total[start:stop].square().sum())
        start = stop
    all_of_it = max(sum(shares.values()), 1e-30)
    layers = sorted(((path, share / all_of_it) for path, share in shares.items()), key=lambda one: -one[1])
    return Asked(
        _agreement(whole),
        tuple(_agreement(level) for level in by_pair),
        tuple((sizes / sizes.max().clamp_min(1e-30)).tolist()),
        float(by_noise.mean()),
        tuple(layers),
        pairs,
    )


def _stacked(gradients: Sequence[Any]) -> torch.Tensor:
    """Nested lists of gradients as one tensor; the innermost list, one gradient for each parameter, as one row of numbers."""
    if isinstance(gradients[0], torch.Tensor):
        return torch.cat([tensor.flatten() for tensor in gradients])
    return torch.stack(list(map(_stacked, gradients)))


def _agreement(vectors: torch.Tensor) -> float:
    """The mean cosine between different rows (N, numbers)."""
    unit = torch.nn.functional.normalize(vectors, dim=1, eps=1e-30)
    square = unit @ unit.T
    count = len(vectors)
    return float((square.sum() - square.diagonal().sum()) / (count * (count - 1)))
