"""The pair doctor: what is wrong with pairs before they are trained on, each finding in one line with its number and its fix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from ..config.checks import counted
from ..config.hosts import advice, set_pairing
from .bitmap_clip import by_number
from .fitting import ENLARGED
from .pair_check import CELLS, ImageFigures, PairFigures, PairImages, check, distance, plain
from .pair_compare import (
    FEWEST,
    Belonging,
    belonging,
    changed_as_others,
    duplicates,
    moved_side,
    partners_elsewhere,
    strangers,
    without_chance_shifts,
)
from .pair_diagnosis import Finding, Kind, PairsReport
from .pair_direction import Direction, way_round

BLURRED = 1.2  # width of edges in pixels
FLAT = 0.01  # contrast
ASPECT = 1.03  # ratio of the files' shapes
FEW = 4  # pairs
LISTED = 8  # files that have a partner elsewhere
FAINT = 0.01  # of a logarithm: what a pair has of that in which the sides differ


@dataclass(frozen=True)
class Measure:
    """Something that must be alike on both sides: the ratio, its limit within a pair and for the sides as a whole, its text."""

    kind: Kind
    side_kind: Kind
    of: Callable[[PairFigures], float]
    limit: float
    side_limit: float
    text: str
    what: str


MEASURES = (
    Measure(Kind.LIGHT, Kind.SIDES_LIGHT, lambda p: p.light, 1.25, 1.15, "{:.2f} times as bright as", "brightness"),
    Measure(Kind.SHARP, Kind.SIDES_SHARP, lambda p: p.softer, 1.5, 1.3, "blurrier (edges x {:.2f}) than", "sharpness"),
    Measure(Kind.SIZE, Kind.SIDES_SIZE, lambda p: p.ratio("side"), 1.5, 1.25, "larger (files x {:.2f} in width) than", "detail"),
)


def _more_and_less(ratio: float) -> tuple[str, str]:
    """The side that has more of a figure, whose ratio is positive by negative, and the other."""
    return ("positive", "negative") if ratio > 1 else ("negative", "positive")


def _finding(kind: Kind, pair: str | None, what: str, advice: str) -> Finding:
    subject = "" if pair is None else f"{plain(pair)}: "
    return Finding(kind, pair, f"{subject}{what}. {advice}", what)


def _of_image(pair: str, side: str, image: ImageFigures, soft: bool) -> Iterator[Finding]:
    """What is wrong with one image. `soft`: that it is blurred has not been said yet."""
    if image.contrast < FLAT:
        yield _finding(Kind.FLAT, pair, f"its {side} is one flat colour (contrast {image.contrast:.3f})", "Replace it.")
    elif image.enlarged > ENLARGED:
        what = f"its {side} is only {image.size[0]} x {image.size[1]}, enlarged {image.enlarged:.1f} times"
        yield _finding(Kind.TINY, pair, what, "Use a larger file, or train at a lower resolution.")
    elif image.edges > BLURRED and soft:
        what = f"its {side} is blurred (edges {image.edges:.2f} px wide, the limit is {BLURRED})"
        yield _finding(Kind.BLURRED, pair, what, "Use a sharper one, or train at a lower resolution.")


def _direction(shift: tuple[int, int]) -> str:
    """(right, down) in pixels as text."""
    ways = zip(shift, (("right", "left"), ("down", "up")), strict=True)
    return " and ".join(f"{abs(pixels)} px {names[pixels < 0]}" for pixels, names in ways if pixels)


def _compared(pair: PairFigures, of_sides: set[Kind]) -> Iterator[Finding]:
    """What tells the two of a pair apart beside the concept; not again what `of_sides` says of all pairs."""
    if pair.shift is not None:
        what = f"its negative is shifted {_direction(pair.shift)} against its positive"
        yield _finding(Kind.SHIFTED, pair.name, what, "Align the two, unless moving is what the slider is for.")
    for measure in MEASURES:
        ratio = measure.of(pair)
        if measure.side_kind not in of_sides and max(ratio, 1 / ratio) > measure.limit:
            more, less = _more_and_less(ratio)
            what = f"its {more} is {measure.text.format(max(ratio, 1 / ratio))} its {less}"
            yield _finding(measure.kind, pair.name, what, f"Match them, unless {measure.what} is what the slider is for.")
    aspect = pair.ratio("aspect")
    if max(aspect, 1 / aspect) > ASPECT:
        sizes = " and ".join(f"{image.size[0]} x {image.size[1]}" for image in (pair.positive, pair.negative))
        advice = "What is cropped away differs too: bring both to one shape."
        yield _finding(Kind.SIZE, pair.name, f"its files have two shapes ({sizes})", advice)


def _of_pair(pair: PairFigures, of_sides: set[Kind], together: Together) -> Iterator[Finding]:
    compared: list[Finding] = []
    unpaired, wrong_partner = together.unpaired, _among(pair, together.wrong_partners)
    if _among(pair, together.same):
        what = f"nothing differs between its positive and its negative ({pair.share:.2%})"
        yield _finding(Kind.IDENTICAL, pair.name, what, "Replace one of the two.")
    if not unpaired and min(pair.positive.contrast, pair.negative.contrast) >= FLAT:
        if wrong_partner:
            what = f"its two pictures share no more than those of different pairs ({pair.share:.0%} differs)"
            advice = together.remedy(pair) or "Check that they belong together."
            yield _finding(Kind.UNRELATED, pair.name, what, advice)
        else:
            compared = list(_compared(pair, of_sides))
            yield from compared
    if pair.captions[0].split() != pair.captions[1].split():
        yield _captions(pair)
    soft = Kind.SIDES_SHARP not in of_sides and all(f.kind is not Kind.SHARP for f in compared)
    yield from _of_image(pair.name, "positive", pair.positive, soft)
    yield from _of_image(pair.name, "negative", pair.negative, soft)


def _captions(pair: PairFigures) -> Finding:
    """What is said of a pair whose captions differ, or of which one side has none."""
    why = "what words explain, the slider need not learn."
    if all(caption.strip() for caption in pair.captions):
        captions = " and ".join(map(_quoted, pair.captions))
        return _finding(Kind.CAPTIONS, pair.name, f"its captions differ, {captions}", f"Give both the same: {why}")
    there, lacking = ("positive", "negative") if pair.captions[0].strip() else ("negative", "positive")
    caption = _quoted("".join(pair.captions).strip())
    what = f"its {there} has a caption, {caption}, and its {lacking} none"
    return _finding(Kind.CAPTIONS, pair.name, what, f"Give both sides the same caption file: {why}")


def _quoted(caption: str, most: int = 40) -> str:
    line = plain(caption)
    return f'"{line[:most]}..."' if len(line) > most else f'"{line}"'


def _sides(pairs: list[PairFigures]) -> dict[Kind, float]:
    """The logarithm of the median ratio where one whole side differs from the other: beyond the limit and three errors of the
    mean."""
    differing: dict[Kind, float] = {}
    if len(pairs) < 3:
        return differing
    for measure in MEASURES:
        logs = torch.tensor([measure.of(pair) for pair in pairs], dtype=torch.float64).log()
        middle, error = float(logs.quantile(0.5)), float(logs.std()) / math.sqrt(len(pairs))
        if abs(middle) > max(math.log(measure.side_limit), 3 * error):
            differing[measure.side_kind] = middle
    return differing


def _of_sides(sides: Mapping[Kind, float]) -> Iterator[Finding]:
    for measure in MEASURES:
        if measure.side_kind in sides:
            ratio = math.exp(sides[measure.side_kind])
            more, less = _more_and_less(ratio)
            what = f"The {more}s as a whole are {measure.text.format(max(ratio, 1 / ratio))} the {less}s"
            advice = f"The slider would learn that: match them, unless {measure.what} is what it is for."
            yield _finding(measure.side_kind, None, what, advice)


@dataclass(frozen=True)
class Together:
    """What the pairs show together. `same`: those without a difference; of the rest, `differing`, are `belonging` and
    `direction`. `wrong_partners`: pairs whose two images do not belong together; `unpaired`: all are such. `moved`: (right, down)
    in pixels by which all negatives lie off their positives, where that shows only together. `elsewhere`: the positive's file of
    pairs, and the negative's of another that belongs to it, where the images have been mixed up."""

    same: list[PairFigures]
    differing: list[PairFigures]
    belonging: Belonging
    direction: Direction
    unpaired: bool
    wrong_partners: list[PairFigures]
    moved: tuple[int, int] | None = None
    elsewhere: Mapping[str, str] = field(default_factory=dict)

    def remedy(self, pair: PairFigures | None = None) -> str:
        """Which files belong together, of that pair's positive or of all; empty where that is not clear."""
        files = self.elsewhere if pair is None else {p: n for p, n in self.elsewhere.items() if p == _files(pair)[0]}
        if not files:
            return ""
        listed = [f"positive {plus} to negative {minus}" for plus, minus in list(files.items())[:LISTED]]
        together = advice("drag one to the other's partner", "give both of a pair one name")
        rest = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
        return f"By their outlines belong {', '.join(listed)}{rest}: {together}."


