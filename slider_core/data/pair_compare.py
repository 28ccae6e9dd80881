"""What only many pairs together show, out of their small images: changes that point the other way, and duplicates.

Changes are compared as signed differences at 32 x 32, moved against each other by up to 8 cells, because the smile of one
face is not where that of another is; of all places the strongest match counts, with its sign. Mirrored duplicates are not seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .pair_check import CELLS, distance, luma

SAME_PICTURE = 0.045  # the worst cell of a duplicate
REACH = 8  # cells by which a change is moved
REFERENCES = 64  # how many others each is held against
AGREE = 0.4  # mean cosine of the others among themselves,
AGAINST = -0.25  # and of the one that points the other way


def _strongest_cosines(changes_N3SS: torch.Tensor, references: list[int]) -> torch.Tensor:
    """(N, references): cosine of each change to each reference, moved to where it is strongest; 0 with itself."""
    norms = changes_N3SS.flatten(1).norm(dim=1).clamp_min(1e-9)
    spectra = torch.fft.rfft2(F.pad(changes_N3SS / norms[:, None, None, None], (0, CELLS // 2, 0, CELLS // 2)))
    cosine_NR = torch.zeros(len(changes_N3SS), len(references))
    for column, other in enumerate(references):
        moved = torch.fft.irfft2((spectra * spectra[other].conj()).sum(1), s=(CELLS + CELLS // 2,) * 2)
        near = moved.roll((REACH, REACH), (1, 2))[:, : 2 * REACH + 1, : 2 * REACH + 1].flatten(1)
        cosine_NR[:, column] = near.gather(1, near.abs().argmax(1, keepdim=True))[:, 0]
        cosine_NR[other, column] = 0
    return cosine_NR


def against(changes_N3SS: torch.Tensor) -> dict[int, float]:
    """Which signed differences point against the others: index -> mean cosine. Empty when the others do not agree."""
    count = len(changes_N3SS)
    few = torch.linspace(0, count - 1, min(count, REFERENCES)).round().long()
    cosine_NR = _strongest_cosines(changes_N3SS, few.tolist())
    way_R = torch.linalg.eigh((cosine_NR[few] + cosine_NR[few].T) / 2)[1][:, -1].sign()
    score_N = (cosine_NR * way_R).sum(1) / (cosine_NR != 0).sum(1).clamp_min(1)
    if (score_N > 0).sum() * 2 < count:
        score_N = -score_N
    others = score_N[score_N > 0]
    if len(others) * 3 < count * 2 or others.mean() < AGREE:
        return {}
    return {i: float(score_N[i]) for i in (score_N < AGAINST).nonzero()[:, 0].tolist()}


def duplicates(cells_N3SS: torch.Tensor) -> dict[int, int]:
    """Every image that another one before it shows already: index -> index of the first such."""
    cells = F.avg_pool2d(cells_N3SS, 2)
    coarse = F.adaptive_avg_pool2d(luma(cells), 8).flatten(1)
    close = torch.cdist(coarse, coarse, p=torch.inf) < SAME_PICTURE
    first = {}
    for i in range(1, len(cells)):
        others = close[i, :i].nonzero()[:, 0]
        same = others[distance(cells[others] - cells[i]).flatten(1).amax(1) < SAME_PICTURE]
        if len(same):
            first[i] = int(same[0])
    return first
