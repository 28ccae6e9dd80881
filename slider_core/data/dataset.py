"""Labelled buckets of images with captions, and the pairs between them. Every fault is reported at once.

    smile/positive/*.png        strength > 0     more of the concept
    smile/negative/*.png        strength < 0     less of it
    smile/neutral/*.png         strength 0       stay as you are (optional)
    smile/strength_+0.5/*.png   any strength, by the folder's name

Buckets come from such a folder, from a dataset file (dataset_file.py) or out of a graph (images in memory). Pairs are matched by
file name; buckets whose names do not match are paired by order, or drawn at random.
Images are read twice: once here, whole, to find damaged files before any training; once when they are encoded.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

import torch

from ..config.checks import SliderError
from .bitmap import CLIP_ENDINGS, IMAGE_ENDINGS, frame_files, look
from .bucket_spec import BucketSpec, CaptionFrom, DatasetSpec, Pairing, TextSliderSpec, Unequal

GRAPH = "graph"  # in the place of a folder
NAMED = {"positive": 1.0, "negative": -1.0, "neutral": 0.0}
_BY_STRENGTH = re.compile(r"strength_([+-]?(?:\d+(?:\.\d+)?|\.\d+))", re.IGNORECASE)
_DIGITS = re.compile(r"(\d+)")
OnImage = Callable[[int, int], None]  # (images read or encoded, images in all)


@dataclass(frozen=True)
class ImageSample:
    """One image or clip with its caption and signed strength. `content` is the hash of the file, `digest` of it and the caption.

    `pixels` (3, H, W) in [0, 1] instead of a path for an image out of a graph, with its `mask` (1, H, W).
    """

    path: Path
    caption: str
    strength: float
    width: int
    height: int
    digest: str
    content: str = ""
    pixels: torch.Tensor | None = field(default=None, compare=False, repr=False)
    mask: torch.Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def is_clip(self) -> bool:
        return self.pixels is None and (self.path.is_dir() or self.path.suffix.lower() in CLIP_ENDINGS)

    @property
    def ratio(self) -> float:
        return self.width / self.height


@dataclass(frozen=True)
class Bucket:
    spec: BucketSpec
    image_samples: tuple[ImageSample, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DatasetReport:
    """What was read, in words a user can check."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Dataset:
    """Buckets and the (positive, negative) pairs of shots between them; no pairs where they are drawn at random.

    `trouble`: why it cannot be trained on as it is, for a dataset to which buckets may still be added; else empty.
    """

    buckets: tuple[Bucket, ...]
    pairs: tuple[tuple[ImageSample, ImageSample], ...]
    report: DatasetReport
    spec: DatasetSpec = field(default_factory=DatasetSpec)
    trouble: str = ""
    text_sliders: tuple[TextSliderSpec, ...] = ()  # trained beside the images, or without any

    @property
    def image_samples(self) -> tuple[ImageSample, ...]:
        return tuple(image_sample for bucket in self.buckets for image_sample in bucket.image_samples)

    @property
    def digest(self) -> str:
        """Changes with any image, caption, strength, pairing, word or choice."""
        parts = [f"{s.digest}:{s.strength}" for s in self.image_samples] + [f"{p.digest}-{n.digest}" for p, n in self.pairs]
        parts += [replace(b.spec, folder="").to_json() for b in self.buckets] + [self.spec.to_json()]
        parts += [w.to_json() for w in self.text_sliders]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


# --- where buckets come from


