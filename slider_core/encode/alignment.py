"""Do the two images of each pair line up? Unpaired sets with equal file names are no pairs, and must not be trained as such.

Two signs, and one suffices: among all images of the other side partners lie nearest to each other, far more often than by chance;
or the outlines of the two correlate, whatever colours they have, and more than those of any two images, which may all be
portraits. tests/core/test_alignment.py says how often both are right on the demo world.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch.nn import functional as F

NEAR = 0.12  # share of the other side that may lie nearer than the partner; chance is a half
SIGMAS = 3.3  # and how many standard deviations that must be from chance
OUTLINED = 0.6  # median correlation of the outlines
OWN, ALIKE = 0.15, 0.85  # how much more than with the others' partners, unless all are so much alike
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


def outlines_agree(positive: torch.Tensor, negative: torch.Tensor) -> float:
    """Correlation of the outlines of two latents (C, H, W) or (C, T, H, W); 0 where one has none."""
    a, b = _outline(positive.float()), _outline(negative.float())
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size else 0.0


def line_up(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> bool:
    """Whether these are pairs: latents of one or several shapes, partners at the same place of both lists."""
    return _partners_nearest(positives, negatives) or _outlines_tell(positives, negatives)


def _outlines_tell(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> bool:
    """Whether the outlines of partners agree, and not as those of any two images do."""
    agree = _median_agreement(positives, negatives)
    if not OUTLINED <= agree < ALIKE or len(positives) == 1:
        return agree >= OUTLINED
    turned = [*negatives[1:], negatives[0]]
    others = [(p, n) for p, n in zip(positives, turned, strict=True) if p.shape == n.shape]
    return not others or agree - _median_agreement(*zip(*others, strict=True)) >= OWN


def _median_agreement(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> float:
    return float(torch.tensor([outlines_agree(p, n) for p, n in zip(positives, negatives, strict=True)]).median())


def _partners_nearest(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> bool:
    """Whether partners lie nearer than chance has it. An image alone of its shape has nobody else to be near to."""
    groups: dict[torch.Size, list[tuple[torch.Tensor, torch.Tensor]]] = defaultdict(list)
    for pair in zip(positives, negatives, strict=True):
        groups[pair[0].shape].append(pair)
    near = variance = 0.0
    compared = [pairs for pairs in groups.values() if len(pairs) > 1]
    total = sum(map(len, compared))
    for pairs in compared:
        weight = len(pairs) / total
        near += weight * nearer_share(*zip(*pairs, strict=True))
        variance += (weight * _chance(len(pairs))) ** 2
    return total > 0 and near <= min(NEAR, 0.5 - SIGMAS * variance**0.5)


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
