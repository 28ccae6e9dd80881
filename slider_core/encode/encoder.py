"""Encodes each image and each distinct caption once: images become samples that a step can use.

Every image is fitted to the aspect-ratio bucket that is nearest to its shape (data/fitting.py). What was encoded before, by the
same encoders, comes from the disk (disk_cache.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count
from typing import Any

import torch

from ..backend import Backend, Conditioning
from ..config.checks import need
from ..config.hosts import set_pairing
from ..data.bucket_spec import DatasetSpec, Pairing, Reference
from ..data.dataset import Dataset, OnImage
from ..data.fitting import Fitted, Pixels, decode, fittings
from .alignment import line_up
from .disk_cache import DiskCache

NEARLY = 1e-6  # strengths that are so near are the same
Encoded = tuple[torch.Tensor, torch.Tensor | None]  # latent, mask at the latent's size; float32 on the CPU


@dataclass(frozen=True)
class PromptPair:
    """What a text slider asks for on a latent, instead of an image that is shown: see text_latents.py."""

    positive: Conditioning
    negative: Conditioning
    guidance: float
    weight: float


@dataclass(frozen=True)
class Sample:
    """An encoded image, or a latent with the prompts of a text slider (`prompt_pair`).

    `pair` numbers the pair it belongs to (the same for its partner), None for an image without one.

    `other_conds`: further captions of the image; a step draws one of all (objective/batch_plan.py). `bucket` names the bucket
    that it comes from, which has its turn with a `probability` and shows each image 1 + `repeats` times an epoch. `mask`
    (1, H, W) weighs the latent's places in the loss; None: all alike. `aligned`: whether it and its partner show the same but
    for the concept.
    `referenced`: its conditionings hold the image that an edit model is to edit. `swapped_conds`: its partner's captions with
    that image, for what is asked of this sample at its partner's noised latent; empty where those are the partner's own.
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
    prompt_pair: PromptPair | None = None
    other_conds: tuple[Conditioning, ...] = ()
    referenced: bool = False
    swapped_conds: tuple[Conditioning, ...] = ()

    @property
    def side(self) -> int:
        """1, -1, or 0 for a neutral image. An image at 0 that belongs to a pair is what a side of it begins from."""
        if self.strength == 0 and self.pair is not None:
            return -1
        return (self.strength > 0) - (self.strength < 0)


class Encoder:
    """A backend's encoders with the cache on disk behind them."""

    def __init__(self, backend: Backend, disk: DiskCache | None = None) -> None:
        self.backend = backend
        self.disk = disk
        self.image_mark, self.text_mark = backend.encoder_fingerprints()
        self._conds: dict[str, Conditioning] = {}

    def images(self, fitted: Sequence[Fitted], spec: DatasetSpec, on_image: Callable[[], None] | None = None) -> list[Encoded]:
        """Each image as it is fitted. One that is shown more than once, mirrored or with other partners, is decoded once."""
        places = defaultdict(list)
        for place, one in enumerate(fitted):
            places[id(one.image_sample)].append(place)
        encoded: dict[int, Encoded] = {}
        for same in places.values():
            pixels = cache(partial(decode, fitted[same[0]].image_sample, spec))
            for place in same:
                encoded[place] = self._image(fitted[place], spec, pixels)
                if on_image:
                    on_image()
        return [encoded[place] for place in range(len(fitted))]

    def _image(self, fitted: Fitted, spec: DatasetSpec, pixels: Callable[[], Pixels]) -> Encoded:
        """One image from the disk, or encoded; `pixels` is asked only then."""

        def encode() -> list[torch.Tensor | None]:
            image, mask = pixels().fitted(fitted)
            latent = self.backend.encode_images(image[None])[0].float().cpu().clone()
            if mask is not None:
                mask = torch.nn.functional.interpolate(mask[None], latent.shape[-2:], mode="area")[0].clone()
            return [latent, mask]

        at = f"{fitted.width}x{fitted.height} {fitted.place} {fitted.crop.value} {fitted.flip}"
        look = f"{spec.background} {spec.alpha.value} {spec.frames}"
        made_of = ("image", self.image_mark, fitted.image_sample.content, at, look)
        latent, mask = self.kept(made_of, encode, _is_encoded)
        return latent, mask

    def conditioning(self, text: str) -> Conditioning:
        """A caption's encoding, once per text."""
        if text not in self._conds:
            value = self.kept(("text", self.text_mark, text), lambda: self.backend.encode_prompt(text).value)
            self._conds[text] = Conditioning(text, value)
        return self._conds[text]

    def kept(self, made_of: Sequence[str], make: Callable[[], Any], sound: Callable[[Any], bool] = lambda _value: True) -> Any:
        """What `make` gives, or what it gave before for the same texts, where that lies on disk and is `sound`."""
        if self.disk is None:
            return make()
        key = self.disk.key(*made_of)
        value = self.disk.get(key)
        if value is None or not sound(value):
            value = make()
            self.disk.put(key, value)
        return value