def bucket_folders(root: str | Path, strength: float = 1.0, caption: str | None = None, **choices: object) -> list[BucketSpec]:
    """The folders under `root` that name a strength: `positive/`, `negative/` and `neutral/` at +-strength, `strength_+0.5/`.

    `choices` are further fields of every BucketSpec. SliderError that names what is missing.
    """
    root = Path(root)
    advice = "Give a folder that holds positive/ and negative/, or a dataset file (.json)."
    if root.is_file():
        raise SliderError(f"{root} is neither a folder nor a dataset file. {advice}")
    if not root.is_dir():
        raise SliderError(f"Dataset {'file' if root.suffix.lower() == '.json' else 'folder'} not found: {root}. {advice}")
    folders = sorted((p for p in root.iterdir() if p.is_dir()), key=lambda p: p.name.lower())
    if len({p.name.lower() for p in folders}) < len(folders):
        raise SliderError(f"{root} holds folders whose names differ only in upper and lower case. Keep one of each.")
    told = {folder: _strength_of(folder.name, strength) for folder in folders}
    for folder in (folder for folder, value in told.items() if value is None):
        _refuse_misspelt(folder)
    found = {folder: value for folder, value in told.items() if value is not None}
    for name, sign in (("positive", 1), ("negative", -1)):
        if not any(value * sign > 0 for value in found.values()):
            there = f" There: {', '.join(p.name for p in folders[:5])}." if folders else ""
            needed = f"A slider needs positive/ and negative/ images, or strength_+1/ and strength_-1/.{there}"
            raise SliderError(f"Folder missing: {root / name}. {needed}")
    buckets = [BucketSpec(str(p), value, caption, **choices) for p, value in found.items()]  # type: ignore[arg-type]
    return sorted(buckets, key=lambda b: (1, -1, 0).index(b.sign))


def sides_named(folders: Iterable[str]) -> int:
    """How many of both sides folders of these names stand for: 2 make a dataset, 1 is meant as one."""
    strengths = [_strength_of(name, 1.0) for name in folders]
    return any(s and s > 0 for s in strengths) + any(s and s < 0 for s in strengths)


def _strength_of(folder: str, strength: float) -> float | None:
    """The strength that a folder's name stands for; None for another folder."""
    told = _BY_STRENGTH.fullmatch(folder)
    if told:
        return float(told[1])
    return NAMED[folder.lower()] * strength if folder.lower() in NAMED else None


def _refuse_misspelt(folder: Path) -> None:
    """SliderError for a folder whose name means to say a strength and does not; others, such as a backup, are left alone."""
    if folder.name.lower().startswith("strength"):
        raise SliderError(f"Folder {folder}: its name says no strength. Name it as in strength_+0.5 or strength_-1.")
    if near := get_close_matches(folder.name.lower(), NAMED, 1, 0.8):
        raise SliderError(f"Folder {folder}: is {near[0]} meant? Rename it so, or to something that is not like it.")


def escapes(path: Path, roots: Sequence[Path] | None) -> bool:
    """Whether the real place of `path` lies outside all `roots` (None: nothing is outside)."""
    if roots is None:
        return False
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):  # gone, or a loop of links
        return True
    return not any(real.is_relative_to(root.resolve()) for root in roots)


# --- reading


def _caption(path: Path, spec: BucketSpec, roots: Sequence[Path] | None) -> str:
    if spec.caption is not None or spec.captions is CaptionFrom.INSTANCEPROMPT:
        own = spec.caption or ""
    elif spec.captions is CaptionFrom.FILENAME:
        own = " ".join(re.sub(r"[_\-]+", " ", path.stem).split())
    else:
        own = _caption_beside(path, roots) if spec.captions is CaptionFrom.TEXTFILE else ""
    return f"{spec.trigger} {own}".strip()


def _caption_beside(path: Path, roots: Sequence[Path] | None) -> str:
    text = next((p for p in (path.with_suffix(end) for end in (".txt", ".TXT", ".Txt")) if p.is_file()), None)
    if text and escapes(text, roots):
        raise SliderError(f"Caption {text} leads outside the folders for datasets. Copy it there.")
    try:
        return " ".join(text.read_text(encoding="utf-8-sig").split()) if text else ""
    except UnicodeDecodeError:
        raise SliderError(f"Caption is not UTF-8 text: {text}. Save it anew as UTF-8.") from None
    except OSError as fault:
        raise SliderError(f"Caption cannot be read: {text} ({fault.strerror}). Check its rights.") from None


