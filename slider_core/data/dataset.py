"""Labelled buckets of images with captions, and the pairs between them. Every fault is reported at once.

    smile/positive/*.png        strength > 0     more of the concept
    smile/negative/*.png        strength < 0     less of it
    smile/neutral/*.png         strength 0       stay as you are (optional)
    smile/strength_+0.5/*.png   any strength, by the folder's name

Names of other programs are taken too: pos/ and neg/, 1/ and -1/, 10_positive/ (ten times an epoch); two folders of any names by
choice; and images with strengths of their own (bucket_text.py) in one folder, or right in the dataset's.

Buckets come from such a folder, from a dataset file (simpletuner.py) or out of a graph (images in memory).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from ..config.checks import SliderError, need
from ..config.hosts import advice
from ..config.regular_files import naming
from .bitmap_clip import evenly_spaced
from .bucket_files import BucketFiles
from .bucket_spec import BucketSpec, DatasetSpec, Latents, Pairing, TextSliderSpec, Unequal
from .bucket_text import has_strengths
from .buckets import GRAPH, Bucket, ImageSample, files_of, joined, read_bucket
from .buckets_paired import graded, lower_names, match_pairs, sides_of, signs_in, staged_pairs, unequal_sides

NAMED = {"positive": 1.0, "negative": -1.0, "neutral": 0.0}
ALSO_NAMED = {"pos": 1.0, "neg": -1.0, "plus": 1.0, "minus": -1.0}
_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)"
_BY_STRENGTH = re.compile(rf"strength_({_NUMBER})", re.IGNORECASE)
_BARE_NUMBER = re.compile(_NUMBER)  # a strength where both signs are there: 1/ and -1/
_REPEATED = re.compile(r"(\d{1,4})_(.+)")  # kohya's 10_smile: ten times an epoch
OnImage = Callable[[int, int], None]  # (images read or encoded, images in all)


@dataclass(frozen=True)
class Dataset:
    """Buckets and the (positive, negative) pairs of images between them; no pairs where they are drawn at random.

    `report`: what was read, a line for each thing. `trouble`: why it cannot be trained on as it is, for a dataset to which
    buckets may still be added; else empty.
    """

    buckets: tuple[Bucket, ...]
    pairs: tuple[tuple[ImageSample, ImageSample], ...]
    report: str
    spec: DatasetSpec = field(default_factory=DatasetSpec)
    trouble: str = ""
    text_sliders: tuple[TextSliderSpec, ...] = ()  # trained beside the images, or without any
    name: str = ""  # of its folder, or the words that set its prompts apart; a slider without a name of its own gets it
    beside: tuple[str, ...] = ()  # what lies in its folder and stands for no strength, a line for each kind

    @property
    def image_samples(self) -> tuple[ImageSample, ...]:
        return tuple(sample for bucket in self.buckets for sample in bucket.image_samples)

    @property
    def unused(self) -> list[str]:
        """What in its folders was not used, or not as an image."""
        return [*self.beside, *(line for bucket in self.buckets for line in bucket.unused)]

    @property
    def digest(self) -> str:
        """Changes with any image, caption, strength, pairing, prompt or choice."""
        parts = [f"{sample.digest}:{sample.strength}" for sample in self.image_samples]
        parts += [f"{positive.digest}-{negative.digest}" for positive, negative in self.pairs]
        parts += [replace(bucket.spec, folder="").to_json() for bucket in self.buckets]
        parts.append(self.spec.to_json())
        parts += [text_slider.to_json() for text_slider in self.text_sliders]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def need_equal_sides(self) -> None:
        """SliderError where it cannot be trained on."""
        need(not self.trouble, self.trouble, "dataset.unequal")


def _folders_in(root: Path) -> list[Path]:
    """The folders in a dataset's folder by name; SliderError when it is none or two names are the same."""
    advice = "Give a folder that holds positive/ and negative/, or a dataset file (.json)."
    need(not root.is_file(), f"{root} is neither a folder nor a dataset file. {advice}", "dataset.no_folder")
    kind = "file" if root.suffix.lower() == ".json" else "folder"
    need(root.is_dir(), f"Dataset {kind} not found: {root}. {advice}", "dataset.missing")
    with naming("Folder", root, "dataset.unreadable"):
        content = list(root.iterdir())
    folders = sorted((path for path in content if path.is_dir()), key=lambda path: path.name.lower())
    names = {folder.name.lower() for folder in folders}
    same = f"{root} holds folders whose names differ only in upper and lower case. Keep one of each."
    need(len(names) == len(folders), same, "dataset.letter_case")
    return folders


