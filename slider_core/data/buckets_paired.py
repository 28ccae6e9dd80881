"""Which positive image and which negative one make a pair: by file name, else by order, or drawn at random in every epoch.

Images of one name and several strengths are stages of one subject: strongest with strongest, each stage once at least; the image
at 0 of a subject is the partner of its two ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..config.checks import SliderError
from ..config.hosts import advice, set_pairing
from .bucket_spec import Pairing
from .buckets import GRAPH, Bucket, ImageSample

NEUTRAL = "neutral"
Pairs = list[tuple[ImageSample, ImageSample]]


def sides_of(buckets: Iterable[Bucket]) -> tuple[list[ImageSample], list[ImageSample]]:
    """(positive, negative) images of all buckets, in their order."""
    positive: list[ImageSample] = []
    negative: list[ImageSample] = []
    for bucket in buckets:
        positive += [sample for sample in bucket.image_samples if sample.strength > 0]
        negative += [sample for sample in bucket.image_samples if sample.strength < 0]
    return positive, negative


def signs_in(bucket: Bucket) -> set[int]:
    """The sides on which its images lie."""
    return {sample.sign for sample in bucket.image_samples}


def graded(buckets: Iterable[Bucket]) -> bool:
    """Whether the images of a bucket lie on both sides, by strengths of their own."""
    return any({1, -1} <= signs_in(bucket) for bucket in buckets)


def staged_pairs(buckets: Sequence[Bucket]) -> Pairs:
    """The pairs of subjects of which a side has several strengths: images of one name in several folders, or of one folder within
    a bucket whose images have strengths of their own. None where there is no such subject, a strength of one occurs twice, or
    one lacks a side. What a folder named neutral holds are other pictures."""
    subjects: dict[str, dict[float, ImageSample]] = {}
    count = 0
    for bucket in buckets:
        if Path(bucket.spec.folder).name.lower() == NEUTRAL:
            continue
        own = graded([bucket])
        for sample in bucket.image_samples:
            subject = sample.inside if own and sample.inside else sample.name.lower()
            subjects.setdefault(subject, {})[sample.strength] = sample
            count += 1
    stages = [strengths for strengths in subjects.values() if any(strengths)]
    several = any(len(strengths) - (0.0 in strengths) > 2 for strengths in stages) or graded(buckets)
    one_sided = any(max(strengths) <= 0 or min(strengths) >= 0 for strengths in stages)
    if not several or one_sided or sum(map(len, subjects.values())) != count:
        return []
    pairs: Pairs = []
    for strengths in stages:
        pairs += _pairs_of_stages(strengths)
    return pairs


def _pairs_of_stages(stages: dict[float, ImageSample]) -> Pairs:
    positive = [stages[strength] for strength in sorted(stages, reverse=True) if strength > 0]
    negative = [stages[strength] for strength in sorted(stages) if strength < 0]
    pairs = _in_turn(positive, negative)
    if 0.0 in stages:
        pairs += [(positive[0], stages[0.0]), (stages[0.0], negative[0])]
    return pairs


def match_pairs(positive: list[ImageSample], negative: list[ImageSample], how: Pairing) -> tuple[Pairs, str]:
    """The pairs and how they were made. With unequal counts the shorter side goes round. SliderError when names must match."""
    if how is Pairing.RANDOM:
        return [], "drawn at random, anew every time"
    positives = {sample.name.lower(): sample for sample in positive}
    negatives = {sample.name.lower(): sample for sample in negative}
    unique = len(positives) == len(positive) and len(negatives) == len(negative)
    if how is not Pairing.ORDER and unique:
        pairs = [(positives[name], negatives[name]) for name in positives if name in negatives]
        numbered = all(sample.pixels is not None for sample in positive + negative)
        equal = len(positive) == len(negative)
        if len(pairs) == min(len(positive), len(negative)) and (equal or not numbered):
            return pairs, _by_name(numbered, partnerless(positive, negative))
    if how is Pairing.NAME:
        alone = partnerless(positive, negative) or ["names that occur twice on a side"]
        fix = f"Rename them, or {set_pairing('auto or order')}."
        raise SliderError(f"No partner of the same name: {', '.join(alone)}. {fix}", "dataset.partner")
    pairs = _in_turn(positive, negative)
    if how is Pairing.ORDER:
        return pairs, "matched by order"
    why = "the file names differ" if unique else "some file names occur twice"
    return pairs, f"matched by order ({why})"


def _in_turn(positive: Sequence[ImageSample], negative: Sequence[ImageSample]) -> Pairs:
    """The first with the first and so on; the shorter side goes round."""
    count = max(len(positive), len(negative))
    return [(positive[i % len(positive)], negative[i % len(negative)]) for i in range(count)]


def _by_name(numbered: bool, alone: Sequence[str]) -> str:
    how = "matched by their place in the batch" if numbered else "matched by file name"
    if alone:
        how += f"; without a partner, and left out of them: {', '.join(alone)}"
    return how


def lower_names(samples: Sequence[ImageSample]) -> set[str]:
    return {sample.name.lower() for sample in samples}


def partnerless(positive: Sequence[ImageSample], negative: Sequence[ImageSample], most: int = 5) -> list[str]:
    """The images whose name the other side does not have, the first `most` of them."""
    alone: list[str] = []
    for side, samples, others in (("positive", positive, negative), ("negative", negative, positive)):
        names = lower_names(others)
        alone += [f"{side}/{sample.path.name}" for sample in samples if sample.name.lower() not in names]
    alone.sort()
    if len(alone) > most:
        return [*alone[:most], f"{len(alone) - most} more"]
    return alone


def unequal_sides(buckets: Sequence[Bucket]) -> str:
    """What to tell the user of sides that have not the same number of images."""
    positive, negative = sides_of(buckets)
    alone: list[str] = []
    if lower_names(positive) & lower_names(negative):
        alone = partnerless(positive, negative)
    missing = f" Without a partner of the same name: {', '.join(alone)}." if alone else ""
    advised = advice(
        "or set unequal to balance in Slider Dataset Options.",
        "or give --unequal balance: pairs of one name are then kept and the rest is left out, and where names do not match, the "
        f"smaller side is shown more often. {_where(buckets)}",
    )
    return (
        f"Unequal counts: {len(positive)} positive images (more) and {len(negative)} negative (less).{missing} Add or remove "
        f"images until both sides have the same number, {advised}"
    )


def _where(buckets: Sequence[Bucket]) -> str:
    """The folders of the two sides, in a sentence."""
    folders: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for bucket in buckets:
        title = bucket.spec.title if bucket.spec.folder == GRAPH else bucket.spec.folder
        for sign in signs_in(bucket):
            folders[sign].append(title)
    return f"The images lie here: positive in {', '.join(folders[1])}, negative in {', '.join(folders[-1])}."