def _content(path: Path) -> str:
    """A hash of a file, or of the files of a folder of frames."""
    files = frame_files(path) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def read_image_sample(path: Path, spec: BucketSpec, roots: Sequence[Path] | None = None) -> tuple[ImageSample, tuple[str, ...]]:
    """Open an image to its last byte and read its caption, with notes on it; SliderError when it is damaged or no image."""
    for file in [path, *(frame_files(path) if path.is_dir() else [])]:
        if escapes(file, roots):
            raise SliderError(f"Image {file} leads outside the folders for datasets, or nowhere. Copy it there.")
    seen, caption, content = look(path), _caption(path, spec, roots), _content(path)
    digest = hashlib.sha256(content.encode() + caption.encode()).hexdigest()[:16]
    image_sample = ImageSample(path, caption, spec.strength, seen.width, seen.height, digest, content)
    return image_sample, () if image_sample.is_clip else seen.notes


def _natural(path: Path) -> list[tuple[int, int | str]]:
    """2 before 10."""
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in _DIGITS.split(path.name)]


def image_files(folder: Path) -> list[Path]:
    """Images, clips and folders of frames in a bucket's folder, in the order of their names; hidden ones are left out."""
    endings = (*IMAGE_ENDINGS, *CLIP_ENDINGS)
    found = [p for p in folder.iterdir() if p.name[0] != "." and (p.suffix.lower() in endings or p.is_dir())]
    return sorted((p for p in found if p.is_dir() or p.is_file() or p.is_symlink()), key=_natural)


def read_bucket(
    spec: BucketSpec, roots: Sequence[Path] | None = None, on_image: Callable[[], None] | None = None
) -> tuple[Bucket, list[str]]:
    """The images of one folder, sorted by name, and the faults found on the way."""
    folder = Path(spec.folder)
    if escapes(folder, roots) and (folder.exists() or folder.is_symlink()):
        return Bucket(spec, ()), [f"Folder {folder} leads outside the folders for datasets. Copy it there."]
    if not folder.is_dir():
        return Bucket(spec, ()), [f'Folder not found: {folder}. Check the path of the bucket "{spec.title}".']
    files = image_files(folder)
    if not files:
        return Bucket(spec, ()), [f"Folder is empty: {folder}. Put images there ({', '.join(IMAGE_ENDINGS)})."]
    image_samples, faults, notes = [], [], []
    for path in files:
        try:
            image_sample, told = read_image_sample(path, spec, roots)
            image_samples.append(image_sample)
            notes += [f"{path.name}: {note}" for note in told]
        except SliderError as fault:
            faults.append(str(fault))
        if on_image:
            on_image()
    return Bucket(spec, tuple(image_samples), tuple(notes)), faults


# --- pairs


def match_pairs(
    positive: list[ImageSample], negative: list[ImageSample], how: Pairing
) -> tuple[list[tuple[ImageSample, ImageSample]], str]:
    """The pairs and how they were made. With unequal counts the shorter side goes round. SliderError when names must match."""
    if how is Pairing.RANDOM:
        return [], "drawn at random, anew every time"
    by_name = [{image_sample.name.lower(): image_sample for image_sample in side} for side in (positive, negative)]
    once = len(by_name[0]) == len(positive) and len(by_name[1]) == len(negative)
    both = [name for name in by_name[0] if name in by_name[1]]
    if how is not Pairing.ORDER and once and len(both) == min(len(positive), len(negative)):
        numbered = all(s.pixels is not None for s in positive + negative)
        if len(positive) == len(negative) or not numbered:
            alone = partnerless(positive, negative)
            words = "matched by their place in the batch" if numbered else "matched by file name"
            left = f"; without a partner, and left out of them: {', '.join(alone)}" if alone else ""
            return [(by_name[0][name], by_name[1][name]) for name in both], words + left
    if how is Pairing.NAME:
        alone = partnerless(positive, negative) or ["names that occur twice on a side"]
        raise SliderError(f"No partner of the same name: {', '.join(alone)}. Rename them, or set pairing to auto or order.")
    count = max(len(positive), len(negative))
    pairs = [(positive[i % len(positive)], negative[i % len(negative)]) for i in range(count)]
    why = "" if how is Pairing.ORDER else " (the file names differ)" if once else " (some file names occur twice)"
    return pairs, f"matched by order{why}"


