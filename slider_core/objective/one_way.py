"""A slider of one side: at 0 the negative images, which are what the base model is, at +1 the positive ones.

Its pairs stand at 0 and +s in place of -s and +s, so the displacement from the negative image is asked for whole (formulas.py),
and nothing is asked of strengths below 0. For concepts whose opposite is no mirror: age, damage, rain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..config.checks import need
from ..config.hosts import advice, set_pairing
from ..config.training import Sides
from ..encode.encoder import Sample


def on_sides(samples: Sequence[Sample], sides: Sides) -> list[Sample]:
    """The samples at the strengths that they are trained at. SliderError where a one-way slider cannot be learned from them."""
    if sides is Sides.BOTH:
        return list(samples)
    apart = [sample for sample in samples if sample.side and (sample.pair is None or not sample.aligned)]
    message = (
        f"A one-way slider needs pairs that line up, and {len(apart)} images have no such partner: add it, "
        f"{set_pairing('name or order')}, or {advice('set sides to both in Slider Train Options', 'give --sides both')}."
    )
    need(not apart, message, "one_way.no_pairs")
    return [replace(sample, strength=max(0.0, sample.strength)) for sample in samples]


def is_one_way(samples: Sequence[Sample]) -> bool:
    """Whether nothing is trained below 0."""
    return bool(samples) and all(sample.strength >= 0 for sample in samples)