def _files(pair: PairFigures) -> tuple[str, str]:
    """The names of a pair's two files, as `pairs_report` joins them."""
    names = plain(pair.name).split(" / ")
    return names[0], names[-1]


def _equal(pairs: list[PairFigures], sides: Mapping[Kind, float]) -> list[PairFigures]:
    """The pairs in which nothing differs, not even faintly what differs in the others, or in the sides as a whole."""
    change = {id(pair): distance(pair.views[0, :3] - pair.views[1, :3]) for pair in pairs}
    others = [change[id(pair)] for pair in pairs if not pair.identical]
    same = []
    for pair in pairs:
        with_sides = any(sides.get(m.side_kind, 0.0) * math.log(m.of(pair)) > FAINT for m in MEASURES[:2])
        faint = with_sides or (others and changed_as_others(change[id(pair)], torch.stack(others)))
        if pair.identical and not faint:
            same.append(pair)
    return same


def _among(pair: PairFigures, several: list[PairFigures]) -> bool:
    """Whether it is one of several, not only equal to one."""
    return any(pair is one for one in several)


def _others(pairs: list[PairFigures], left_out: list[PairFigures]) -> list[PairFigures]:
    return [pair for pair in pairs if not _among(pair, left_out)]


def _views(pairs: list[PairFigures]) -> torch.Tensor:
    """(pairs, 2, 4, cells, cells): the small pictures of each."""
    if not pairs:
        return torch.empty(0, 2, 4, 1, 1)
    return torch.stack([pair.views for pair in pairs])


