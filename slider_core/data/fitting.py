"""How an image goes into the model: the size of its aspect-ratio bucket, the place of the crop, mirrored or not.

Every image is fitted to the bucket that is nearest to its shape (bucket_sizes.py), both images of a pair to the same one and
cut at the same place, so that nothing is distorted and a pair stays aligned."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageChops

from ..config.checks import counted, need
from .bitmap import load_image, over
from .bitmap_clip import load_clip
from .bucket_sizes import common_ratio, cut_share, nearest_size
from .bucket_spec import Alpha, BucketSpec, Crop, DatasetSpec, Pairing
from .buckets import ImageSample
from .dataset import Dataset

CENTER = (0.5, 0.5)
BLACK = (0, 0, 0)
ENLARGED = 1.5  # times
CUT = 0.2  # the share of an image from which on its crop is reported


def fit(image: Image.Image, width: int, height: int, crop: Crop, place: tuple[float, float] = CENTER) -> Image.Image:
    """`image` scaled to cover width x height, then cropped: at `place` for Crop.RANDOM ((0, 0) is the top left corner, (1, 1)
    the bottom right), in the middle else. The content keeps its aspect ratio. A mask (L) is scaled bilinearly.

    Only the part that stays is scaled, so that a very long image costs no more than another. Raises SliderError for a place
    outside 0..1.
    """
    x, y = place if crop is Crop.RANDOM else CENTER
    inside = 0 <= x <= 1 and 0 <= y <= 1
    need(inside, f"A crop's place must be two numbers from 0 to 1, got {place!r}.", "crop.place")
    scale = min(image.width / width, image.height / height)
    left = x * max(0.0, image.width - width * scale)
    top = y * max(0.0, image.height - height * scale)
    box = (left, top, min(image.width, left + width * scale), min(image.height, top + height * scale))
    how = Image.Resampling.BILINEAR if image.mode == "L" else Image.Resampling.LANCZOS
    return image.resize((width, height), how, box=box)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """(3, H, W) of an RGB image, (1, H, W) of a mask (L): float32 in [0, 1]."""
    values_HWC = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, -1) / 255
    return torch.from_numpy(values_HWC).permute(2, 0, 1).contiguous()


def to_pil(image: torch.Tensor) -> Image.Image:
    """The inverse: (3, H, W) or (1, H, W) in [0, 1] to 8 bit."""
    array = (image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))


@dataclass(frozen=True)
class Fitted:
    """How an image goes into the model: the size in pixels, the place of the crop (0 to 1 each way), mirrored or not."""

    image_sample: ImageSample
    spec: BucketSpec
    pair: int | None
    width: int
    height: int
    place: tuple[float, float] = CENTER
    flip: bool = False
    crop: Crop = Crop.CENTER


def _place(spec: BucketSpec, seed: int, samples: Sequence[ImageSample]) -> tuple[float, float]:
    """Where a random crop lies: the same for both images of a pair, and in every run."""
    if spec.crop is not Crop.RANDOM:
        return CENTER
    names = sorted(sample.digest for sample in samples)
    digest = hashlib.sha256("\n".join((str(seed), *names)).encode()).digest()
    return digest[0] / 255, digest[1] / 255


def fittings(dataset: Dataset, resolution: int, step: int) -> list[Fitted]:
    """Every image of a dataset as it will be encoded: pairs first, in order, then the images that have no partner."""
    spec_of: dict[int, BucketSpec] = {}
    for bucket in dataset.buckets:
        for sample in bucket.image_samples:
            spec_of[id(sample)] = bucket.spec
    groups: list[tuple[int | None, tuple[ImageSample, ...]]] = list(enumerate(dataset.pairs))
    paired = {id(sample) for pair in dataset.pairs for sample in pair}
    alone = [sample for sample in dataset.image_samples if id(sample) not in paired]
    groups += [(None, (sample,)) for sample in alone]
    common = None
    if dataset.spec.pairing is Pairing.RANDOM:  # whoever may meet must be of one size
        common = common_ratio(sample.ratio for sample in alone if sample.strength)
    fitted: list[Fitted] = []
    for number, samples in groups:
        spec = spec_of[id(samples[0])]
        ratio = common
        if ratio is None or not samples[0].strength:
            ratio = common_ratio(sample.ratio for sample in samples)
        width, height = nearest_size(ratio, spec.resolution or resolution, step, exact=spec.crop is Crop.NONE)
        place = _place(spec, dataset.spec.seed, samples)
        for sample in samples:
            fitted.append(Fitted(sample, spec_of[id(sample)], number, width, height, place, crop=spec.crop))
    return fitted + _mirrored(fitted, len(dataset.pairs)) if dataset.spec.flip else fitted


def _mirrored(fitted: Sequence[Fitted], pairs: int) -> list[Fitted]:
    """The same once more, seen in a mirror; pairs stay pairs."""
    mirrored = []
    for one in fitted:
        pair = None if one.pair is None else one.pair + pairs
        mirrored.append(replace(one, pair=pair, flip=True))
    return mirrored


@dataclass(frozen=True)
class Pixels:
    """The frames of an image (one) or a clip, RGB, and the mask (L) of an image; in full size or as a small copy."""

    frames: list[Image.Image]
    mask: Image.Image | None = None

    def fitted(self, at: Fitted) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(image (3, H, W) or clip (T, 3, H, W) in [0, 1], mask (1, H, W) or None) at the fitted size."""
        frames = [_fit_picture(frame, at) for frame in self.frames]
        image = torch.stack(frames) if len(frames) > 1 else frames[0]
        mask = None if self.mask is None else _fit_picture(self.mask, at)
        return image, mask


