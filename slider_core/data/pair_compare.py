"""What only many pairs together show, out of their small images: whether they belong together, whose shift is chance, duplicates.

Partners have in common what sets them apart from the others. So the mean of each side is taken off, with it what the concept
changes in all of them, and the rest of every positive is correlated with the rest of every negative: among partners the
correlation is high, elsewhere it is near 0, whatever the style, the scale or the strength of the change. That is a statistic of
permutations: unpaired sets have as much in common across as within. A thing on an even background has few outlines besides those
that change; there it tells how much of the picture stays as it is. benchmarks/doctor.py and doctor_scenes.py measure how often
this is right.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .pair_check import PairFigures, distance, gradient, luma

SAME_PICTURE = 0.045  # the worst cell of a duplicate
SHARPEST = 4  # pixels of a cell
FEWEST = 3  # pairs that tell whether they belong together
TOGETHER = 0.26  # how much more partners have in common than images of different pairs, mean of the set,
ALONE = 0.3  # of a pair with a wrong partner,
OTHERS = 0.65  # and of the others then
MOVED = 0.45  # mean of a set whose one side is moved as a whole, in its best place,
REACH = 4  # among so many cells each way
WHERE = 4.0  # times the mean by which a small change lies where that of the others does
SAME = 0.02  # difference up to which a cell shows the same,
IN_PLACE = 0.4  # and how much more of the picture does so in partners, share of it, where that alone tells
MOVED_SAME = 0.4  # of where a moved pair shows anything, the share that is the same then,
MOVED_ALIKE = 0.96  # or how well its outlines fit, a correlation,
MOVED_TOGETHER, MOVED_OTHERS = 4, 0.25  # or pixels within which so much of all pairs is moved as it is
STRANGE, STRANGE_SHOWN = 0.1, 0.2  # the same in a pair, or where it shows anything, as a share of that in others,
KNOWN, OUTLINED, LIT = 0.5, 0.9, 1.1  # the median of the others, correlation of outlines, and times by which it is lit otherwise
BEST = 3  # of the four features: those in which two images have most in common


@dataclass(frozen=True)
class Belonging:
    """How much more partners have in common than images of different pairs, a difference of correlations, or of shares of the
    picture: of the set, of each."""

    mean: float
    of_pairs: tuple[float, ...]

    @property
    def unpaired(self) -> bool:
        return len(self.of_pairs) >= FEWEST and self.mean < TOGETHER

    def wrong_partners(self) -> list[int]:
        """The pairs whose two images do not belong together, where those of the others do."""
        found: list[int] = []
        if self.unpaired or len(self.of_pairs) < FEWEST:
            return found
        for i, own in enumerate(self.of_pairs):
            others = torch.tensor([*self.of_pairs[:i], *self.of_pairs[i + 1 :]])
            if own < ALONE and float(others.median()) > OTHERS:
                found.append(i)
        return found


def belonging(views_N2CSS: torch.Tensor, orientations: Iterable[torch.Tensor] = ()) -> Belonging:
    """Of (N, positive and negative, channels, S, S). `orientations`: (N,) signs; -1 exchanges a pair. The best of them counts,
    so that a pair that is the wrong way round still belongs together; where none does, what stays as it is."""
    count = len(views_N2CSS)
    if count < FEWEST:
        return Belonging(1.0, (1.0,) * count)
    results = []
    for signs in (torch.ones(count), *orientations):
        turned = torch.where(signs[:, None, None, None, None] > 0, views_N2CSS, views_N2CSS.flip(1))
        results.append(_belonging(turned[:, 0], turned[:, 1]))
    best = max(results, key=lambda result: result.mean)
    return best if not best.unpaired else _unchanged(views_N2CSS) or best


def _unchanged(views_N2CSS: torch.Tensor) -> Belonging | None:
    """How much more of the picture is the same in partners, where that is most of it; else None."""
    more = _more_than_others(_same(views_N2CSS))
    return Belonging(float(more.mean()), tuple(more.tolist())) if more.mean() >= IN_PLACE else None


def _same(views_N2CSS: torch.Tensor) -> torch.Tensor:
    """(N, N): the share of the picture that is the same in each positive and each negative."""
    positive, negative = views_N2CSS[:, 0, :3], views_N2CSS[:, 1, :3]
    return torch.stack([_share_same(one, negative) for one in positive])


def _share_same(positive_N3SS: torch.Tensor, negative_N3SS: torch.Tensor) -> torch.Tensor:
    """(N,): the share of the picture that is the same in both."""
    return (distance(positive_N3SS - negative_N3SS) < SAME).flatten(1).float().mean(1)


def _more_than_others(alike_NN: torch.Tensor) -> torch.Tensor:
    """(N,): how much likelier partners are than images of different pairs."""
    partners = alike_NN.diagonal()
    return partners - (alike_NN.sum(0) + alike_NN.sum(1) - 2 * partners) / (2 * (len(alike_NN) - 1))


def _likeness(positive_NCSS: torch.Tensor, negative_NCSS: torch.Tensor) -> torch.Tensor:
    """(N, N): correlation of what sets each positive apart with what sets each negative apart."""
    both = zip(_features(positive_NCSS), _features(negative_NCSS), strict=True)
    return torch.stack([_apart(a).T @ _apart(b) for a, b in both]).sort(0).values[-BEST:].mean(0)


def partners_elsewhere(views_N2CSS: torch.Tensor) -> dict[int, int]:
    """For each positive the negative of another pair that belongs to it, where all of the images find each other; empty where it
    is not that clear. Each is the other's likest, and so they belong together as partners that nobody has mixed up."""
    count = len(views_N2CSS)
    if count < FEWEST:
        return {}
    likeness = _likeness(views_N2CSS[:, 0], views_N2CSS[:, 1])
    negatives, positives = likeness.argmax(1), likeness.argmax(0)
    if not torch.equal(positives[negatives], torch.arange(count)):
        return {}
    together = _belonging(views_N2CSS[:, 0], views_N2CSS[negatives, 1])
    positive, negative = views_N2CSS[:, 0, :3], views_N2CSS[:, 1, :3]
    more_stays = _share_same(positive, negative[negatives]) >= _share_same(positive, negative) - SAME  # than in the pair as it is
    if together.mean < OTHERS or min(together.of_pairs) < ALONE or not more_stays.all():
        return {}
    return {i: n for i, n in enumerate(negatives.tolist()) if i != n}