def bucket_folders(
    root: str | Path,
    strength: float = 1.0,
    caption: str | None = None,
    positive: str = "",
    negative: str = "",
    **choices: object,
) -> list[BucketSpec]:
    """The folders under `root` that name a strength: `positive/`, `negative/` and `neutral/` at +-strength, `strength_+0.5/`.

    `positive` and `negative` name the folders of the two sides where their names say no strength. `choices` are further fields
    of every BucketSpec. SliderError that names what is missing.
    """
    root = Path(root)
    folders = _folders_in(root)
    chosen = {}
    if positive or negative:
        chosen = _chosen(folders, strength, positive, negative)
    strengths = chosen or _strengths_of([folder.name for folder in folders], strength)
    buckets = []
    for folder in folders:
        value = strengths.get(folder.name)
        if not strengths and has_strengths(folder):
            value = 0.0
        if value is not None:
            bucket = BucketSpec(str(folder), value, caption, **choices)  # type: ignore[arg-type]
            again = _REPEATED.fullmatch(folder.name)
            if again:
                bucket = replace(bucket, repeats=max(0, int(again[1]) - 1))
            buckets.append(bucket)
        elif not chosen:
            _refuse_misspelt(folder)
    if not buckets and has_strengths(root):
        buckets.append(BucketSpec(str(root), 0.0, caption, **choices))  # type: ignore[arg-type]
    if not any(has_strengths(Path(bucket.folder)) for bucket in buckets):
        _need_sides(root, folders, buckets)
    return sorted(buckets, key=lambda bucket: (1, -1, 0).index(bucket.sign))


def _need_sides(root: Path, folders: Sequence[Path], buckets: Sequence[BucketSpec]) -> None:
    """SliderError where no folder stands for one of the sides."""
    for name, sign in (("positive", 1), ("negative", -1)):
        if all(bucket.sign != sign for bucket in buckets):
            message = (
                f"Folder missing: {root / name}. A slider needs positive/ and negative/ images, or strength_+1/ and strength_-1/."
            )
            if folders:
                message += f" There: {', '.join(folder.name for folder in folders[:5])}."
            if len(folders) > 1:
                message += " Or say which two they are (positive_folder and negative_folder)."
            raise SliderError(message, "dataset.side")


def _chosen(folders: Sequence[Path], strength: float, positive: str, negative: str) -> dict[str, float]:
    """The strengths of two folders that were chosen by name. SliderError where one is not there, or both are one."""
    strengths = {}
    names = {folder.name.lower(): folder.name for folder in folders}
    for side, name, value in (("positive", positive, strength), ("negative", negative, -strength)):
        there = ", ".join(names.values()) or "none"
        missing = f'No folder "{name}" for the {side} images. There: {there}. Choose one for each side.'
        need(name.strip("/ ").lower() in names, missing, "dataset.chosen")
        strengths[names[name.strip("/ ").lower()]] = value
    need(len(strengths) == 2, f'"{positive}" cannot be both sides. Choose another folder for one of them.', "dataset.chosen")
    return strengths


def sides_named(folders: Iterable[str]) -> int:
    """How many of both sides folders of these names stand for: 2 make a dataset, 1 is meant as one."""
    strengths = _strengths_of(list(folders), 1.0).values()
    return (max(strengths, default=0.0) > 0) + (min(strengths, default=0.0) < 0)


def _strengths_of(names: Sequence[str], strength: float) -> dict[str, float]:
    """The strengths that names of folders stand for; those that stand for none are left out."""
    strengths: dict[str, float] = {}
    bare: dict[str, float] = {}
    for name in names:
        again = _REPEATED.fullmatch(name)
        word = again[2].lower() if again else name.lower()
        number = _BY_STRENGTH.fullmatch(word)
        if number:
            strengths[name] = float(number[1])
        elif _BARE_NUMBER.fullmatch(name):
            bare[name] = float(name)
        elif word in NAMED or word in ALSO_NAMED:
            strengths[name] = (NAMED | ALSO_NAMED)[word] * strength
    both = min(bare.values(), default=0.0) < 0 < max(bare.values(), default=0.0)
    if both:
        strengths |= bare
    return strengths


