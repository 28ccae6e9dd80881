"""Do the two images of each pair line up? Two heaps with equal file names are no pairs, and must not be trained as such.

Two signs, and one suffices: each image finds its own partner among all the other side's, far more often than by chance; or the
outlines of the two correlate, whatever colours they have. Measured on the demo world, 8 sets each of 4, 6 and 12 pairs: pairs in
which a part or a colour changes always line up, pairs in which the whole face moves or grows in 64 of 72 sets, two heaps never in
168 sets.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

SIGMAS = 4  # standard deviations above chance, at which images find their partners by more than luck
OUTLINED = 0.5  # median correlation of the outlines


def found_partner(positives: Sequence[torch.Tensor], negatives: Sequence[torch.Tensor]) -> float:
    """The share of images, both sides together, that lie nearer to their partner than to any other of its side."""
    apart = torch.cdist(*(torch.stack([t.flatten() for t in side]).float() for side in (positives, negatives)))
    own = torch.arange(len(apart))
    return float(torch.cat([apart.argmin(dim=0) == own, apart.argmin(dim=1) == own]).float().mean())


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
    shapes = [p.shape for p in positives]
    shares, total = 0.0, len(shapes)
    for shape in dict.fromkeys(shapes):
        same = [n for n, s in enumerate(shapes) if s == shape]
        shares += len(same) * found_partner([positives[n] for n in same], [negatives[n] for n in same])
    chance = 1 / max(shapes.count(shape) for shape in shapes)  # alone of its shape an image finds its partner for want of others
    enough = chance + SIGMAS * (chance * (1 - chance) / (2 * total)) ** 0.5
    agree = [outlines_agree(p, n) for p, n in zip(positives, negatives, strict=True)]
    return bool(chance < 1 and shares / total >= enough) or bool(torch.tensor(agree).median() >= OUTLINED)
