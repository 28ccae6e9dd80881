"""One optimizer step's samples, and the parts in which they may be computed one after another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..encode.encoder import Sample


@dataclass(frozen=True)
class Batch:
    """One optimizer step's samples. Samples with the same number in `noise` share noise and timestep."""

    step: int
    samples: tuple[Sample, ...]
    strengths: tuple[float, ...]
    noise: tuple[int, ...]
    neutral: bool
    aligned: bool = False  # whole pairs that line up: the first half of the samples are the positives, in the same order
    draws: int = 0  # numbers in `noise` over all parts of the step; 0: those of this batch
    familiar: bool = True  # whether the model still knows its pictures when they are moved (train/moved_pairs.py)
    text_slider: bool = False  # the same latents at plus, then at minus: prompts give the targets


def batch_parts(batch: Batch, count: int) -> tuple[Batch, ...]:
    """The batch in `count` equal parts, pairs whole, each with the noise that it has in the whole."""
    units = max(batch.noise) + 1
    parts = []
    for number in range(count):
        units_here = range(units * number // count, units * (number + 1) // count)
        rows = [row for row, unit in enumerate(batch.noise) if unit in units_here]
        part = replace(
            batch,
            samples=tuple(batch.samples[row] for row in rows),
            strengths=tuple(batch.strengths[row] for row in rows),
            noise=tuple(batch.noise[row] for row in rows),
            draws=units,
        )
        parts.append(part)
    return tuple(parts)
