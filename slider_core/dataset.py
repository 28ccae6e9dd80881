"""Labelled folders -> buckets of images with captions, and the pairs between them. Every fault is reported at once.

    smile/positive/*.png   strength > 0     more of the concept
    smile/negative/*.png   strength < 0     less of it
    smile/neutral/*.png    strength 0       stay as you are (optional)

A caption is the text file beside the image (`01.txt` for `01.png`), or the bucket's own caption, or empty.
Pairs are matched by file name; buckets whose names do not match are paired by order.
Images are read twice: once here, whole, to find damaged files before any training; once when they are encoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from .config import BucketSpec, SliderError

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Shot:
    """One image with its caption and signed strength. `digest` is the content hash of the file and caption."""

    path: Path
    caption: str
    strength: float
    width: int
    height: int
    digest: str


@dataclass(frozen=True)
class Bucket:
    spec: BucketSpec
    shots: tuple[Shot, ...]


@dataclass(frozen=True)
class DatasetReport:
    """What was read, in words a user can check."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True)
class Dataset:
    """Buckets and the (positive, negative) pairs of shots between them."""

    buckets: tuple[Bucket, ...]
    pairs: tuple[tuple[Shot, Shot], ...]
    report: DatasetReport

    @property
    def shots(self) -> tuple[Shot, ...]:
        return tuple(shot for bucket in self.buckets for shot in bucket.shots)

    @property
    def digest(self) -> str:
        """Changes with any image, caption, strength or pairing."""
        parts = [f"{s.digest}:{s.strength}" for s in self.shots] + [f"{p.digest}-{n.digest}" for p, n in self.pairs]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def bucket_folders(root: str | Path, strength: float = 1.0, caption: str | None = None) -> list[BucketSpec]:
    """`positive/`, `negative/` and, when there, `neutral/` under `root`, at +-strength.

    Raises SliderError that names the missing folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise SliderError(f"Dataset folder not found: {root}. Give a folder that holds positive/ and negative/.")
    signs = {"positive": strength, "negative": -strength, "neutral": 0.0}
    folders = [p for p in root.iterdir() if p.is_dir()]
    found = {p.name.lower(): p for p in folders}
    if len(found) < len(folders):
        raise SliderError(f"{root} holds folders whose names differ only in upper and lower case. Keep one of each.")
    for name in ("positive", "negative"):
        if name not in found:
            raise SliderError(f"Folder missing: {root / name}. A slider needs positive/ and negative/ images.")
    return [BucketSpec(str(found[name]), sign, caption) for name, sign in signs.items() if name in found]


def read_shot(path: Path, spec: BucketSpec) -> Shot:
    """Open an image to its last byte and read its caption; SliderError when it is damaged or no image."""
    try:
        content = path.read_bytes()
        with Image.open(path) as image:
            image.load()
            width, height = ImageOps.exif_transpose(image).size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as fault:
        raise SliderError(f"Image cannot be read: {path} ({fault}). Replace or remove it.") from None
    caption = spec.caption if spec.caption is not None else _caption_beside(path)
    return Shot(path, caption, spec.strength, width, height, hashlib.sha256(content + caption.encode()).hexdigest()[:16])


def _caption_beside(path: Path) -> str:
    text = next((p for p in (path.with_suffix(end) for end in (".txt", ".TXT", ".Txt")) if p.is_file()), None)
    try:
        return " ".join(text.read_text(encoding="utf-8-sig").split()) if text else ""
    except (OSError, UnicodeDecodeError) as fault:
        raise SliderError(f"Caption cannot be read: {text} ({fault}). Save it as UTF-8 text.") from None


def read_bucket(spec: BucketSpec) -> tuple[Bucket, list[str]]:
    """The images of one folder, sorted by name, and the faults found on the way."""
    folder = Path(spec.folder)
    if not folder.is_dir():
        return Bucket(spec, ()), [f"Folder not found: {folder}. Check the path of this bucket."]
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_ENDINGS and p.is_file() and p.name[0] != ".")
    if not files:
        return Bucket(spec, ()), [f"Bucket is empty: {folder}. Put images there ({', '.join(IMAGE_ENDINGS)})."]
    shots, faults = [], []
    for path in files:
        try:
            shots.append(read_shot(path, spec))
        except SliderError as fault:
            faults.append(str(fault))
    return Bucket(spec, tuple(shots)), faults


def match_pairs(positive: list[Shot], negative: list[Shot]) -> tuple[list[tuple[Shot, Shot]], str]:
    """Pairs by file name where all names match, else by order. Returns the pairs and how they were made."""
    by_name = {shot.path.stem.lower(): shot for shot in negative}
    if len(by_name) == len(negative) and {s.path.stem.lower() for s in positive} == set(by_name):
        return [(shot, by_name[shot.path.stem.lower()]) for shot in positive], "matched by file name"
    return list(zip(positive, negative, strict=True)), "matched by order (the file names differ)"


def read_dataset(specs: list[BucketSpec]) -> Dataset:
    """Read every bucket, check it, and pair positives with negatives.

    Raises SliderError that lists every fault found: missing folder, empty bucket, damaged image, no positive or no
    negative bucket, unequal counts.
    """
    read = [read_bucket(spec) for spec in specs]
    faults = [fault for _, bucket_faults in read for fault in bucket_faults]
    buckets = tuple(bucket for bucket, _ in read)
    if not faults:
        for sign, word in ((1, "positive"), (-1, "negative")):
            if not any(b.spec.sign == sign for b in buckets):
                faults.append(f"No {word} bucket: give one folder a strength {'above' if sign > 0 else 'below'} 0.")
    sides = {sign: [s for b in buckets if b.spec.sign == sign for s in b.shots] for sign in (1, -1, 0)}
    if not faults and len(sides[1]) != len(sides[-1]):
        names = {sign: ", ".join(b.spec.folder for b in buckets if b.spec.sign == sign) for sign in (1, -1)}
        faults.append(
            f"Unequal counts: {len(sides[1])} positive images ({names[1]}) but {len(sides[-1])} negative ({names[-1]}). "
            "Add or remove images until both sides have the same number."
        )
    if faults:
        raise SliderError("\n".join(faults))
    pairs, how = match_pairs(sides[1], sides[-1])
    return Dataset(buckets, tuple(pairs), _report(buckets, len(pairs), how))


def _report(buckets: tuple[Bucket, ...], pairs: int, how: str) -> DatasetReport:
    lines = [
        f"{b.spec.strength:+g}: {len(b.shots)} images in {Path(b.spec.folder).name}, "
        f"{sum(bool(s.caption) for s in b.shots)} with a caption"
        for b in buckets
    ]
    return DatasetReport((*lines, f"{pairs} pairs, {how}."))


def common_size(dataset: Dataset, resolution: int, step: int) -> tuple[int, int]:
    """(width, height) for all images: area about resolution^2, the images' median aspect ratio, multiples of `step`."""
    ratio = float(np.median([s.width / s.height for s in dataset.shots]))
    width = max(step, round(resolution * ratio**0.5 / step) * step)
    height = max(step, round(resolution / ratio**0.5 / step) * step)
    return width, height


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit grey is scaled down, transparency laid over white."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return image.convert("RGB")


def load_image(path: Path, width: int, height: int) -> torch.Tensor:
    """(3, height, width) float32 in [0, 1]: rotated as EXIF says, scaled to cover, centre-cropped, never distorted."""
    with Image.open(path) as image:
        upright = _rgb(ImageOps.exif_transpose(image))
        fitted = ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(fitted, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()