def _belonging(positive_NCSS: torch.Tensor, negative_NCSS: torch.Tensor) -> Belonging:
    count = len(positive_NCSS)
    more = _more_than_others(_likeness(positive_NCSS, negative_NCSS))
    of_pairs = more * (count - 1) / count  # centring alone makes the others -1 / (count - 1)
    return Belonging(float(more.mean()), tuple(of_pairs.tolist()))


def moved_side(views_N2CSS: torch.Tensor) -> tuple[int, int] | None:
    """(right, down) in cells by which all negatives lie off their positives, of pairs that do not belong together where they lie;
    None if they do not there either."""
    count, size = len(views_N2CSS), views_N2CSS.shape[-1]
    if count < FEWEST or size <= 4 * REACH:
        return None
    places = {}
    for x in range(-REACH, REACH + 1):
        for y in range(-REACH, REACH + 1):
            still = views_N2CSS[:, 0, :, max(0, -y) : size - max(0, y), max(0, -x) : size - max(0, x)]
            moved = views_N2CSS[:, 1, :, max(0, y) : size - max(0, -y), max(0, x) : size - max(0, -x)]
            places[x, y] = _belonging(still, moved).mean
    best = max(places, key=lambda place: places[place])
    return best if places[best] > MOVED else None


def _same_of_shown(pair: PairFigures) -> float:
    """The share that is the same in both, of where one shows anything: an even background is the same anywhere."""
    shows = pair.views[:, 3].amax(0) > 0
    return float((distance(pair.views[0, :3] - pair.views[1, :3])[shows] < SAME).float().mean())