def _together(pairs: list[PairFigures], sides: Mapping[Kind, float]) -> Together:
    """What the pairs show together, and where images have their partners in other pairs."""
    same = _equal(pairs, sides)
    differing = _others(pairs, same)
    elsewhere = partners_elsewhere(_views([pair.in_place() for pair in differing]))
    together = _as_paired(pairs, same, differing, [*elsewhere, *strangers(differing)])
    return replace(together, elsewhere={_files(differing[i])[0]: _files(differing[n])[1] for i, n in elsewhere.items()})


def _as_paired(pairs: list[PairFigures], same: list[PairFigures], differing: list[PairFigures], strange: list[int]) -> Together:
    """Without `elsewhere`. `strange`: those of the differing pairs whose partner is another's, or nobody's."""
    views = _views(differing)
    direction = way_round(views)
    common = belonging(views, direction.signs)
    if len(differing) < FEWEST:  # too few to compare: each by itself
        wrong_partners = [pair for pair in differing if pair.unrelated and pair.shift is None]
        unpaired = bool(pairs) and len(wrong_partners) * 2 >= len(pairs)
        return Together(same, differing, common, direction, unpaired, wrong_partners)
    moved = moved_side(views) if common.unpaired else None
    if moved is not None:
        height, width = pairs[0].mask.shape
        pixels = round(moved[0] * width / CELLS), round(moved[1] * height / CELLS)
        return Together(same, differing, common, Direction({}, False), False, [], pixels)
    wrong_partners = [differing[i] for i in sorted({*common.wrong_partners(), *strange})]
    unpaired = common.unpaired or 2 * len(wrong_partners) > len(differing)
    kept = _others(differing, wrong_partners)
    if wrong_partners and not unpaired:
        direction = way_round(_views(kept))
    return Together(same, kept, common, direction, unpaired, wrong_partners)