def partnerless(positive: Sequence[ImageSample], negative: Sequence[ImageSample], most: int = 5) -> list[str]:
    """The images whose name the other side does not have, the first `most` of them."""
    names = [{s.name.lower() for s in side} for side in (positive, negative)]
    sides = ((positive, names[1], "positive"), (negative, names[0], "negative"))
    alone = sorted(f"{word}/{s.path.name}" for side, other, word in sides for s in side if s.name.lower() not in other)
    return [*alone[:most], *([f"{len(alone) - most} more"] if len(alone) > most else [])]


def _sides(buckets: Iterable[Bucket]) -> dict[int, list[ImageSample]]:
    buckets = list(buckets)
    return {sign: [s for b in buckets if b.spec.sign == sign for s in b.image_samples] for sign in (1, -1, 0)}


def _unequal(buckets: Sequence[Bucket], sides: dict[int, list[ImageSample]]) -> str:
    where = {id(b): b.spec.title if b.spec.folder == GRAPH else b.spec.folder for b in buckets}
    names = {sign: ", ".join(where[id(b)] for b in buckets if b.spec.sign == sign) for sign in (1, -1)}
    shared = {s.name.lower() for s in sides[1]} & {s.name.lower() for s in sides[-1]}
    alone = partnerless(sides[1], sides[-1]) if shared else []
    return (
        f"Unequal counts: {len(sides[1])} positive images ({names[1]}) but {len(sides[-1])} negative ({names[-1]})."
        + (f" Without a partner of the same name: {', '.join(alone)}." if alone else "")
        + " Add or remove images until both sides have the same number, or set unequal to balance: pairs of one name are then "
        "kept and the rest is left out, and where names do not match, the smaller side is shown more often."
    )


def assembled(buckets: Sequence[Bucket], spec: DatasetSpec, notes: Sequence[str] = ()) -> Dataset:
    """Buckets that were read as a dataset, with its pairs. One side may be missing yet: training asks for both."""
    sides = _sides(buckets)
    lines = [_line(b) for b in buckets] + list(notes) + [note for b in buckets for note in b.notes]
    if not sides[1] or not sides[-1]:
        return Dataset(tuple(buckets), (), DatasetReport(tuple(lines)), spec)
    stops = spec.unequal is Unequal.STOP and spec.pairing is not Pairing.RANDOM
    if stops and len(sides[1]) != len(sides[-1]):
        trouble = _unequal(buckets, sides)
        return Dataset(tuple(buckets), (), DatasetReport((*lines, trouble)), spec, trouble)
    pairs, how = match_pairs(sides[1], sides[-1], spec.pairing)
    if len(pairs) > (fewest := min(len(sides[1]), len(sides[-1]))):
        fewer = "positive" if len(sides[1]) == fewest else "negative"
        lines.append(f"{len(sides[1])} positive and {len(sides[-1])} negative images: the {fewer} ones are shown more often.")
    mixed = next((f"{p.path.name} and {n.path.name}" for p, n in pairs if p.is_clip is not n.is_clip and spec.frames > 1), None)
    if mixed:
        raise SliderError(f"{mixed} are a pair of an image and a clip: give two of a kind, or set frames to 1.")
    lines.append(f"{len(pairs)} pairs, {how}." if pairs else f"Pairs are {how}.")
    return Dataset(tuple(buckets), tuple(pairs), DatasetReport(tuple(lines)), spec)


