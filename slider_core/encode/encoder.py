"""Encodes each image and each distinct caption once: shots become samples that a step can use.

Every image is fitted to the aspect-ratio bucket that is nearest to its shape (sizes.py), both images of a pair to the same one
and cut at the same place, so that nothing is distorted and a pair stays aligned. What was encoded before, by the same encoders,
comes from the disk (disk_cache.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ..backend import Backend, Conditioning
from ..config.checks import SliderError
from ..data.bucket_spec import DatasetSpec, Pairing
from ..data.dataset import Dataset, OnImage
from ..data.fitting import Fitted, fittings, load
from .alignment import line_up
from .disk_cache import DiskCache


@dataclass(frozen=True)
class PromptPair:
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
    prompt_pair: PromptPair | None = None


class Encoder:
    """A backend's encoders with the cache on disk behind them. `encoded` counts what was really encoded."""

    def __init__(self, backend: Backend, disk: DiskCache | None = None) -> None:
        self.backend, self.disk, self.encoded = backend, disk, 0
        self.image_mark, self.text_mark = backend.encoder_fingerprints()
        self._conds: dict[str, Conditioning] = {}

    def latent(self, fitted: Fitted, spec: DatasetSpec) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(latent, mask at the latent's size) of a shot, float32 on the CPU."""
        at = f"{fitted.width}x{fitted.height} {fitted.place} {fitted.crop.value} {fitted.flip}"
        look = f"{spec.background} {spec.alpha.value} {spec.frames}"
        key = self.disk.key("image", self.image_mark, fitted.image_sample.content, at, look) if self.disk else ""
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
            cond, spec = encoder.conditioning(fitted.image_sample.caption), fitted.spec
            name = f"{spec.title} {spec.folder}"
            samples.append(
                Sample(latent, cond, fitted.image_sample.strength, fitted.pair, name, spec.probability, spec.repeats, mask)
            )
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