def without_chance_shifts(pairs: Sequence[PairFigures]) -> tuple[PairFigures, ...]:
    """The pairs, without the shifts at which pictures of different things happen to overlap: little of them is the same there,
    their outlines are not quite alike, and no others are moved so."""

    def is_chance(pair: PairFigures) -> bool:
        if pair.shift is None:
            return False
        right, down = pair.shift
        shifts = [other.shift for other in pairs if other is not pair and other.shift is not None]
        alike = sum(abs(x - right) <= MOVED_TOGETHER and abs(y - down) <= MOVED_TOGETHER for x, y in shifts)
        if alike >= max(1, MOVED_OTHERS * len(pairs)):
            return False
        return _same_of_shown(pair) < MOVED_SAME and pair.aligned < MOVED_ALIKE

    return tuple(pair.in_place() if is_chance(pair) else pair for pair in pairs)


def strangers(pairs: Sequence[PairFigures]) -> list[int]:
    """The pairs of which next to nothing is the same, nor the outlines, where half and more of the others stays as it is: unless
    it is the light that differs, or most pairs are moved."""
    if len(pairs) < FEWEST or 2 * sum(pair.shift is not None for pair in pairs) > len(pairs):
        return []
    views = torch.stack([pair.views[:, :3] for pair in pairs])
    wholes_N, shown_N = _share_same(views[:, 0], views[:, 1]), torch.tensor([*map(_same_of_shown, pairs)])

    def is_strange(i: int, same_N: torch.Tensor, share: float) -> bool:
        others = float(torch.cat([same_N[:i], same_N[i + 1 :]]).quantile(0.5))
        return others > KNOWN and bool(same_N[i] < share * others)

    strange = [i for i in range(len(pairs)) if is_strange(i, wholes_N, STRANGE) or is_strange(i, shown_N, STRANGE_SHOWN)]
    return [i for i in strange if pairs[i].structure < OUTLINED and 1 / LIT < pairs[i].light < LIT]


def changed_as_others(small_SS: torch.Tensor, others_NSS: torch.Tensor) -> bool:
    """Whether what differs a little in one pair differs where more does in the others: a faint change, and not what compression
    leaves. Both are how much differs in each cell."""
    if len(others_NSS) < FEWEST - 1:
        return False
    where = (others_NSS / others_NSS.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-9)).mean(0)
    return bool((small_SS * where).sum() > WHERE * small_SS.mean() * where.sum())


def _features(view_NCSS: torch.Tensor) -> list[torch.Tensor]:
    """Colours, detail, outlines, and which way outlines run whatever side of them is the lighter; each (N, numbers)."""
    grey = luma(view_NCSS[:, :3])
    outlines = 2 * gradient(grey)
    right, down = outlines.unbind(1)
    size = (right.square() + down.square()).sqrt().clamp_min(1e-6)
    run = torch.stack([right.square() - down.square(), 2 * right * down], 1) / size[:, None]
    return [feature.flatten(1) for feature in (view_NCSS[:, :3], view_NCSS[:, 3], outlines, run)]


def _apart(feature_NF: torch.Tensor) -> torch.Tensor:
    """(F, N): what sets each image apart from the mean of all, of length 1."""
    rest = feature_NF - feature_NF.mean(0)
    return (rest / rest.norm(dim=1, keepdim=True).clamp_min(1e-9)).T


def duplicates(cells_N3SS: torch.Tensor, side: int) -> dict[int, int]:
    """Every image that another one before it shows already: index -> index of the first such. `side`: that of the pictures in
    pixels; what is compared has at least SHARPEST of them a cell, because compression spoils smaller ones."""
    cells = F.adaptive_avg_pool2d(cells_N3SS, max(1, min(cells_N3SS.shape[-1], side // SHARPEST)))
    coarse = F.adaptive_avg_pool2d(luma(cells), 8).flatten(1)
    close = torch.cdist(coarse, coarse, p=torch.inf) < SAME_PICTURE
    first = {}
    for i in range(1, len(cells)):
        others = close[i, :i].nonzero()[:, 0]
        same = others[distance(cells[others] - cells[i]).flatten(1).amax(1) < SAME_PICTURE]
        if len(same):
            first[i] = int(same[0])
    return first
