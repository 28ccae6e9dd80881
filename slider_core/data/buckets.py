"""Labelled images: those of a folder with their captions, or those of a graph. A fault of a file names it.

Images are decoded twice: once here, to find damaged files before any training, which leaves a small copy for what looks at
them (the pair doctor, its contact sheet, previews); and once in full when they are encoded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from PIL import Image

from ..config.checks import SliderError, need
from ..config.regular_files import inside, naming, open_file
from .bitmap import CLIP_ENDINGS, IMAGE_ENDINGS, Look
from .bitmap_clip import frame_files, look
from .bucket_files import BucketFiles, bucket_files
from .bucket_spec import BucketSpec
from .bucket_text import BucketText

GRAPH = "graph"  # in the place of a folder
BLOCK = 1 << 20  # bytes that are hashed at once
COPY = 600 * 600  # pixels of a small copy: more than the doctor's 256 x 256 and a preview's 512 x 512, which crop it
COPIES = 256 * 1024**2  # bytes of a dataset's small copies: more than 200 of them, the most that are looked at


@dataclass(frozen=True)
class ImageSample:
    """One image or clip with its caption and signed strength. `content` is the hash of the file, `digest` of it and the captions.

    `others`: further captions; a step draws one of all.
    `mask_file`: an image, dark where it is not trained on. `inside`: the folder below the bucket's own. `pixels` (3, H, W) in
    [0, 1] instead of a path for an image out of a graph, with its `mask` (1, H, W). `copy`: RGB or RGBA, small, of a clip the
    first frame; None beyond the first images of a large bucket.
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
    frames: int = 1
    inside: str = ""
    mask_file: Path | None = None
    others: tuple[str, ...] = ()
    copy: Image.Image | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return f"{self.inside}/{self.path.stem}" if self.inside else self.path.stem

    @property
    def captions(self) -> tuple[str, ...]:
        return (self.caption, *self.others)

    @property
    def sign(self) -> int:
        return (self.strength > 0) - (self.strength < 0)

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
    unused: tuple[str, ...] = ()  # what in its folder was not used, or not as an image


def _content(path: Path) -> str:
    """A hash of a file, or of the files of a folder of frames."""
    files = frame_files(path) if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        with naming("Image", file, "image.unreadable"), open_file(file) as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _digest(content: str, caption: str) -> str:
    return hashlib.sha256(content.encode() + caption.encode()).hexdigest()[:16]


def _read_sample(path: Path, text: BucketText, copy_pixels: int) -> tuple[ImageSample, Look]:
    """Open an image and its mask to the last byte and read what is written of it; SliderError when one is damaged or no image."""
    files, roots = text.files, text.roots
    frames = frame_files(path) if path.is_dir() else []
    mask = files.masks.get(path)
    read = [path, *frames]
    if mask:
        read.append(mask)
    for file in read:
        outside = f"Image {file} leads outside the folders for datasets, or nowhere. Copy it there."
        need(inside(file, roots), outside, "image.outside")
    seen = look(path, copy_pixels)
    caption, *others = text.captions(path)
    strength = text.strength(path)
    if strength is None:
        strength = text.spec.strength
    content = _content(path)
    if mask is not None:
        look(mask)
        content = _digest(content, _content(mask))
    size = (seen.width, seen.height)
    digest = _digest(content, "\n".join((caption, *others)))
    sample = ImageSample(path, caption, strength, *size, digest, content, frames=seen.frames, copy=seen.copy)
    return replace(sample, inside=files.inside(path), mask_file=mask, others=tuple(others)), seen


def files_of(spec: BucketSpec, roots: Sequence[Path] | None = None, clips: bool = False) -> BucketFiles | SliderError:
    """The files of a bucket, or why there are none. `clips`: a folder of images inside it is one clip."""
    try:
        return _folder_files(spec, roots, clips)
    except SliderError as fault:
        return fault


def _folder_files(spec: BucketSpec, roots: Sequence[Path] | None, clips: bool) -> BucketFiles:
    folder = Path(spec.folder)
    outside = not inside(folder, roots) and (folder.exists() or folder.is_symlink())
    need(not outside, f"Folder {folder} leads outside the folders for datasets. Copy it there.", "folder.outside")
    gone = f'Folder not found: {folder}. Check the path of the bucket "{spec.title}".'
    need(folder.is_dir(), gone, "folder.missing")
    files = bucket_files(folder, clips)
    empty = f"Folder is empty: {folder}. Put images there ({', '.join(IMAGE_ENDINGS)})."
    if files.unused:
        empty += f" There: {'; '.join(files.unused)}."
    need(bool(files.images), empty, "folder.empty")
    return files


