"""The pair doctor: what is wrong with pairs before they are trained on, each finding in one line with its number and its mend.

A difference is max(|Y|, max |RGB| / 2) after a small blur: JPEG spoils colour more than brightness, and single pixels most.
The width of edges is sqrt(sum |gradient|^2 / (2 sum laplacian^2)), the sigma of a step blurred by a Gaussian: unlike the
variance of the Laplacian it depends neither on contrast nor on how much there is to see.
Directions are compared as signed differences at 32 x 32, moved against each other by up to 8 cells, because the smile of one
face is not where that of another is; of all places the strongest match counts, with its sign.
It cannot tell: a pair zoomed or turned, mirrored duplicates, noise (it looks sharp), a thing that moved before an even
background from a picture that moved. Cost: about 25 ms for a pair of 512 x 512 on one core, and 25 kB kept beside its mask.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from .config import SliderError

DIFFERS, GRAIN, NOTHING, MOST = 0.06, 0.1, 5e-4, 0.6  # a pixel's difference, in a grainy picture; shares: nothing, too much
SAME_PICTURE, RELATED, ALIGNED = 0.045, 0.3, 0.5  # a duplicate's worst cell; gradient correlations: one scene, a shift found
CELLS, REACH, REFERENCES = 32, 8, 64  # of the small pictures: size, how far they are moved, how many each is held against
AGREE, AGAINST = 0.4, -0.25  # mean cosine of the others among themselves, and of the one that points the other way
ENLARGED, BLURRED, FLAT, ASPECT, FEW = 1.5, 0.9, 0.01, 1.03, 4  # times; edges in pixels; contrast; ratio; pairs
LUMA = (0.299, 0.587, 0.114)
INK, PAPER, GREY, RED, GAP = (28, 28, 32), (255, 255, 255), (110, 110, 116), (196, 40, 36), 10


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
class Patient:
    """One pair as it will be trained on: (3, H, W) float32 in [0, 1], both fitted to one size. Sizes are (width, height)."""

    name: str
    positive: torch.Tensor
    negative: torch.Tensor
    positive_caption: str
    negative_caption: str
    positive_size: tuple[int, int]  # the file's own, before fitting
    negative_size: tuple[int, int]


@dataclass(frozen=True)
class Single:
    """A picture without a partner: (3, H, W) float32 in [0, 1] as it will be trained on, and its file's (width, height)."""

    name: str
    image: torch.Tensor
    size: tuple[int, int]


@dataclass(frozen=True)
class Look:
    """What one picture looks like. `cells`: (3, 32, 32), the picture small; `enlarged`: how many times fitting enlarged it."""

    size: tuple[int, int]  # the file's (width, height)
    enlarged: float
    brightness: float  # mean of Y, 0 to 1
    contrast: float  # standard deviation of Y
    sharpness: float  # variance of the Laplacian of Y
    edges: float  # width of the edges in pixels; 0 where there are none
    cells: torch.Tensor

    @property
    def side(self) -> float:
        return math.sqrt(self.size[0] * self.size[1])

    @property
    def aspect(self) -> float:
        return self.size[0] / max(1, self.size[1])


@dataclass(frozen=True)
class Checkup:
    """The figures of one pair. `mask`: (H, W) bool, True where the two differ, and `share` of it; `structure`: correlation of
    their gradients; `shift`: pixels (right, down) by which the negative lies off the positive, None unless clear."""

    name: str
    captions: tuple[str, str]
    positive: Look
    negative: Look
    mask: torch.Tensor
    share: float
    structure: float
    shift: tuple[int, int] | None

    @property
    def unrelated(self) -> bool:
        return self.share > MOST and self.structure < RELATED

    def ratio(self, figure: str) -> float:
        """A figure of Look, positive by negative; 1 where one of the two has none."""
        a, b = getattr(self.positive, figure), getattr(self.negative, figure)
        return a / b if min(a, b) > 1e-9 else 1.0

    @property
    def light(self) -> float:
        """Times by which the positive is brighter; only as far as the middle cell is too, so that a white hat does not count."""
        mean = math.log((self.positive.brightness + 0.02) / (self.negative.brightness + 0.02))
        middle = float(((_luma(self.positive.cells) + 0.02) / (_luma(self.negative.cells) + 0.02)).median().log())
        return math.exp(math.copysign(min(abs(mean), abs(middle)), mean)) if mean * middle > 0 else 1.0


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
            if rest := list(dict.fromkeys(_plain(f.pair or "") for f in of_kind[most:])):
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


def _plain(name: str) -> str:
    """One line that any screen and font takes."""
    return " ".join(name.encode("utf-8", "replace").decode().split())


def _in_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _found(kind: Kind, pair: str | None, what: str, advice: str) -> Finding:
    return Finding(kind, pair, f"{'' if pair is None else _plain(pair) + ': '}{what}. {advice}", what)