def _fit_picture(picture: Image.Image, at: Fitted) -> torch.Tensor:
    tensor = to_tensor(fit(picture, at.width, at.height, at.crop, at.place))
    return tensor.flip(-1) if at.flip else tensor


def decode(sample: ImageSample, spec: DatasetSpec) -> Pixels:
    """The pixels to train on, in full size. Every call opens the file."""
    if sample.pixels is not None:
        mask = None if sample.mask is None else to_pil(sample.mask)
        return Pixels([to_pil(sample.pixels)], mask)
    if sample.is_clip:
        return Pixels(load_clip(sample.path, spec.frames, spec.rgb))
    picture = load_image(sample.path)
    mask = picture.getchannel("A") if spec.alpha is Alpha.MASK and picture.mode == "RGBA" else None
    if sample.mask_file is not None:
        beside = over(load_image(sample.mask_file), BLACK).convert("L").resize(picture.size, Image.Resampling.BILINEAR)
        mask = beside if mask is None else ImageChops.multiply(mask, beside)
    return Pixels([over(picture, spec.rgb)], mask)


def small_image(at: Fitted, spec: DatasetSpec) -> torch.Tensor:
    """(3, H, W) in [0, 1] to look at, of a clip the first frame: from the small copy where there is one."""
    copy = at.image_sample.copy
    if copy:
        return _fit_picture(over(copy, spec.rgb), at)
    return _fit_picture(decode(at.image_sample, replace(spec, frames=1)).frames[0], at)


def sizes_report(fitted: Sequence[Fitted]) -> list[str]:
    """The sizes of a dataset as text, and whose crop loses much."""
    count: Counter[str] = Counter()
    lost = []
    for one in fitted:
        if not one.flip:
            count[f"{one.width} x {one.height}"] += 1
            share = cut_share(one.image_sample.ratio, (one.width, one.height))
            if share > CUT:
                lost.append((share, one.image_sample.path.name))
    lines = ["Sizes: " + ", ".join(f"{size} ({number})" for size, number in count.most_common()) + "."]
    if lost:
        names = [f"{name} ({share:.0%})" for share, name in sorted(lost, reverse=True)[:3]]
        if len(lost) > 3:
            names.append("...")
        lines.append(f"The crop loses more than {CUT:.0%} of {len(lost)} images: {', '.join(names)}.")
    return lines


def enlarged_note(dataset: Dataset, resolution: int, step: int, setting: str) -> str:
    """How many images are much smaller than the size they are trained at, in two sentences; empty where none is. `setting`: the
    resolution, as where it is run from names it."""
    count = Counter[str]()
    most = 0.0
    for one in fittings(dataset, resolution, step):
        times = max(one.width / one.image_sample.width, one.height / one.image_sample.height)
        if times > ENLARGED and not one.flip:
            count[f"{one.width} x {one.height}"] += 1
            most = max(most, times)
    if not count:
        return ""
    small = count.total()
    which = f"{small} of {counted(len(dataset.image_samples), 'image')} {'is' if small == 1 else 'are'} smaller"
    size = count.most_common(1)[0][0]
    return f"{which} than {size} and enlarged up to {most:.1f} times. Use larger files, or set a lower {setting}."