def _line(bucket: Bucket) -> str:
    spec, captions = bucket.spec, sum(bool(s.caption) for s in bucket.image_samples)
    more = f", probability {spec.probability:g}" if spec.probability != 1 else ""
    more += f", {1 + spec.repeats} times an epoch" if spec.repeats else ""
    place = "from the graph" if spec.folder == GRAPH else f"in {spec.title}"
    strength = f"{spec.strength:+g}" if spec.strength else "0"
    return f"{strength}: {len(bucket.image_samples)} images {place}, {captions} with a caption{more}"


def read_dataset(
    specs: Sequence[BucketSpec],
    spec: DatasetSpec | None = None,
    roots: Sequence[Path] | None = None,
    on_image: OnImage | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    """Read every bucket, check it, and pair positives with negatives.

    `roots`: where files may lie really; None for anywhere. Raises SliderError that lists every fault found: missing folder, empty
    bucket, damaged image, no positive or no negative bucket, unequal counts.
    """
    folders = [Path(s.folder) for s in specs]
    total, done = sum(len(image_files(f)) for f in folders if f.is_dir()), 0

    def step() -> None:
        nonlocal done
        done += 1
        if on_image:
            on_image(done, total)

    read = [read_bucket(s, roots, step) for s in specs]
    faults = [fault for _, bucket_faults in read for fault in bucket_faults]
    buckets = [bucket for bucket, _ in read]
    for sign, word in ((1, "positive"), (-1, "negative")):
        if not any(b.spec.sign == sign for b in buckets):
            faults.append(f"No {word} bucket: give one folder a strength {'above' if sign > 0 else 'below'} 0.")
    if faults:
        raise SliderError("\n".join(faults))
    found = assembled(buckets, spec or DatasetSpec(), notes)
    if found.trouble:
        raise SliderError(found.trouble)
    return found


def graph_bucket(images_BHWC: torch.Tensor, strength: float, captions: Sequence[str], mask_BHW: torch.Tensor | None) -> Bucket:
    """Images out of a graph, in [0, 1], as a bucket; numbered, so that the first of each side make a pair.

    One caption is for all, else one for each image; a mask of one is for all. SliderError where the numbers do not fit.
    """
    count = len(images_BHWC)
    for what, number in (("captions", len(captions)), ("masks", 1 if mask_BHW is None else len(mask_BHW))):
        if number not in (0, 1, count):
            raise SliderError(f"{number} {what} for {count} images: give one for all, or one for each.")
    spec = BucketSpec(GRAPH, strength, name=f"images from the graph at {strength:+g}")
    image_samples = []
    for number, image in enumerate(images_BHWC):
        pixels = image[..., :3].movedim(-1, 0).detach().float().cpu().clone()
        mask = None if mask_BHW is None else mask_BHW[number % len(mask_BHW)].detach().float().cpu().clone()[None]
        content = hashlib.sha256(pixels.numpy().tobytes() + (b"" if mask is None else mask.numpy().tobytes())).hexdigest()
        caption = captions[number % len(captions)] if captions else ""
        digest = hashlib.sha256(content.encode() + caption.encode()).hexdigest()[:16]
        size = pixels.shape[-1], pixels.shape[-2]
        image_samples.append(ImageSample(Path(f"image {number + 1}"), caption, strength, *size, digest, content, pixels, mask))
    return Bucket(spec, tuple(image_samples))


# --- words as a part of a dataset


def add_text_slider(words: TextSliderSpec, dataset: Dataset | None = None) -> Dataset:
    """A dataset of these words, beside the images and words of another."""
    before = dataset or Dataset((), (), DatasetReport(()))
    report = DatasetReport((*before.report.lines, f"Words: {words}."))
    return replace(before, text_sliders=(*before.text_sliders, words), report=report)


def origin(dataset: Dataset) -> dict[str, str]:
    """What a run must not change of its dataset, with the words by name."""
    told = {"prompts": "; ".join(map(str, dataset.text_sliders))} if dataset.text_sliders else {}
    return told | {"dataset": dataset.digest}