def _luma(image_CHW: torch.Tensor) -> torch.Tensor:
    return torch.tensordot(image_CHW.new_tensor(LUMA), image_CHW, dims=([0], [image_CHW.ndim - 3]))


def _edged(image_CHW: torch.Tensor, width: int) -> torch.Tensor:
    return F.pad(image_CHW[None], (width,) * 4, mode="replicate")[0]


def _gradient(grey_HW: torch.Tensor) -> torch.Tensor:
    """(2, H, W): central differences, right and down."""
    p = _edged(grey_HW[None], 1)[0]
    return torch.stack([p[1:-1, 2:] - p[1:-1, :-2], p[2:, 1:-1] - p[:-2, 1:-1]]) / 2


def _blur(image_CHW: torch.Tensor) -> torch.Tensor:
    """Twice the mean of 3 x 3."""
    p = _edged(image_CHW, 2)
    for _ in range(2):
        p = p[:, :, :-2] + p[:, :, 1:-1] + p[:, :, 2:]
        p = p[:, :-2] + p[:, 1:-1] + p[:, 2:]
    return p / 81


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-9))


def _distance(change_CHW: torch.Tensor) -> torch.Tensor:
    return torch.maximum(_luma(change_CHW).abs(), change_CHW.abs().amax(-3) / 2)


