"""Encodes each image and each distinct caption once: shots become samples that a step can use.

Every image is fitted to the aspect-ratio bucket that is nearest to its shape (sizes.py), both images of a pair to the same one
and cut at the same place, so that nothing is distorted and a pair stays aligned. What was encoded before, by the same encoders,
comes from the disk (disk_cache.py).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image

from .alignment import line_up
from .backend import Backend, Conditioning
from .config import SliderError
from .dataset import Dataset, OnImage, Shot
from .dataset_spec import Alpha, BucketSpec, Crop, DatasetSpec, Pairing
from .disk_cache import DiskCache
from .pictures import fit, from_tensor, load_clip, load_picture, to_tensor
from .sizes import common_ratio, cut_share, nearest_size

CENTER = (0.5, 0.5)
CUT = 0.2  # the share of an image from which on its crop is worth a word


@dataclass(frozen=True)
class Asks:
    """What words ask of a slider on a latent, instead of an image that is shown: see words.py."""

    positive: Conditioning
    negative: Conditioning
    guidance: float
    weight: float


@dataclass(frozen=True)
class Sample:
    """An encoded shot, or a latent that words are asked about (`asks`).

    `pair` numbers the pair it belongs to (the same for its partner), None for an image without one.

    `bucket` names the bucket that it comes from, which has its turn with a `probability` and shows each image 1 + `repeats`
    times an epoch. `mask` (1, H, W) weighs the latent's places in the loss; None: all alike. `aligned`: whether it and its
    partner show the same but for the concept.
    """

    latent: torch.Tensor  # (C, H, W) or (C, T, H, W), float32, CPU
    cond: Conditioning
    strength: float
    pair: int | None
    bucket: str = ""
    probability: float = 1.0
    repeats: int = 0
    mask: torch.Tensor | None = None
    aligned: bool = True
    asks: Asks | None = None


@dataclass(frozen=True)
class Fitted:
    """How a shot goes into the model: the size in pixels, the place of the crop (0 to 1 each way), mirrored or not."""

    shot: Shot
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
    spec_of = {id(shot): bucket.spec for bucket in dataset.buckets for shot in bucket.shots}
    groups = [(number, list(pair)) for number, pair in enumerate(dataset.pairs)]
    paired = {id(shot) for _, pair in groups for shot in pair}
    alone = [shot for shot in dataset.shots if id(shot) not in paired]
    together = dataset.spec.pairing is Pairing.RANDOM  # whoever may meet must be of one size
    one = common_ratio([s.ratio for s in alone if s.strength]) if together else None
    groups += [(None, [shot]) for shot in alone]
    found = []
    for number, shots in groups:
        spec = spec_of[id(shots[0])]
        ratio = one if one is not None and shots[0].strength else common_ratio([s.ratio for s in shots])
        width, height = nearest_size(ratio, spec.resolution or resolution, step, exact=spec.crop is Crop.NONE)
        place = _place(spec, dataset.spec.seed, *(s.digest for s in shots))
        found += [Fitted(s, spec_of[id(s)], number, width, height, place, crop=spec.crop) for s in shots]
    return found + _mirrored(found, len(dataset.pairs)) if dataset.spec.flip else found


def _mirrored(fitted: Sequence[Fitted], pairs: int) -> list[Fitted]:
    """The same once more, seen in a mirror; pairs stay pairs."""
    return [replace(f, pair=None if f.pair is None else f.pair + pairs, flip=True) for f in fitted]


def load(fitted: Fitted, spec: DatasetSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
    """(image (3, H, W) or clip (T, 3, H, W) in [0, 1], mask (1, H, W) or None) at the fitted size."""
    shot = fitted.shot
    if shot.pixels is not None:
        image = _fit_picture(from_tensor(shot.pixels), fitted)
        mask = None if shot.mask is None else _fit_picture(from_tensor(shot.mask), fitted)
    elif shot.is_clip:
        frames = load_clip(shot.path, spec.frames, spec.rgb)
        image, mask = torch.stack([_fit_picture(frame, fitted) for frame in frames]), None
        image = image if spec.frames > 1 else image[0]
    else:
        picture, alpha = load_picture(shot.path, spec.rgb)
        image = _fit_picture(picture, fitted)
        mask = _fit_picture(alpha, fitted) if alpha is not None and spec.alpha is Alpha.MASK else None
    if fitted.flip:
        image, mask = image.flip(-1), None if mask is None else mask.flip(-1)
    return image, mask


def _fit_picture(picture: Image.Image, fitted: Fitted) -> torch.Tensor:
    return to_tensor(fit(picture, fitted.width, fitted.height, fitted.crop, fitted.place))


class Encoder:
    """A backend's encoders with the cache on disk behind them. `encoded` counts what was really encoded."""

    def __init__(self, backend: Backend, disk: DiskCache | None = None) -> None:
        self.backend, self.disk, self.encoded = backend, disk, 0
        self.image_mark, self.text_mark = backend.encoder_marks()
        self._conds: dict[str, Conditioning] = {}

    def latent(self, fitted: Fitted, spec: DatasetSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(latent, mask at the latent's size) of a shot, float32 on the CPU."""
        at = f"{fitted.width}x{fitted.height} {fitted.place} {fitted.crop.value} {fitted.flip}"
        look = f"{spec.background} {spec.alpha.value} {spec.frames}"
        key = self.disk.key("image", self.image_mark, fitted.shot.content, at, look) if self.disk else ""
        found = self.disk.get(key) if self.disk else None
        if isinstance(found, list) and len(found) == 2 and isinstance(found[0], torch.Tensor):
            return found[0], found[1]
        image, mask = load(fitted, spec)
        latent = self.backend.encode_images(image[None])[0].float().cpu().clone()
        if mask is not None:
            mask = torch.nn.functional.interpolate(mask[None], latent.shape[-2:], mode="area")[0].clone()
        self.encoded += 1
        if self.disk:
            self.disk.put(key, [latent, mask])
        return latent, mask

    def conditioning(self, text: str) -> Conditioning:
        """A caption's encoding, once per text."""
        if text not in self._conds:
            key = self.disk.key("text", self.text_mark, text) if self.disk else ""
            value = self.disk.get(key) if self.disk else None
            if value is None:
                self._conds[text] = self.backend.encode_prompt(text)
                self.encoded += 1
                if self.disk:
                    self.disk.put(key, self._conds[text].value)
            else:
                self._conds[text] = Conditioning(text, self.backend.prompt_to_device(value))
        return self._conds[text]


def encode(
    dataset: Dataset,
    backend: Backend,
    resolution: int | None = None,
    disk: DiskCache | None = None,
    on_image: OnImage | None = None,
) -> list[Sample]:
    """Encode a dataset with `backend`, at its own resolution unless one is given. Gradients are never recorded here."""
    if dataset.trouble:
        raise SliderError(dataset.trouble)
    encoder, samples = Encoder(backend, disk), []
    wanted = fittings(dataset, resolution or backend.resolution, backend.image_step)
    with torch.no_grad():
        for number, fitted in enumerate(wanted):
            latent, mask = encoder.latent(fitted, dataset.spec)
            cond, spec = encoder.conditioning(fitted.shot.caption), fitted.spec
            name = f"{spec.title} {spec.folder}"
            samples.append(Sample(latent, cond, fitted.shot.strength, fitted.pair, name, spec.probability, spec.repeats, mask))
            if on_image:
                on_image(number + 1, len(wanted))
    return _looked_at(samples, dataset.spec.pairing)


def pairs_of(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    """Positive and negative of each pair, in the order of the pairs' numbers."""
    pairs: dict[int, list[Sample]] = {}
    for sample in samples:
        if sample.pair is not None:
            pairs.setdefault(sample.pair, []).append(sample)
    return [tuple(sorted(pairs[n], key=lambda s: -s.strength)) for n in sorted(pairs)]


def _looked_at(samples: list[Sample], pairing: Pairing) -> list[Sample]:
    """The samples, their pairs examined for whether they line up. Who says how images pair says that they do."""
    sides = list(zip(*pairs_of(samples), strict=True))  # the positives, the negatives; nothing without pairs
    told = pairing in (Pairing.NAME, Pairing.ORDER)
    aligned = bool(sides) and (told or line_up(*([s.latent for s in side] for side in sides)))
    return [replace(s, aligned=s.pair is not None and aligned) for s in samples]


def sizes_report(fitted: Sequence[Fitted]) -> list[str]:
    """The sizes of a dataset in words, and whose crop loses much."""
    count = Counter(f"{f.width} x {f.height}" for f in fitted if not f.flip)
    lines = ["Sizes: " + ", ".join(f"{size} ({number})" for size, number in count.most_common()) + "."]
    lost = [(cut_share(f.shot.ratio, (f.width, f.height)), f.shot.path.name) for f in fitted if not f.flip]
    much = sorted((entry for entry in lost if entry[0] > CUT), reverse=True)
    if much:
        names = ", ".join(f"{name} ({share:.0%})" for share, name in much[:3])
        lines.append(f"The crop loses more than {CUT:.0%} of {len(much)} images: {names}{', ...' if len(much) > 3 else ''}.")
    return lines