def _is_encoded(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], torch.Tensor)


def encode(
    dataset: Dataset,
    backend: Backend,
    resolution: int | None = None,
    disk: DiskCache | None = None,
    on_image: OnImage | None = None,
) -> list[Sample]:
    """Encode a dataset with `backend`, at its own resolution unless one is given. Gradients are never recorded here."""
    dataset.need_equal_sides()
    encoder = Encoder(backend, disk)
    fitted = fittings(dataset, resolution or backend.resolution, backend.image_step)
    done = count(1)

    def step() -> None:
        if on_image:
            on_image(next(done), len(fitted))

    samples = []
    with torch.no_grad():
        for one, (latent, mask) in zip(fitted, encoder.images(fitted, dataset.spec, step), strict=True):
            cond, *others = [encoder.conditioning(caption) for caption in one.image_sample.captions]
            bucket = f"{one.spec.title} {one.spec.folder}"
            turns = (one.spec.probability, one.spec.repeats)
            sample = Sample(latent, cond, one.image_sample.strength, one.pair, bucket, *turns, mask)
            samples.append(replace(sample, other_conds=tuple(others)))
    return _with_references(_with_alignment(samples, dataset.spec.pairing), dataset.spec.reference, backend)


def _with_references(samples: list[Sample], which: Reference, backend: Backend) -> list[Sample]:
    """Each image with the one of its pair that an edit model is to edit, a neutral one with itself. SliderError without pairs."""
    if which is Reference.NONE:
        return samples
    pairs = {pair[0].pair: pair for pair in pairs_of(samples)}
    alone = sum(sample.side != 0 and sample.pair is None for sample in samples)
    message = f"A reference is an image of the same pair, and {alone} images are in none: {set_pairing('name or order')}."
    need(not alone, message, "reference.no_pairs")
    result = []
    for sample in samples:
        latent, partner = sample.latent, None
        if sample.pair is not None:
            positive, negative = pairs[sample.pair]
            partner = positive if sample is negative else negative
            latent = negative.latent
            if which is Reference.OTHER and sample is negative:
                latent = positive.latent
        result.append(referenced(sample, latent, backend, partner))
    return result


def referenced(sample: Sample, latent: torch.Tensor, backend: Backend, partner: Sample | None = None) -> Sample:
    """The sample whose model is shown `latent` (C, ...) as the image to edit, also where its partner is noised in its place: else
    the model would be shown there what the partner's reference is, which may be the image to arrive at."""
    cond, *others = [backend.with_reference(one, latent) for one in (sample.cond, *sample.other_conds)]
    captions = (partner.cond, *partner.other_conds) if partner else ()
    swapped = tuple(backend.with_reference(one, latent) for one in captions)
    return replace(sample, cond=cond, other_conds=tuple(others), referenced=True, swapped_conds=swapped)


def pairs_of(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    """Positive and negative of each pair, in the order of the pairs' numbers."""
    pairs: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.pair is not None:
            pairs[sample.pair].append(sample)
    return [tuple(sorted(pairs[number], key=lambda sample: -sample.strength)) for number in sorted(pairs)]


def widest_pairs(samples: Sequence[Sample]) -> list[tuple[Sample, ...]]:
    """Of whole pairs those whose strengths lie farthest apart: the ends of a concept, of which others show stages."""
    pairs = [pair for pair in pairs_of(samples) if len(pair) == 2]
    spans = [pair[0].strength - pair[1].strength for pair in pairs]
    return [pair for pair, span in zip(pairs, spans, strict=True) if span > max(spans) - NEARLY]


def _with_alignment(samples: list[Sample], pairing: Pairing) -> list[Sample]:
    """The samples, and whether their pairs line up: as the pairing says, else as their latents look."""
    pairs = pairs_of(samples)
    aligned = bool(pairs) and pairing in (Pairing.NAME, Pairing.ORDER)
    if pairs and not aligned:
        aligned = line_up([pair[0].latent for pair in pairs], [pair[1].latent for pair in pairs])
    return [replace(sample, aligned=sample.pair is not None and aligned) for sample in samples]
