"""The pair doctor: what is wrong with pairs before they are trained on, each finding in one line with its number and its mend.

Directions are compared as signed differences at 32 x 32, moved against each other by up to 8 cells, because the smile of one
face is not where that of another is; of all places the strongest match counts, with its sign. Mirrored duplicates are not seen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F

from .pair_check import CELLS, NOTHING, Checkup, Look, Patient, Single, check, distance, look, luma, plain

SAME_PICTURE = 0.045  # the worst cell of a duplicate
REACH, REFERENCES = 8, 64  # cells by which a change is moved; how many others each is held against
AGREE, AGAINST = 0.4, -0.25  # mean cosine of the others among themselves, and of the one that points the other way
ENLARGED, BLURRED, FLAT, ASPECT, FEW = 1.5, 0.9, 0.01, 1.03, 4  # times; edges in pixels; contrast; ratio; pairs


class Kind(str, Enum):
    """What a finding is about, the worst first."""

    UNPAIRED = "pairs that share nothing"
    WRONG_WAY = "wrong way round"
    IDENTICAL = "nothing differs"
    FLAT = "flat picture"
    UNRELATED = "wrong partner"
    SHIFTED = "shifted"
    SIDES_LIGHT = "sides differ in brightness"
    SIDES_SHARP = "sides differ in sharpness"
    SIDES_SIZE = "sides differ in size"
    LIGHT = "brightness differs"
    SHARP = "sharpness differs"
    CAPTIONS = "captions differ"
    TINY = "too small"
    BLURRED = "blurred"
    SIZE = "sizes differ"
    DUPLICATE = "duplicate"
    TOO_FEW = "too few pairs"


@dataclass(frozen=True)
class Finding:
    """One thing found. `pair`: the name of the pair or single picture, None for all of them; `short`: `text` without advice."""

    kind: Kind
    pair: str | None
    text: str
    short: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """`checkups` in the order of the pairs; `findings` the worst first, whatever that order was."""

    checkups: tuple[Checkup, ...]
    findings: tuple[Finding, ...]

    def of(self, pair: str | None) -> list[Finding]:
        return [f for f in self.findings if f.pair == pair]

    @property
    def summary(self) -> str:
        shares = sorted(c.share for c in self.checkups)
        count = f"{len(shares)} pair{'s' * (len(shares) != 1)}"
        return f"{count}, {shares[0]:.1%} to {shares[-1]:.1%} of the picture differs." if shares else f"{count}."

    def lines(self, most: int = 5) -> list[str]:
        """The report, worst first: one line for a finding, at most `most` of a kind, then the names of the rest."""
        lines = []
        for kind in Kind:
            of_kind = [f for f in self.findings if f.kind is kind]
            lines += [f.text for f in of_kind[:most]]
            if rest := list(dict.fromkeys(plain(f.pair or "") for f in of_kind[most:])):
                lines.append(f"{kind.value.capitalize()}, {len(rest)} more: {', '.join(rest[:20])}{', ...' * (len(rest) > 20)}.")
        return lines or ["Nothing found that would hurt."]


@dataclass(frozen=True)
class Measure:
    """Something that must be alike on both sides: the ratio, its limit within a pair and for the sides as a whole, the words."""

    kind: Kind
    side_kind: Kind
    of: Callable[[Checkup], float]
    limit: float
    side_limit: float
    words: str
    what: str


MEASURES = (
    Measure(Kind.LIGHT, Kind.SIDES_LIGHT, lambda c: c.light, 1.25, 1.15, "{:.2f} times as bright as", "brightness"),
    Measure(Kind.SHARP, Kind.SIDES_SHARP, lambda c: c.ratio("edges"), 1.5, 1.3, "blurrier (edges x {:.2f}) than", "sharpness"),
    Measure(Kind.SIZE, Kind.SIDES_SIZE, lambda c: c.ratio("side"), 1.5, 1.25, "larger (files x {:.2f} in width) than", "detail"),
)


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _found(kind: Kind, pair: str | None, what: str, advice: str) -> Finding:
    return Finding(kind, pair, f"{'' if pair is None else plain(pair) + ': '}{what}. {advice}", what)


def _of_picture(pair: str, side: str, one: Look, *, soft: bool = True) -> Iterator[Finding]:
    if one.contrast < FLAT:
        yield _found(Kind.FLAT, pair, f"its {side} is one flat colour (contrast {one.contrast:.3f})", "Replace it.")
    elif one.enlarged > ENLARGED:
        what = f"its {side} is only {one.size[0]} x {one.size[1]}, enlarged {one.enlarged:.1f} times"
        yield _found(Kind.TINY, pair, what, "Use a larger file, or train at a lower resolution.")
    elif one.edges > BLURRED and soft:
        what = f"its {side} is blurred (edges {one.edges:.1f} px wide, sharp ones below 0.7)"
        yield _found(Kind.BLURRED, pair, what, "Use a sharper one, or train at a lower resolution.")


def _compared(pair: Checkup, sides: set[Kind]) -> Iterator[Finding]:
    """What tells the two of a pair apart beside the concept; not again what `sides` says of all pairs."""
    if pair.shift is not None:
        words = zip(pair.shift, (("right", "left"), ("down", "up")), strict=True)
        way = " and ".join(f"{abs(n)} px {word[n < 0]}" for n, word in words if n)
        what = f"its negative is shifted {way} against its positive"
        yield _found(Kind.SHIFTED, pair.name, what, "Align the two, unless moving is what the slider is for.")
    for m in MEASURES:
        ratio = m.of(pair)
        if m.side_kind not in sides and max(ratio, 1 / ratio) > m.limit:
            one, other = ("positive", "negative") if ratio > 1 else ("negative", "positive")
            what = f"its {one} is {m.words.format(max(ratio, 1 / ratio))} its {other}"
            yield _found(m.kind, pair.name, what, f"Match them, unless {m.what} is what the slider is for.")
    aspect = pair.ratio("aspect")
    if max(aspect, 1 / aspect) > ASPECT:
        sizes = " and ".join(f"{one.size[0]} x {one.size[1]}" for one in (pair.positive, pair.negative))
        advice = "What is cropped away differs too: bring both to one shape."
        yield _found(Kind.SIZE, pair.name, f"its files have two shapes ({sizes})", advice)


def _of_pair(pair: Checkup, sides: set[Kind], unpaired: bool) -> Iterator[Finding]:
    compared: list[Finding] = []
    if pair.share <= NOTHING:
        what = f"nothing differs between its positive and its negative ({pair.share:.2%})"
        yield _found(Kind.IDENTICAL, pair.name, what, "Replace one of the two.")
    if not unpaired and min(pair.positive.contrast, pair.negative.contrast) >= FLAT:
        if pair.unrelated:
            what = f"its two pictures share nothing ({pair.share:.0%} differs)"
            yield _found(Kind.UNRELATED, pair.name, what, "Check that they belong together.")
        else:
            yield from (compared := list(_compared(pair, sides)))
    if pair.captions[0].split() != pair.captions[1].split():
        words = " and ".join(f'"{c[:40]}{"..." * (len(c) > 40)}"' for c in map(plain, pair.captions))
        advice = "Give both the same: what words explain, the slider need not learn."
        yield _found(Kind.CAPTIONS, pair.name, f"its captions differ, {words}", advice)
    soft = Kind.SIDES_SHARP not in sides and all(f.kind is not Kind.SHARP for f in compared)
    for side in ("positive", "negative"):
        yield from _of_picture(pair.name, side, getattr(pair, side), soft=soft)


def _of_sides(pairs: list[Checkup]) -> Iterator[Finding]:
    """Where one whole side differs from the other: the median ratio, beyond the limit and three errors of the mean."""
    for m in MEASURES if len(pairs) > 2 else ():
        logs = torch.tensor([m.of(p) for p in pairs], dtype=torch.float64).log()
        middle, error = float(logs.quantile(0.5)), float(logs.std()) / math.sqrt(len(pairs))
        if abs(middle) > max(math.log(m.side_limit), 3 * error):
            one, other = ("positives", "negatives") if middle > 0 else ("negatives", "positives")
            what = f"The {one} as a whole are {m.words.format(math.exp(abs(middle)))} the {other}"
            advice = f"The slider would learn that: match them, unless {m.what} is what it is for."
            yield _found(m.side_kind, None, what, advice)


def _against(changes_N3SS: torch.Tensor) -> dict[int, float]:
    """Which signed differences point against the others: index -> mean cosine. Empty when the others do not agree."""
    count = len(changes_N3SS)
    unit = changes_N3SS / changes_N3SS.flatten(1).norm(dim=1).clamp_min(1e-9)[:, None, None, None]
    spectra = torch.fft.rfft2(F.pad(unit, (0, CELLS // 2, 0, CELLS // 2)))
    few = torch.linspace(0, count - 1, min(count, REFERENCES)).round().long()
    cosine_NR = torch.zeros(count, len(few))
    for column, other in enumerate(few.tolist()):
        shifted = torch.fft.irfft2((spectra * spectra[other].conj()).sum(1), s=(CELLS + CELLS // 2,) * 2)
        near = shifted.roll((REACH, REACH), (1, 2))[:, : 2 * REACH + 1, : 2 * REACH + 1].flatten(1)
        cosine_NR[:, column] = near.gather(1, near.abs().argmax(1, keepdim=True))[:, 0]
        cosine_NR[other, column] = 0
    way_R = torch.linalg.eigh((cosine_NR[few] + cosine_NR[few].T) / 2)[1][:, -1].sign()
    score_N = (cosine_NR * way_R).sum(1) / (cosine_NR != 0).sum(1).clamp_min(1)
    score_N = score_N if (score_N > 0).sum() * 2 >= count else -score_N
    others = score_N[score_N > 0]
    if len(others) * 3 < count * 2 or others.mean() < AGREE:
        return {}
    return {i: float(score_N[i]) for i in (score_N < AGAINST).nonzero()[:, 0].tolist()}


def _duplicates(names: list[str], looks: list[Look], side: str) -> Iterator[Finding]:
    """Every picture that another one before it shows already."""
    if not looks:
        return
    cells = F.avg_pool2d(torch.stack([one.cells for one in looks]), 2)
    coarse = F.adaptive_avg_pool2d(luma(cells), 8).flatten(1)
    close = torch.cdist(coarse, coarse, p=torch.inf) < SAME_PICTURE
    for i in range(1, len(looks)):
        others = close[i, :i].nonzero()[:, 0]
        same = others[distance(cells[others] - cells[i]).flatten(1).amax(1) < SAME_PICTURE].tolist()
        if same:
            what = f"its {side} is the same picture as that of {plain(names[same[0]])}"
            yield _found(Kind.DUPLICATE, names[i], what, "Remove one, unless it shall count twice.")


def _of_all(pairs: list[Checkup], unpaired: bool) -> Iterator[Finding]:
    """What only the pairs together show: no pairs at all, one the wrong way round, too few."""
    if unpaired:
        share, count = sorted(p.share for p in pairs)[len(pairs) // 2], sum(p.unrelated for p in pairs)
        what = f"In {count} of {len(pairs)} pairs the two pictures share nothing (median {share:.0%} differs)"
        yield _found(Kind.UNPAIRED, None, what, "Train with denoise_rotating, or with pairs drawn at random.")
    sound = [p for p in pairs if p.share > NOTHING and not p.unrelated and p.shift is None]
    if len(sound) >= FEW and not unpaired:
        for i, cosine in _against(torch.stack([p.positive.cells - p.negative.cells for p in sound])).items():
            what = f"looks the wrong way round (cosine {cosine:.2f} to the change in the others)"
            yield _found(Kind.WRONG_WAY, sound[i].name, what, "Swap its two files if it is.")
    if 0 < len(pairs) < FEW:
        what = f"Only {len(pairs)} pair{'s' * (len(pairs) != 1)}"
        yield _found(Kind.TOO_FEW, None, what, f"From {FEW} up, what they have in common stands out; 6 to 20 are better.")


def examine(
    patients: Iterable[Patient], positives_alone: Iterable[Single] = (), negatives_alone: Iterable[Single] = ()
) -> Diagnosis:
    """Check every pair, every picture without a partner, and the pairs as a whole. Each patient is read once, in turn.

    Raises SliderError for a pair of two shapes, a tensor that is no picture, or values that are not finite.
    """
    checkups = tuple(check(patient) for patient in patients)
    pairs = sorted(checkups, key=lambda p: (_in_order(p.name), p.positive.brightness, p.negative.brightness))
    unpaired = bool(pairs) and sum(p.unrelated for p in pairs) * 2 >= len(pairs)
    found = list(_of_sides(pairs))
    sides = {f.kind for f in found}
    found += [*_of_all(pairs, unpaired), *(f for pair in pairs for f in _of_pair(pair, sides, unpaired))]
    for side, singles in (("positive", positives_alone), ("negative", negatives_alone)):
        alone = [(single.name, look(single.image.detach().float().cpu(), single.size, single.name)) for single in singles]
        alone.sort(key=lambda one: (_in_order(one[0]), one[1].brightness))
        found += [f for name, one in alone for f in _of_picture(name, side, one)]
        every = [(pair.name, getattr(pair, side)) for pair in pairs] + alone
        found += _duplicates([name for name, _ in every], [one for _, one in every], side)
    rank = {kind: i for i, kind in enumerate(Kind)}
    return Diagnosis(checkups, tuple(sorted(found, key=lambda f: (rank[f.kind], _in_order(f.pair or ""), f.text))))