def _refuse_misspelt(folder: Path) -> None:
    """SliderError for a folder whose name means to say a strength and does not; others, such as a backup, are left alone."""
    name = folder.name.lower()
    shape = f"Folder {folder}: its name says no strength. Name it as in strength_+0.5 or strength_-1."
    need(not name.startswith("strength"), shape, "folder.strength")
    near = get_close_matches(name, NAMED, 1, 0.8)
    if near:
        fix = "Rename it so, or to something that is not like it."
        raise SliderError(f"Folder {folder}: is {near[0]} meant? {fix}", "folder.misspelt")


def assembled(buckets: Sequence[Bucket], spec: DatasetSpec, notes: Sequence[str] = ()) -> Dataset:
    """Buckets that were read as a dataset, with its pairs. One side may be missing yet: training asks for both."""
    positive, negative = sides_of(buckets)
    lines = [*map(_line, buckets), *notes]
    names = lower_names(positive) & lower_names(negative)
    stages = staged_pairs(buckets) if spec.pairing in (Pairing.AUTO, Pairing.NAME) else []
    if graded(buckets) and not names and not stages and spec.pairing is Pairing.AUTO:
        spec = replace(spec, pairing=Pairing.RANDOM)
    for bucket in buckets:
        lines += [f"{line}." for line in bucket.unused]
        lines += bucket.notes
    lines += _one_sided_captions(positive, negative)
    if not positive or not negative:
        return Dataset(tuple(buckets), (), "\n".join(lines), spec)
    if stages:
        _check_clips(buckets, stages, spec)
        lines.append(f"{len(stages)} pairs out of the stages of subjects, matched by file name.")
        return Dataset(tuple(buckets), tuple(stages), "\n".join(lines), replace(spec, pairing=Pairing.NAME))
    limited = any(bucket.spec.most for bucket in buckets)  # a side is smaller on purpose
    stops = spec.unequal is Unequal.STOP and spec.pairing is not Pairing.RANDOM and not limited
    if stops and len(positive) != len(negative):
        trouble = unequal_sides(buckets)
        return Dataset(tuple(buckets), (), "\n".join([*lines, trouble]), spec, trouble)
    pairs, how = match_pairs(positive, negative, spec.pairing)
    if len(pairs) > min(len(positive), len(negative)):
        fewer = "positive" if len(positive) < len(negative) else "negative"
        lines.append(f"{len(positive)} positive and {len(negative)} negative images: the {fewer} ones are shown more often.")
    _check_clips(buckets, pairs, spec)
    lines.append(f"{len(pairs)} pairs, {how}." if pairs else f"Pairs are {how}.")
    return Dataset(tuple(buckets), tuple(pairs), "\n".join(lines), spec)


def _captions_in(samples: Sequence[ImageSample]) -> int:
    return sum(bool(sample.caption) for sample in samples)


def _one_sided_captions(positive: Sequence[ImageSample], negative: Sequence[ImageSample]) -> list[str]:
    """A line where one side has captions and the other has none: words would tell the sides apart."""
    counts = [_captions_in(positive), _captions_in(negative)]
    if not positive or not negative or all(counts) or not any(counts):
        return []
    having, lacking = ("positive", "negative") if counts[0] else ("negative", "positive")
    return [f"Captions on one side only: {max(counts)} {having} images have one, no {lacking} image does. Give both the same."]


def _check_clips(buckets: Sequence[Bucket], pairs: Iterable[tuple[ImageSample, ImageSample]], spec: DatasetSpec) -> None:
    """SliderError where a clip has too few frames, or a pair is of an image and a clip."""
    if spec.frames == 1:
        return
    for bucket in buckets:
        for sample in bucket.image_samples:
            if sample.is_clip:
                evenly_spaced(sample.path, sample.frames, spec.frames)
    for positive, negative in pairs:
        names = f"{positive.path.name} and {negative.path.name}"
        mixed = f"{names} are a pair of an image and a clip: give two of a kind, or set frames to 1."
        need(positive.is_clip is negative.is_clip, mixed, "dataset.image_and_clip")