def difference_mask(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """(H, W) bool: where two pictures (3, H, W) differ. Grain that lies over all of the picture raises the threshold."""
    change = positive - negative
    soft = _blur(change)
    grain = 1.4826 * float((change - soft).abs().flatten()[::7].median())
    return _distance(soft) > max(DIFFERS, min(GRAIN, grain))


def look(image: torch.Tensor, size: tuple[int, int], name: str) -> Look:
    """Figures of a picture (3, H, W) in [0, 1]. SliderError for another shape, or values that are not finite."""
    if image.ndim != 3 or image.shape[0] != 3 or not image.numel() or not bool(image.isfinite().all()):
        shape = tuple(image.shape)
        raise SliderError(f"{_plain(name)}: not a picture of finite numbers (3, H, W), but of shape {shape}. Load it again.")
    grey = _luma(image)
    p = _edged(grey[None], 1)[0]
    laplacian = p[1:-1, 2:] + p[1:-1, :-2] + p[2:, 1:-1] + p[:-2, 1:-1] - 4 * grey
    bends = float(laplacian.square().mean())
    edges = math.sqrt(float(_gradient(grey).square().sum(0).mean()) / (2 * bends)) if bends > 1e-9 else 0.0
    enlarged = max(grey.shape[1] / max(size[0], 1), grey.shape[0] / max(size[1], 1))
    sharpness, cells = float(laplacian.var(correction=0)), F.adaptive_avg_pool2d(image[None], CELLS)[0]
    return Look(size, enlarged, float(grey.mean()), float(grey.std(correction=0)), sharpness, edges, cells)


def find_shift(positive: torch.Tensor, negative: torch.Tensor) -> tuple[int, int] | None:
    """(right, down): by how many pixels the negative (3, H, W) lies off the positive; None unless that is clear.

    Cross and phase correlation name places; there the gradients of what overlaps must fit far better than without a shift.
    """
    a, b = (_gradient(_blur(_luma(image)[None])[0]) for image in (positive, negative))
    height, width = a.shape[1:]
    reach = height // 4, width // 4
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    cross = (torch.fft.rfft2(b * window) * torch.fft.rfft2(a * window).conj()).sum(0)
    places = [(0, 0)]
    for power in (cross, cross / (cross.abs() + 1e-3 * cross.abs().max() + 1e-12)):
        near = torch.fft.irfft2(power, s=(height, width)).roll(reach, (0, 1))[: 2 * reach[0] + 1, : 2 * reach[1] + 1]
        best = int(near.argmax())
        places.append((best % near.shape[1] - reach[1], best // near.shape[1] - reach[0]))

    def fit(x: int, y: int) -> float:
        mine = a[:, max(0, -y) : height - max(0, y), max(0, -x) : width - max(0, x)]
        return _cosine(mine, b[:, max(0, y) : height - max(0, -y), max(0, x) : width - max(0, -x)])

    before = fit(0, 0)
    after, place = max((fit(*p), p) for p in dict.fromkeys(places))
    if place != (0, 0):
        beside = [(place[0] + x, place[1] + y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
        after, place = max((fit(*p), p) for p in beside)
    return place if place != (0, 0) and after > ALIGNED and 1 - after < (1 - before) / 2 else None


def check(patient: Patient) -> Checkup:
    """The figures of one pair. SliderError when its pictures are not of one size, or `look` refuses one."""
    positive, negative = (image.detach().float().cpu() for image in (patient.positive, patient.negative))
    if positive.shape != negative.shape:
        shapes = f"{tuple(positive.shape)} and {tuple(negative.shape)}"
        raise SliderError(f"{_plain(patient.name)}: its pictures have the shapes {shapes}. Fit both to one size first.")
    looks = look(positive, patient.positive_size, patient.name), look(negative, patient.negative_size, patient.name)
    mask = difference_mask(positive, negative)
    share = float(mask.float().mean())
    structure = _cosine(*(_gradient(_luma(one.cells)) for one in looks))
    shift = find_shift(positive, negative) if share > NOTHING else None
    return Checkup(patient.name, (patient.positive_caption, patient.negative_caption), *looks, mask, share, structure, shift)


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
        words = " and ".join(f'"{c[:40]}{"..." * (len(c) > 40)}"' for c in map(_plain, pair.captions))
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
        moved = torch.fft.irfft2((spectra * spectra[other].conj()).sum(1), s=(CELLS + CELLS // 2,) * 2)
        near = moved.roll((REACH, REACH), (1, 2))[:, : 2 * REACH + 1, : 2 * REACH + 1].flatten(1)
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
    coarse = F.adaptive_avg_pool2d(_luma(cells), 8).flatten(1)
    close = torch.cdist(coarse, coarse, p=torch.inf) < SAME_PICTURE
    for i in range(1, len(looks)):
        others = close[i, :i].nonzero()[:, 0]
        same = others[_distance(cells[others] - cells[i]).flatten(1).amax(1) < SAME_PICTURE].tolist()
        if same:
            what = f"its {side} is the same picture as that of {_plain(names[same[0]])}"
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
    if len(pairs) < FEW:
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


def _written(parts: Sequence[tuple[str, int, tuple[int, int, int]]], width: int) -> Image.Image:
    """(text, size, colour) below each other, wrapped to `width` pixels."""
    lines = []
    for text, size, colour in parts:
        font, words = ImageFont.load_default(size=size), _plain(text) or "-"
        letters = max(8, int(0.92 * width * len(words) / font.getlength(words)))
        lines += [(line, font, size, colour) for line in textwrap.wrap(words, letters)]
    paper = Image.new("RGB", (width, sum(round(size * 1.4) for _, _, size, _ in lines)), PAPER)
    top = 0
    for line, font, size, colour in lines:
        ImageDraw.Draw(paper).text((0, top), line, colour, font)
        top += round(size * 1.4)
    return paper


def _row(patient: Patient, pair: Checkup, found: list[Finding], cell: int) -> Image.Image:
    """Negative, positive, what differs, and what is to be said of them."""
    negative, positive = (image.detach().float().cpu().clamp(0, 1) for image in (patient.negative, patient.positive))
    faded = 0.84 + 0.16 * _luma(positive)
    parts = [(pair.name, 16, INK), (f"{pair.share:.1%} differs", 13, GREY), *((f.short, 13, RED) for f in found[:5])]
    cells = [_written(parts, 2 * cell)]
    for image in (torch.where(pair.mask, positive, faded), positive, negative):
        pixels = Image.fromarray((image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
        scale = cell / max(pixels.size)
        cells.insert(0, pixels.resize((max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale))), Image.LANCZOS))
    row = Image.new("RGB", (5 * cell + 3 * GAP, max(picture.height for picture in cells)), PAPER)
    for i, picture in enumerate(cells):
        row.paste(picture, (i * (cell + GAP), 0))
    return row


def contact_sheet(patients: Sequence[Patient], diagnosis: Diagnosis, cell: int = 160, most: int = 24) -> Image.Image:
    """A picture of the diagnosis, RGB on white: one row per pair with negative, positive, and what differs, the rest faded.

    `patients` as they were examined, `cell` in pixels. Of more than `most` pairs those with findings come first.
    """
    width, count = 5 * cell + 3 * GAP, len(diagnosis.findings)
    chosen = sorted(range(len(patients)), key=lambda i: not diagnosis.of(diagnosis.checkups[i].name))[:most]
    verdict = f"{count} finding{'s' * (count != 1)}." if count else diagnosis.lines()[0]
    left_out = f" {len(chosen)} of them are shown." if len(chosen) < len(patients) else ""
    head = [("Pair doctor", 22, INK), (f"{diagnosis.summary}{left_out} {verdict}", 14, GREY)]
    columns = Image.new("RGB", (width, 18), PAPER)
    for i, word in enumerate(("negative", "positive", "what differs")):
        ImageDraw.Draw(columns).text((i * (cell + GAP), 0), word, GREY, ImageFont.load_default(size=13))
    blocks = [_written([*head, *((f.text, 14, RED) for f in diagnosis.of(None))], width), columns]
    for i in sorted(chosen):
        pair = diagnosis.checkups[i]
        blocks.append(_row(patients[i], pair, diagnosis.of(pair.name), cell))
    sheet = Image.new("RGB", (width + 4 * GAP, sum(block.height + GAP for block in blocks) + 3 * GAP), PAPER)
    top = 2 * GAP
    for block in blocks:
        sheet.paste(block, (2 * GAP, top))
        top += block.height + GAP
    return sheet
