"""Which way round is each pair? What changes from the negative to the positive, compared over all pairs of a set.

A pair that is the wrong way round changes against the others in everything: colour, detail, contrast, and the way in which
outlines move. A pair whose colours run the other way, because the skin is dark where that of others is light, does so in colour
alone. So several features are compared, each a map (C, S, S) that changes its sign when the two images are exchanged, and one
that still agrees acquits a pair. Two pairs agree by the cosine of their maps: where they are, and moved against each other by up
to `FAR` cells, because the smile of one face is not where that of another is. Where that tells nothing, what stands out from the
picture is compared, whatever its colour: a ball that grows. benchmarks/doctor.py and doctor_scenes.py measure how often this is
right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .pair_check import CELLS, gradient, luma

LEAST = 3  # pairs
FAR = 8  # cells by which a change is moved where the pairs do not agree in place
REFERENCES = 64  # how many others each is held against
AGREES = (0.25, 0.55)  # mean cosine of pairs that have a direction in common: in place, moved
ACCUSES = (-0.2, -0.4)  # mean cosine to the others of a pair that is the wrong way round, in one feature,
ACCUSES_FIGURE = (-0.2, -0.5)  # where only figures tell,
ACQUITS = 0.05  # and of one that is not, in any; and this
WITH = 0.5  # share of what the others have among themselves
INFORMS = 0.1  # mean cosine of the others among themselves, from which on a feature is asked
Stage = tuple[int, float, float]  # cells by which a change is moved, and the limits of AGREES and ACCUSES that go with it


@dataclass(frozen=True)
class Direction:
    """`against`: the pairs that are the wrong way round, with their mean cosine to the others. `known`: whether the pairs have a
    direction in common. `halved`: it would be one, but points one way in half of them and the other way in the rest. `signs`: for
    each feature those of the pairs that fit it best."""

    against: dict[int, float]
    known: bool
    halved: bool = False
    signs: tuple[torch.Tensor, ...] = ()


def changes(views_N2CSS: torch.Tensor) -> dict[str, torch.Tensor]:
    """The features of each pair, by name: (N, channels, S, S)."""
    positive, negative = views_N2CSS[:, 0], views_N2CSS[:, 1]
    colour = positive[:, :3] - negative[:, :3]
    slope = gradient(luma((positive[:, :3] + negative[:, :3]) / 2))
    return {
        "colour": colour,
        "detail": positive[:, 3:] - negative[:, 3:],
        "outlines": luma(colour)[:, None] * slope,
        "contrast": _contrast(positive[:, :3]) - _contrast(negative[:, :3]),
    }


def figure(views_N2CSS: torch.Tensor) -> dict[str, torch.Tensor]:
    """{its name: (N, 1, S, S)}: by how much more each place stands out from the image's most common colour in the positive."""
    colours = views_N2CSS[:, :, :3]
    common = colours.flatten(3).median(3).values[..., None, None]
    apart = (colours - common).norm(dim=2, keepdim=True)
    return {"figure": apart[:, 0] - apart[:, 1]}


def _contrast(colours_N3SS: torch.Tensor, width: int = 3) -> torch.Tensor:
    """(N, 1, S, S): how far each place lies off its surroundings, squared."""
    around = F.avg_pool2d(F.pad(colours_N3SS, (width,) * 4, mode="replicate"), 2 * width + 1, 1)
    return (colours_N3SS - around).square().sum(1, keepdim=True)