def _line(bucket: Bucket) -> str:
    spec = bucket.spec
    captions = _captions_in(bucket.image_samples)
    most = max((len(sample.captions) for sample in bucket.image_samples), default=1)
    place = "from the graph" if spec.folder == GRAPH else f"in {spec.title}"
    line = f"{_strengths_in(bucket)}: {len(bucket.image_samples)} images {place}, {captions} with a caption"
    if most > 1:
        line += f" (up to {most} for an image, one is drawn a step)"
    if spec.probability != 1:
        line += f", probability {spec.probability:g}"
    if spec.repeats:
        line += f", {1 + spec.repeats} times an epoch"
    return line


def _strengths_in(bucket: Bucket) -> str:
    """The strength of a bucket's images, or the least and the greatest of them."""
    strengths = {sample.strength for sample in bucket.image_samples} or {bucket.spec.strength}
    least, most = min(strengths), max(strengths)
    return _signed(most) if least == most else f"{_signed(least)} to {_signed(most)}"


def _signed(strength: float) -> str:
    return f"{strength:+g}" if strength else "0"


def read_dataset(
    specs: Sequence[BucketSpec],
    spec: DatasetSpec | None = None,
    roots: Sequence[Path] | None = None,
    on_image: OnImage | None = None,
    notes: Sequence[str] = (),
    beside: Sequence[str] = (),
) -> Dataset:
    """Read every bucket, check it, and pair positives with negatives.

    `roots`: where files may lie really; None for anywhere. `beside`: lines of what lies beside the buckets (folder_leftovers.py).
    Raises SliderError that lists every fault found: missing folder, empty bucket, damaged image, no positive or no negative
    bucket, unequal counts.
    """
    done = 0
    clips = spec is not None and spec.frames > 1
    walked = [files_of(bucket_spec, roots, clips) for bucket_spec in specs]
    total = sum(len(files.images) for files in walked if isinstance(files, BucketFiles))

    def step() -> None:
        nonlocal done
        done += 1
        if on_image:
            on_image(done, total)

    buckets: list[Bucket] = []
    faults: list[SliderError] = []
    for bucket_spec, files in zip(specs, walked, strict=True):
        bucket, bucket_faults = read_bucket(bucket_spec, roots, step, len(specs), files)
        buckets.append(bucket)
        faults += bucket_faults
    signs = {bucket_spec.sign for bucket_spec in specs}.union(*map(signs_in, buckets))
    for sign, side, where in ((1, "positive", "above"), (-1, "negative", "below")):
        if sign not in signs:
            faults.append(SliderError(f"No {side} bucket: give one folder a strength {where} 0.", "dataset.side"))
    if faults:
        raise joined(faults)
    dataset = replace(assembled(buckets, spec or DatasetSpec(), [*notes, *beside]), beside=tuple(beside))
    dataset.need_equal_sides()
    return dataset


def add_text_slider(text_slider: TextSliderSpec, dataset: Dataset | None = None) -> Dataset:
    """A dataset of these prompts, beside the images and prompts of another. SliderError where they want images that it lacks."""
    before = dataset or Dataset((), (), "")
    fix = advice("connect dataset beside the prompts, or set latents to own.", "give --dataset too, or --latents-from own.")
    has_latents = text_slider.latents is Latents.OWN or bool(before.buckets)
    need(has_latents, f"The latents are to be images, and there are none: {fix}", "text_slider.no_images")
    report = "\n".join(filter(None, (before.report, f"Words: {text_slider}.")))
    name = before.name or _words_added(text_slider.target, text_slider.positive)
    return replace(before, text_sliders=(*before.text_sliders, text_slider), report=report, name=name)


def _words_added(target: str, positive: str) -> str:
    """The words of `positive` that `target` lacks: what the slider adds."""
    plain = re.findall(r"\w+", target.lower())
    return " ".join(word for word in re.findall(r"\w+", positive) if word.lower() not in plain)[:40]


def origin(dataset: Dataset) -> dict[str, str]:
    """What a run must not change of its dataset, with the prompts by name."""
    prompts = "; ".join(map(str, dataset.text_sliders))
    if not prompts:
        return {"dataset": dataset.digest}
    return {"prompts": prompts, "dataset": dataset.digest}