def _of_all(pairs: list[PairFigures], together: Together) -> Iterator[Finding]:
    """What only the pairs together show: no pairs at all, a side that is moved, one the wrong way round, too few."""
    if together.moved is not None:
        what = f"The negatives as a whole are shifted about {_direction(together.moved)} against the positives"
        yield _finding(Kind.SHIFTED, None, what, "Align the two sides, unless moving is what the slider is for.")
    if together.unpaired:
        share = sorted(pair.share for pair in pairs)[len(pairs) // 2]
        what = "The pairs do not belong together: their two pictures share no more than those of different pairs"
        figures = f"{together.belonging.mean:.2f}; median {share:.0%} differs"
        unnamed = f"If they are pairs, check that their names put the right ones together; else {set_pairing('random')}."
        advice = together.remedy() or unnamed
        yield _finding(Kind.UNPAIRED, None, f"{what} ({figures})", advice)
    else:
        for i, cosine in together.direction.against.items():
            pair = together.differing[i]
            if pair.shift is None:
                what = f"looks the wrong way round (cosine {cosine:.2f} to the change in the others)"
                yield _finding(Kind.WRONG_WAY, pair.name, what, "Swap its two files if it is.")
    if 0 < len(pairs) < FEW:
        advice = f"From {FEW} up, what they have in common stands out."
        yield _finding(Kind.TOO_FEW, None, f"Only {counted(len(pairs), 'pair')}", advice)


def _duplicates(pairs: list[PairFigures], side: str) -> Iterator[Finding]:
    if pairs:
        smallest = min(min(pair.mask.shape) for pair in pairs)
        for i, first in duplicates(torch.stack([getattr(pair, side).cells for pair in pairs]), smallest).items():
            what = f"its {side} is the same picture as that of {plain(pairs[first].name)}"
            yield _finding(Kind.DUPLICATE, pairs[i].name, what, "Remove one, unless it shall count twice.")


def _blurred_together(findings: list[Finding], pairs: list[PairFigures]) -> list[Finding]:
    """Where most pairs are blurred, that is said once, of the set."""
    blurred = [f for f in findings if f.kind is Kind.BLURRED]
    soft = {f.pair for f in blurred}
    if len(soft) < FEWEST or 2 * len(soft) <= len(pairs):
        return findings
    widest = max(max(pair.positive.edges, pair.negative.edges) for pair in pairs)
    what = f"{len(blurred)} of {2 * len(pairs)} images are blurred (edges up to {widest:.2f} px wide, the limit is {BLURRED})"
    advice = "Train at a lower resolution, or use sharper ones: the slider learns no finer detail."
    return [f for f in findings if f.kind is not Kind.BLURRED] + [_finding(Kind.BLURRED, None, what, advice)]


def examine(images: Iterable[PairImages], unused: int = 0) -> PairsReport:
    """Check every pair, and the pairs as a whole. Each is read once, in turn. `unused`: lines about files that are no images.

    Raises SliderError for a pair of two shapes, a tensor that is no image, or values that are not finite.
    """
    in_turn = without_chance_shifts(tuple(map(check, images)))
    pairs = sorted(in_turn, key=lambda p: (by_number(p.name), p.positive.brightness, p.negative.brightness))
    sides = _sides(pairs)
    together = _together(pairs, sides)
    findings = [] if together.unpaired else list(_of_sides(sides))
    of_sides = {finding.kind for finding in findings}
    findings += _of_all(pairs, together)
    for pair in pairs:
        findings += _of_pair(pair, of_sides, together)
    findings = _blurred_together(findings, pairs)
    findings += _duplicates(pairs, "positive")
    findings += _duplicates(pairs, "negative")
    rank = {kind: i for i, kind in enumerate(Kind)}
    findings.sort(key=lambda f: (rank[f.kind], by_number(f.pair or ""), f.text))
    return PairsReport(in_turn, tuple(findings), unused, _notes(together), _is_halved(together))


def _is_untold(together: Together) -> bool:
    """Whether nothing says which way round each pair is."""
    return not (together.unpaired or together.direction.known or len(together.differing) < FEWEST)


def _is_halved(together: Together) -> bool:
    return _is_untold(together) and together.direction.halved


def _notes(together: Together) -> tuple[str, ...]:
    """What could not be told of the pairs."""
    if not _is_untold(together):
        return ()
    why = "what changes has too little in common over the pairs"
    if _is_halved(together):
        why = "what changes points one way in half of the pairs and the other way in the rest"
    return (
        f"Which way round each pair is cannot be told: {why}. Where the contact sheet shows them right, nothing is to be done.",
    )
