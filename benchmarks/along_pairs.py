"""What two sliders on one model do to each other, read along the direction in which the images of one of them differ.

All pictures are drawn from the same noise: without a slider (0), with A, with B, with both. Along d, the mean difference of A's
pairs, a set of pictures x lies at <x, d> / <d, d>: 1 is the whole gap between A's positive and its negative images.

    alone = [A] - [0]        under = [A and B] - [B]        by_other = [B] - [0]

Latents or pixels alike. A direction in a fixed frame means something where what A changes lies at one place in all pictures.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from slider_core.config.checks import SliderError, need
from slider_core.encode.encoder import Sample, pairs_of

TOO_LITTLE = 1e-3  # of the gap: an effect that no share can be taken of


def pair_gap(samples: Sequence[Sample]) -> torch.Tensor:
    """The mean difference (C, H, W) of a dataset's pairs, positive less negative. SliderError without pairs of one size."""
    pairs = [pair for pair in pairs_of(samples) if len(pair) == 2]
    need(bool(pairs), "The direction of a slider needs pairs of images, and the dataset has none.", "interference.no_pairs")
    shapes = {sample.latent.shape for pair in pairs for sample in pair}
    need(
        len(shapes) == 1, "The direction of a slider needs pairs of one size: set one size for the dataset.", "interference.sizes"
    )
    return torch.stack([positive.latent - negative.latent for positive, negative in pairs]).float().mean(dim=0)


@dataclass(frozen=True)
class Interference:
    """In gaps of A's pairs, means over pictures: what A does `alone`, what it does `under` B, what B does there `by_other`."""

    alone: float
    under: float
    by_other: float

    @property
    def change(self) -> float:
        """How much B changes A's effect, as a share of it; NaN where A alone does next to nothing."""
        return self.under / self.alone - 1 if abs(self.alone) > TOO_LITTLE else math.nan

    def summary(self, a: str = "A", b: str = "B") -> str:
        """One line for the user."""
        if math.isnan(self.change):
            return f"{a} alone moves nothing along its pairs, so what {b} does to it cannot be told."
        shifted = f"{b} by itself moves {self.by_other:+.2f} of {a}'s gap"
        return f"With {b} on, {a} moves {1 + self.change:.0%} of what it moves alone; {shifted}."


def interference(
    none_N: torch.Tensor, a_N: torch.Tensor, b_N: torch.Tensor, both_N: torch.Tensor, direction: torch.Tensor
) -> Interference:
    """From pictures (N, ...) of the same noises, and `direction` of one picture's shape. SliderError when shapes differ."""
    sets = (none_N, a_N, b_N, both_N)
    if any(x.shape != none_N.shape for x in sets) or none_N.shape[1:] != direction.shape or not len(none_N):
        message = f"Interference needs four sets of equal pictures of the direction's shape {tuple(direction.shape)}."
        raise SliderError(message, "interference.shapes")
    d = direction.double().flatten()
    size = float(d @ d)
    need(size > 0, "The pairs do not differ: there is no direction to read along.", "interference.no_direction")
    none, a, b, both = (float((x.double().flatten(1) @ d).mean()) / size for x in sets)
    return Interference(a - none, both - b, b - none)
