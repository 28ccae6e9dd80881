"""Do the two images of each pair line up? Unpaired sets with equal file names are no pairs, and must not be trained as such.

Two signs, and one suffices: among all images of the other side partners lie nearest to each other, far more often than by chance;
or the outlines of the two correlate, whatever colours they have, and so does what sets them apart from the outlines of the other
images of their side, which may all be portraits. tests/core/test_alignment.py says how often both are right on the demo world,
docs/benchmarks-images.md on others.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

NEAR = 0.12  # share of the other side that may lie nearer than the partner; chance is a half
SIGMAS = 3.3  # and how many standard deviations that must be from chance
OUTLINED = 0.6  # median correlation of the outlines of partners
OWN = 0.4  # mean correlation of what sets them apart from their side,
ARRANGED, SOME_OWN = 2.4, 0.25  # or so many standard deviations more than other arrangements have, and at least so much
ANY_TWO = 0.95  # median correlation from which on any two images show the same
ONE_FOR_ALL = 0.85  # median correlation of partners that is asked where all images of a side are one
NOTHING = 1e-5  # outlines of length 1 that lie so near to each other are the same
EVEN = 0.85  # agreement of the outlines in the worst frame of a clip over that in the best


def nearer_share(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> float:
    """The share of the other side that lies nearer than the partner, mean of all images: 0 for pairs, about 0.5 by chance.

    Distances are sums of roots, so that a few places that differ much count less than many that are the same.
    """
    flat_positives = torch.stack(list(positives)).flatten(1).float()
    flat_negatives = torch.stack(list(negatives)).flatten(1).float()
    apart = torch.cdist(flat_positives, flat_negatives, p=0.5)
    partner = apart.diagonal()
    nearer = torch.cat([(apart < partner).sum(dim=0), (apart < partner[:, None]).sum(dim=1)])
    return float(nearer.float().mean()) / (len(apart) - 1)


def _chance(count: int) -> float:
    """Standard deviation of `nearer_share` of `count` pairs by chance, where every rank is as likely."""
    return ((count + 1) / (count - 1) / (24 * count)) ** 0.5


def _outline(latent: torch.Tensor) -> torch.Tensor:
    """(..., H - 1, W - 1) how much changes from place to place, over all channels; a little blurred, its mean taken off."""
    down, right = latent[..., 1:, 1:] - latent[..., :-1, 1:], latent[..., 1:, 1:] - latent[..., 1:, :-1]
    strength = (down.square() + right.square()).flatten(0, -3).sum(dim=0).sqrt()
    blurred = F.avg_pool2d(strength[None, None], 3, 1, 1, count_include_pad=False)
    return blurred - blurred.mean()


def _outlines(latents: Sequence[torch.Tensor]) -> torch.Tensor:
    """(N, places) outlines of latents of one shape, of length 1; 0 where a latent has none."""
    return F.normalize(torch.stack([_outline(latent.float()) for latent in latents]).flatten(1), dim=1)


def outlines_agree(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Correlation of the outlines of two latents (C, H, W) or (C, T, H, W); 0 where one has none."""
    return float((_outlines([positive]) * _outlines([negative])).sum())


def line_up(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> bool:
    """Whether these are pairs: latents of one or several shapes, partners at the same place of both lists."""
    groups = _by_shape(positives, negatives)
    return _partners_nearest(groups) or _outlines_tell([_Compared.of(*sides) for sides in groups])


Sides = tuple[list[torch.Tensor], list[torch.Tensor]]  # positives and negatives of one shape, partners at the same place


def _by_shape(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> list[Sides]:
    """The pairs of each shape; a pair that comes twice counts once."""
    groups: dict[torch.Size, dict[bytes, tuple[torch.Tensor, torch.Tensor]]] = defaultdict(dict)
    for pair in zip(positives, negatives, strict=True):
        content = torch.stack(pair).float().cpu().numpy().tobytes()
        groups[pair[0].shape][hashlib.sha256(content).digest()] = pair
    return [([p for p, _ in pairs.values()], [n for _, n in pairs.values()]) for pairs in groups.values()]


def _partners_nearest(groups: Sequence[Sides]) -> bool:
    """Whether partners lie nearer than chance has it. An image alone of its shape has nobody else to be near to."""
    near = variance = 0.0
    compared = [sides for sides in groups if len(sides[0]) > 1]
    total = sum(len(sides[0]) for sides in compared)
    for sides in compared:
        weight = len(sides[0]) / total
        near += weight * nearer_share(*sides)
        variance += (weight * _chance(len(sides[0]))) ** 2
    return total > 0 and near <= min(NEAR, 0.5 - SIGMAS * variance**0.5)


class _Compared(NamedTuple):
    """How the outlines of the images of one shape agree."""

    partners: torch.Tensor  # (N,) of partners
    others: torch.Tensor  # (N * N - N,) of any other two, one of each side
    own: torch.Tensor  # (N,) of partners, after the mean outline of each side is taken off; empty where a side has but one image
    above: float  # sum of what partners agree then, not normalized; other arrangements have 0 in the mean
    variance: float  # and this variance

    @classmethod
    def of(cls, positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> _Compared:
        sides = [_outlines(positives), _outlines(negatives)]
        agree = sides[0] @ sides[1].T
        different = ~torch.eye(len(agree), dtype=torch.bool, device=agree.device)
        positive, negative = (side - side.mean(dim=0) for side in sides)
        partners, others = agree.diagonal(), agree[different]
        if min(float(positive.norm()), float(negative.norm())) < NOTHING:
            return cls(partners, others, partners[:0], 0.0, 0.0)
        own = F.cosine_similarity(positive, negative, eps=NOTHING)
        above = positive @ negative.T
        # Permutations of a matrix whose rows and columns sum to 0 have traces of this variance.
        return cls(partners, others, own, float(above.trace()), float(above.square().sum()) / (len(above) - 1))


def _outlines_tell(groups: Sequence[_Compared]) -> bool:
    """Whether the outlines of partners agree, and not as those of any two images do."""
    partners, others, own = (torch.cat(parts) for parts in list(zip(*groups, strict=True))[:3])
    agree = float(partners.median())
    if agree < OUTLINED or not len(others):
        return agree >= OUTLINED
    if not len(own):
        return agree >= ONE_FOR_ALL
    if min(agree, float(others.median())) >= ANY_TWO:
        return True
    deviations = sum(group.above for group in groups) / max(sum(group.variance for group in groups) ** 0.5, NOTHING)
    return float(own.mean()) >= (SOME_OWN if deviations >= ARRANGED else OWN)


def differ_in_motion(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> bool:
    """Whether it is motion that sets the clips (C, T, H, W) of pairs apart: their outlines part from each other over time, while
    looks change as much in every frame. On the world of clips the median evenness of looks is 0.96 and more, of speed and heading
    0.25 at their full range and 0.8 at a third of it. Images do not."""
    if positives[0].ndim < 4:
        return False
    return float(torch.tensor(list(map(_evenness, positives, negatives))).median()) < EVEN


def _evenness(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """The least agreement of the outlines of any frame over the greatest; 0 where no frame agrees."""
    agree = [outlines_agree(p, n) for p, n in zip(positive.unbind(1), negative.unbind(1), strict=True)]
    return min(agree) / max(agree) if max(agree) > 0 else 0.0