def cosines(feature_NCSS: torch.Tensor, references: list[int], reach: int = 0) -> torch.Tensor:
    """(N, references): cosine of each change to each reference, moved to where it is strongest; 0 with itself."""
    norms = feature_NCSS.flatten(1).norm(dim=1).clamp_min(1e-9)
    spectra = torch.fft.rfft2(F.pad(feature_NCSS / norms[:, None, None, None], (0, CELLS // 2, 0, CELLS // 2)))
    cosine_NR = torch.zeros(len(feature_NCSS), len(references))
    for column, other in enumerate(references):
        places = torch.fft.irfft2((spectra * spectra[other].conj()).sum(1), s=(CELLS + CELLS // 2,) * 2)
        near = places.roll((reach, reach), (1, 2))[:, : 2 * reach + 1, : 2 * reach + 1].flatten(1)
        cosine_NR[:, column] = near.gather(1, near.abs().argmax(1, keepdim=True))[:, 0]
        cosine_NR[other, column] = 0
    return cosine_NR


def _fitting_signs(cosine_NR: torch.Tensor, references: list[int]) -> torch.Tensor:
    """(N,) 1 or -1: the signs in which the pairs agree best, the more of them 1. Of the references they are those of the leading
    eigenvector of their cosines."""
    square = cosine_NR[references]
    way_R = torch.linalg.eigh((square + square.T) / 2)[1][:, -1].sign()
    signs = torch.where(cosine_NR @ way_R < 0, -1.0, 1.0)
    signs[references] = torch.where(way_R < 0, -1.0, 1.0)
    return signs if signs.sum() >= 0 else -signs


def way_round(views_N2CSS: torch.Tensor) -> Direction:
    """Which pairs are the wrong way round, of (N, positive and negative, channels, S, S). At least LEAST pairs, else nothing."""
    count = len(views_N2CSS)
    if count < LEAST:
        return Direction({}, False)
    references = torch.linspace(0, count - 1, min(count, REFERENCES)).round().long().tolist()
    result = Direction({}, False)
    for features_of, limit in ((changes, ACCUSES), (figure, ACCUSES_FIGURE)):
        features = features_of(views_N2CSS)
        for stage in zip((0, FAR), AGREES, limit, strict=True):
            result = _compared(result, features, references, stage)
        if result.known or result.halved:
            break
    return result


def _compared(so_far: Direction, features: dict[str, torch.Tensor], references: list[int], how: Stage) -> Direction:
    """What is known so far, and what these features say."""
    reach, agrees, accuses = how
    cosine = [cosines(feature, references, reach) for feature in features.values()]
    signs = [_fitting_signs(cosine_NR, references) for cosine_NR in cosine]
    held = [_held(*given, references) for given in zip(cosine, signs, strict=True)]
    best = max(range(len(cosine)), key=lambda i: held[i])
    common = held[best] >= agrees
    half = int((signs[best] < 0).sum()) * 2 == len(signs[best])
    against = _accused(cosine, signs[best], references, accuses) if common and not half else {}
    known = so_far.known or (common and not half)
    halved = so_far.halved or (common and half)
    return Direction(against | so_far.against, known, halved, (*so_far.signs, *signs))


def _held(cosine_NR: torch.Tensor, signs: torch.Tensor, references: list[int]) -> float:
    """The mean cosine of the pairs, each with its sign."""
    oriented = signs[:, None] * cosine_NR * signs[references]
    return float(oriented.sum() / max(1, oriented.numel() - len(references)))


def _accused(cosine: list[torch.Tensor], signs: torch.Tensor, references: list[int], accuses: float) -> dict[int, float]:
    """The pairs of sign -1 that point against the others in one feature and with them in none: index -> mean cosine."""
    others = [column for column, pair in enumerate(references) if signs[pair] > 0]
    rows = [references[column] for column in others]
    found = {}
    for pair in (signs < 0).nonzero()[:, 0].tolist():
        means = []
        acquitted = False
        for cosine_NR in cosine:
            among = cosine_NR[rows][:, others]
            agreement = float(among.sum()) / max(1, among.numel() - len(rows))
            if agreement >= INFORMS:
                means.append(float(cosine_NR[pair, others].mean()))
                acquitted |= means[-1] > max(ACQUITS, WITH * agreement)
        if means and min(means) < accuses and not acquitted:
            found[pair] = min(means)
    return found
