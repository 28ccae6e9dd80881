"""What of a dataset has changed, for a training that cannot go on with another one: hashes of its parts in its record."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from .dataset import Dataset

PREFIX = "dataset."  # of their keys in what a run was begun with
ALSO_WHERE_IMAGES_DIFFER = ("captions", "strengths")  # as far as they say more than that there are other images
OF_THE_SAME_IMAGES = {"captioned": "captions", "placed": "sides or strengths", "options": "options"}


def is_part(key: str) -> bool:
    """Whether it is the key of such a hash, which no file's header has."""
    return key.startswith(PREFIX)


def parts_of(dataset: Dataset) -> dict[str, str]:
    """Hashes by key: of the images, the captions that there are and whose they are, the strengths likewise, the options."""
    samples = dataset.image_samples
    plain = [replace(bucket.spec, folder="", strength=0.0, caption=None, trigger="", name="") for bucket in dataset.buckets]
    parts = {
        "images": (sample.content for sample in samples),
        "captions": {caption for sample in samples for caption in sample.captions},
        "captioned": (sample.digest for sample in samples),
        "strengths": {f"{sample.strength:g}" for sample in samples},
        "placed": (f"{sample.content} {sample.strength:g}" for sample in samples),
        "options": [*{spec.to_json() for spec in plain}, dataset.spec.to_json()],
    }
    return {f"{PREFIX}{name}": _hash(values) for name, values in parts.items()}


def _hash(values: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(values)).encode()).hexdigest()[:16]


def changed_parts(was: Mapping[str, str], now: Mapping[str, str]) -> str:
    """What differs between two datasets, in words; empty where their records do not say."""

    def differs(name: str) -> bool:
        before, after = was.get(f"{PREFIX}{name}"), now.get(f"{PREFIX}{name}")
        return None not in (before, after) and before != after

    if differs("images"):
        names = ["images", *filter(differs, ALSO_WHERE_IMAGES_DIFFER)]
    else:
        names = [word for name, word in OF_THE_SAME_IMAGES.items() if differs(name)]
    return f"other {' and '.join(names)}" if names else ""
