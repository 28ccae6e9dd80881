"""What papers report of sliders, of one side of a sweep: pictures from strength 0 outwards.

KK: Kontinuous Kontext (Parihar et al. 2025, arXiv 2510.08532), by the code that its authors published
(snap-research/kontinuouskontext, compute_lpips_and_clip_scores.py): six even strengths from the source picture to the full edit.
CS: Concept Sliders (Gandikota et al. 2023, arXiv 2311.12092). AO: All-in-One Slider.
Every function gives NaN where there is nothing to divide by. A figure of a sweep is the mean over its rows.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F


@dataclass(frozen=True)
class Trajectory:
    """Distances between n + 1 pictures, any unit. `strengths`: n + 1, rising from 0, how far each is from the first picture's;
    `steps`: n, from each to the next; `skips`: n - 1, from each to the next but one; `distances`: n + 1, from the first."""

    strengths: Sequence[float]
    steps: Sequence[float]
    skips: Sequence[float]
    distances: Sequence[float]


def _ratio(top: float, bottom: float) -> float:
    return top / bottom if bottom else math.nan


def mean(values: Sequence[float]) -> float:
    """Of those that are numbers; NaN where none is."""
    numbers = [value for value in values if math.isfinite(value)]
    return statistics.fmean(numbers) if numbers else math.nan


def step_shares(path: Trajectory) -> list[float]:
    """Each step's share of the way, (n,), sum 1 (KK). Ours: a step counts per unit of strength, so that strengths which are not
    even make no uneven steps; for even ones it is KK's."""
    rates = []
    for place, step in enumerate(path.steps):
        rates.append(step / (path.strengths[place + 1] - path.strengths[place]))
    return [_ratio(rate, sum(rates)) for rate in rates]


def step_deviation(path: Trajectory) -> float:
    """Standard deviation of the shares, over n (KK). 0: every step looks as large as the next."""
    shares = step_shares(path)
    return statistics.pstdev(shares) if mean(shares) > 0 else math.nan


def triangle_deficits(path: Trajectory) -> list[float]:
    """(n - 1,): the way over a picture against the way past it, (d(l, m) + d(m, r) - d(l, r)) / d(l, r) (KK: its mean is the
    second-order smoothness). 0: a straight line in a distance that is a length; LPIPS is none, and can give less than 0."""
    deficits = []
    for first, second, direct in zip(path.steps[:-1], path.steps[1:], path.skips, strict=True):
        deficits.append(_ratio(first + second - direct, direct))
    return deficits


def linearity(strengths: Sequence[float], values: Sequence[float]) -> float:
    """Pearson's r of what is measured and the strength. KK reports an r, its code does not hold it: ours is that of the distance
    from strength 0. AO's R2 is the square of such an r."""
    try:
        return statistics.correlation(strengths, values)
    except statistics.StatisticsError:  # fewer than two points, or all alike
        return math.nan


def rises_to(path: Trajectory) -> float:
    """The strength up to which every picture is further from strength 0 than the one before: the useful range ends here."""
    reached = 0.0
    for place, strength in enumerate(path.strengths[1:]):
        if not path.distances[place + 1] > path.distances[place]:
            break
        reached = strength
    return reached


def clip_directions(images_NE: torch.Tensor, source_E: torch.Tensor, target_E: torch.Tensor) -> list[float]:
    """(n,): cosine of each picture's way from the first with the way from the source prompt to the target prompt, of CLIP
    embeddings of length 1 (KK, after StyleGAN-NADA)."""
    images = F.normalize(images_NE.float(), dim=-1)
    way = F.normalize(target_E.float(), dim=-1) - F.normalize(source_E.float(), dim=-1)
    cosines = []
    for change in images[1:] - images[0]:
        length = float(change.norm() * way.norm())
        cosines.append(_ratio(float(change @ way), length))
    return cosines


def clip_direction(cosines: Sequence[float], strengths: Sequence[float]) -> float:
    """Mean of the cosines, each divided by its strength's share of the last (KK: clip_dir_sim_avg). It can be above 1."""
    return mean([cosine * _ratio(strengths[-1], strength) for cosine, strength in zip(cosines, strengths[1:], strict=True)])


def clip_similarities(images_NE: torch.Tensor) -> list[float]:
    """(n,): cosine of each picture's CLIP embedding with the first one's (KK). 1: the same picture to CLIP."""
    return F.cosine_similarity(images_NE[1:].float(), images_NE[:1].float(), dim=-1).tolist()


def clip_gain(images_NE: torch.Tensor, target_E: torch.Tensor) -> float:
    """How much nearer the last picture is to the target prompt than the first, 100 times the cosine (CS: delta CLIP)."""
    first, last = F.cosine_similarity(images_NE[[0, -1]].float(), target_E.float()[None], dim=-1).tolist()
    return 100 * (last - first)