def joined(faults: Sequence[SliderError]) -> SliderError:
    """All the faults of a dataset as one, a line for each, with the code of the first."""
    return SliderError("\n".join(map(str, faults)), faults[0].code)


def copy_pixels(resolution: int) -> int:
    """The most pixels of a small copy in a bucket with a resolution of its own (0: that of the run)."""
    return max(COPY, round((1.2 * resolution) ** 2))


def read_bucket(
    spec: BucketSpec,
    roots: Sequence[Path] | None = None,
    on_image: Callable[[], None] | None = None,
    buckets: int = 2,
    files: BucketFiles | SliderError | None = None,
) -> tuple[Bucket, list[SliderError]]:
    """The images of one folder, sorted by name, and the faults found on the way. `buckets` share the memory for copies.

    `files`: as `files_of` has them, where the folder was walked already.
    """
    files = files or files_of(spec, roots)
    if isinstance(files, SliderError):
        return Bucket(spec, ()), [files]
    try:
        text = BucketText(spec, files, roots)
    except SliderError as fault:
        return Bucket(spec, ()), [fault]
    samples: list[ImageSample] = []
    faults: list[SliderError] = []
    notes: list[str] = []
    written = any(file.suffix.lower() == ".json" for file in files.captions.values()) or files.notes or files.tables
    looked_at = spec.strength or written  # neutral images are not, where none says a strength
    copies_left = COPIES // buckets if looked_at else 0
    for path in _drawn(files.images, spec.most):
        try:
            pixels = copy_pixels(spec.resolution) if copies_left > 0 else 0
            sample, seen = _read_sample(path, text, pixels)
            if seen.copy:
                copies_left -= seen.copy.width * seen.copy.height * len(seen.copy.getbands())
            samples.append(sample)
            if not sample.is_clip:
                notes += [f"{path.name}: {note}" for note in seen.notes]
        except SliderError as fault:
            faults.append(fault)
        if on_image:
            on_image()
    return Bucket(spec, tuple(samples), tuple(notes), tuple(files.unused)), faults


def _drawn(images: Sequence[Path], most: int) -> list[Path]:
    """At most so many images (0: all), drawn by a hash of their names: of both sides of pairs the same ones, in every run."""
    if not 0 < most < len(images):
        return list(images)
    names = sorted(images, key=lambda path: hashlib.sha256(path.stem.lower().encode()).digest())
    kept = set(names[:most])
    return [path for path in images if path in kept]


def graph_bucket(images_BHWC: torch.Tensor, strength: float, captions: Sequence[str], mask_BHW: torch.Tensor | None) -> Bucket:
    """Images out of a graph, in [0, 1], as a bucket; numbered, so that the first of each side make a pair.

    One caption is for all, else one for each image; a mask of one is for all. SliderError where the numbers do not fit.
    """
    count = len(images_BHWC)
    masks = 1 if mask_BHW is None else len(mask_BHW)
    for what, number in (("captions", len(captions)), ("masks", masks)):
        unequal = f"{number} {what} for {count} images: give one for all, or one for each."
        need(number in (0, 1, count), unequal, "bucket.counts")
    samples = []
    for number, image in enumerate(images_BHWC):
        pixels = image[..., :3].movedim(-1, 0).detach().float().cpu().clone()
        mask = None
        content = hashlib.sha256(pixels.numpy().tobytes())
        if mask_BHW is not None:
            mask = mask_BHW[number % len(mask_BHW)].detach().float().cpu().clone()[None]
            content.update(mask.numpy().tobytes())
        caption = captions[number % len(captions)] if captions else ""
        digest = _digest(content.hexdigest(), caption)
        size = (pixels.shape[-1], pixels.shape[-2])
        path = Path(f"image {number + 1}")
        samples.append(ImageSample(path, caption, strength, *size, digest, content.hexdigest(), pixels, mask))
    spec = BucketSpec(GRAPH, strength, name=f"images from the graph at {strength:+g}")
    return Bucket(spec, tuple(samples))
