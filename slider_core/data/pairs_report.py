"""A dataset's first pairs, as the pair doctor sees them: its report and the contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from PIL import Image

from .bucket_spec import DatasetSpec, Pairing
from .buckets import ImageSample
from .dataset import Dataset
from .fitting import Fitted, fittings, sizes_report, small_image
from .pair_check import PairImages, plain
from .pair_diagnosis import Finding, PairsReport
from .pair_doctor import examine
from .pair_sheet import BareSheet, bare_sheet, contact_sheet

SIDE = 256  # pixels: enough to see what differs; or the dataset's own middle size where that is smaller
STEP = 8
FIRST = 100  # pairs that are looked at
Files = tuple[Path, Path]  # the positive and the negative of a pair


def _side(dataset: Dataset) -> int:
    sides = [(sample.width * sample.height) ** 0.5 for sample in dataset.image_samples]
    return max(STEP, min(SIDE, round(median(sides))))


@dataclass(frozen=True)
class Examination:
    """What the pair doctor says: a contact sheet, a report in lines under a headline, which says where something was found, empty
    without pairs; apart from it the summary, what there is to say of the whole set, and for each pair that was examined its
    (positive, negative) files and the findings about it. `bare`: the sheet without these."""

    sheet: Image.Image
    bare: BareSheet
    lines: list[str]
    summary: str
    of_all: list[str]
    of_pairs: list[tuple[Files, list[str]]]
    headline: str

    @property
    def report(self) -> list[str]:
        """The headline and the lines under it."""
        return [f"Pair doctor: {self.headline}", *self.lines] if self.headline else self.lines


def _pair_images(fitted: Sequence[Fitted], spec: DatasetSpec) -> list[tuple[Files, PairImages]]:
    """The first pairs of a dataset, as they were fitted; an image is not shown again with another partner."""
    paired = [one for one in fitted if one.pair is not None and not one.flip][: 2 * FIRST]
    count = Counter(one.image_sample.path.name for one in paired[::2])
    pairs = []
    seen: set[int] = set()
    for plus, minus in zip(paired[::2], paired[1::2], strict=True):
        positive = plus.image_sample
        negative = minus.image_sample
        if id(positive) in seen or id(negative) in seen:
            continue
        seen |= {id(positive), id(negative)}
        images = PairImages(
            _name(positive, negative, count[positive.path.name] > 1),
            small_image(plus, spec),
            small_image(minus, spec),
            positive.caption,
            negative.caption,
            (positive.width, positive.height),
            (negative.width, negative.height),
        )
        pairs.append(((positive.path, negative.path), images))
    return pairs


def _name(positive: ImageSample, negative: ImageSample, twice: bool) -> str:
    """The name of the two files, or both; with their folders where there are several of that name."""
    names = []
    for sample in (positive, negative):
        name = sample.path.name
        if twice and sample.pixels is None:
            name = f"{sample.path.parent.name}/{name}"
        names.append(name)
    return " / ".join(dict.fromkeys(names))


def pairs_report(dataset: Dataset) -> tuple[list[Fitted], list[tuple[Files, PairImages]], PairsReport]:
    """(every image as it is looked at, the first pairs of them with their files, what the doctor says of these)."""
    fitted = fittings(dataset, _side(dataset), STEP)
    pairs = _pair_images(fitted, dataset.spec)
    alone = bool(dataset.pairs) and any(one.image_sample.strength and one.pair is None for one in fitted)
    return fitted, pairs, examine([pair for _, pair in pairs], len(dataset.unused) + alone)


def examined(dataset: Dataset) -> Examination:
    """The pair doctor's examination of a dataset's first pairs."""
    fitted, pairs, report = pairs_report(dataset)
    images = [pair for _, pair in pairs]
    cropped = sizes_report(fitted)[1:] if images else []
    not_examined = _not_examined(dataset, len(images))
    lines = [*cropped, *(report.lines() if images else []), *not_examined]
    of_all = [*cropped, *(finding.text for finding in report.of(None)), *report.notes]
    if len(images) in (0, FIRST):
        of_all += not_examined
    of_pairs = [(files, list(map(_alone, report.of(pair.name)))) for files, pair in pairs]
    headline = report.headline if images else ""
    sheets = contact_sheet(images, report), bare_sheet(images, report)
    return Examination(*sheets, lines, report.summary, of_all, of_pairs, headline)


def _not_examined(dataset: Dataset, examined_pairs: int) -> list[str]:
    """Why pairs were not examined, as a line."""
    rest = len(dataset.pairs) - examined_pairs
    if rest > 0 and len(dataset.pairs) <= FIRST:
        again = f"{rest} of {len(dataset.pairs)} pairs"
        return [f"Not examined, because they show an image again with another partner: {again}."]
    if rest > 0:
        return [f"The first {examined_pairs} pairs were examined, {rest} were not."]
    if examined_pairs:
        return []
    if dataset.spec.pairing is Pairing.RANDOM:
        return ["Pairs are drawn at random: there are none to examine."]
    return ["No pairs to examine."]


def _alone(finding: Finding) -> str:
    """A finding as a sentence beside the pair that it is about."""
    sentence = finding.text.removeprefix(f"{plain(finding.pair or '')}: ")
    return sentence[:1].upper() + sentence[1:]
