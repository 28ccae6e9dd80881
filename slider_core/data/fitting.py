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
from PIL import Image

from ..config.checks import SliderError
from .bitmap import load_clip, load_picture
from .bucket_sizes import common_ratio, cut_share, nearest_size
from .bucket_spec import Alpha, BucketSpec, Crop, DatasetSpec, Pairing
from .dataset import Dataset, ImageSample

# --- to the model's size


def fit(image: Image.Image, width: int, height: int, crop: Crop, place: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """`image` scaled to cover width x height, then cropped: at `place` for Crop.RANDOM ((0, 0) is the top left corner, (1, 1)
    the bottom right), in the middle else. The content keeps its aspect ratio. A mask (L) is scaled bilinearly.

    Only the part that stays is scaled, so that a very long image costs no more than another. Raises SliderError for a place
    outside 0..1.
    """
    x, y = place if crop is Crop.RANDOM else (0.5, 0.5)
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise SliderError(f"A crop's place must be two numbers from 0 to 1, got {place!r}.")
    scale = min(image.width / width, image.height / height)
    left, top = x * max(0.0, image.width - width * scale), y * max(0.0, image.height - height * scale)
    box = (left, top, min(image.width, left + width * scale), min(image.height, top + height * scale))
    how = Image.Resampling.BILINEAR if image.mode == "L" else Image.Resampling.LANCZOS
    return image.resize((width, height), how, box=box)


def to_tensor(image: Image.Image) -> torch.Tensor:
    """(3, H, W) of an RGB image, (1, H, W) of a mask (L): float32 in [0, 1]."""
    values_HWC = np.asarray(image, dtype=np.float32).reshape(image.height, image.width, -1) / 255
    return torch.from_numpy(values_HWC).permute(2, 0, 1).contiguous()


def from_tensor(image: torch.Tensor) -> Image.Image:
    """The inverse: (3, H, W) or (1, H, W) in [0, 1] to 8 bit."""
    array = (image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))


CENTER = (0.5, 0.5)
CUT = 0.2  # the share of an image from which on its crop is worth a word


@dataclass(frozen=True)
class Fitted:
    """How a shot goes into the model: the size in pixels, the place of the crop (0 to 1 each way), mirrored or not."""

    image_sample: ImageSample
    spec: BucketSpec
    pair: int | None
    width: int
    height: int
    place: tuple[float, float] = CENTER
    flip: bool = False
    crop: Crop = Crop.CENTER


def _place(spec: BucketSpec, seed: int, *names: str) -> tuple[float, float]:
    """Where a random crop lies: the same for both images of a pair, and in every run."""
    if spec.crop is not Crop.RANDOM:
        return CENTER
    digest = hashlib.sha256("\n".join((str(seed), *sorted(names))).encode()).digest()
    return digest[0] / 255, digest[1] / 255


def fittings(dataset: Dataset, resolution: int, step: int) -> list[Fitted]:
    """Every shot of a dataset as it will be encoded: pairs first, in order, then the shots that have no partner."""
    spec_of = {id(image_sample): bucket.spec for bucket in dataset.buckets for image_sample in bucket.image_samples}
    groups = [(number, list(pair)) for number, pair in enumerate(dataset.pairs)]
    paired = {id(image_sample) for _, pair in groups for image_sample in pair}
    alone = [image_sample for image_sample in dataset.image_samples if id(image_sample) not in paired]
    together = dataset.spec.pairing is Pairing.RANDOM  # whoever may meet must be of one size
    one = common_ratio([s.ratio for s in alone if s.strength]) if together else None
    groups += [(None, [image_sample]) for image_sample in alone]
    found = []
    for number, image_samples in groups:
        spec = spec_of[id(image_samples[0])]
        ratio = one if one is not None and image_samples[0].strength else common_ratio([s.ratio for s in image_samples])
        width, height = nearest_size(ratio, spec.resolution or resolution, step, exact=spec.crop is Crop.NONE)
        place = _place(spec, dataset.spec.seed, *(s.digest for s in image_samples))
        found += [Fitted(s, spec_of[id(s)], number, width, height, place, crop=spec.crop) for s in image_samples]
    return found + _mirrored(found, len(dataset.pairs)) if dataset.spec.flip else found


def _mirrored(fitted: Sequence[Fitted], pairs: int) -> list[Fitted]:
    """The same once more, seen in a mirror; pairs stay pairs."""
    return [replace(f, pair=None if f.pair is None else f.pair + pairs, flip=True) for f in fitted]


def load(fitted: Fitted, spec: DatasetSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(image (3, H, W) or clip (T, 3, H, W) in [0, 1], mask (1, H, W) or None) at the fitted size."""
    image_sample = fitted.image_sample
    if image_sample.pixels is not None:
        image = _fit_picture(from_tensor(image_sample.pixels), fitted)
        mask = None if image_sample.mask is None else _fit_picture(from_tensor(image_sample.mask), fitted)
    elif image_sample.is_clip:
        frames = load_clip(image_sample.path, spec.frames, spec.rgb)
        image, mask = torch.stack([_fit_picture(frame, fitted) for frame in frames]), None
        image = image if spec.frames > 1 else image[0]
    else:
        picture, alpha = load_picture(image_sample.path, spec.rgb)
        image = _fit_picture(picture, fitted)
        mask = _fit_picture(alpha, fitted) if alpha is not None and spec.alpha is Alpha.MASK else None
    if fitted.flip:
        image, mask = image.flip(-1), None if mask is None else mask.flip(-1)
    return image, mask


def _fit_picture(picture: Image.Image, fitted: Fitted) -> torch.Tensor:
    return to_tensor(fit(picture, fitted.width, fitted.height, fitted.crop, fitted.place))


def sizes_report(fitted: Sequence[Fitted]) -> list[str]:
    """The sizes of a dataset in words, and whose crop loses much."""
    count = Counter(f"{f.width} x {f.height}" for f in fitted if not f.flip)
    lines = ["Sizes: " + ", ".join(f"{size} ({number})" for size, number in count.most_common()) + "."]
    lost = [(cut_share(f.image_sample.ratio, (f.width, f.height)), f.image_sample.path.name) for f in fitted if not f.flip]
    much = sorted((entry for entry in lost if entry[0] > CUT), reverse=True)
    if much:
        names = ", ".join(f"{name} ({share:.0%})" for share, name in much[:3])
        lines.append(f"The crop loses more than {CUT:.0%} of {len(much)} images: {names}{', ...' if len(much) > 3 else ''}.")
    return lines
