"""What two sliders do to each other, along the pairs of one. Oracle: pictures whose answer is put in by hand."""

import math
import sys
from pathlib import Path

import pytest
import torch
from core.faults import refused

from slider_core.backend import Conditioning
from slider_core.encode.encoder import Sample

PATH = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(PATH))
from along_pairs import interference, pair_gap  # noqa: E402

SHAPE = (4, 6, 6)


def pictures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(without a slider, A's direction, something at right angles to it)."""
    generator = torch.Generator().manual_seed(0)
    none, d, aside = (torch.randn(*shape, generator=generator) for shape in ((5, *SHAPE), SHAPE, SHAPE))
    return none, d, aside - d * float((aside * d).sum() / (d * d).sum())


def sample(latent: torch.Tensor, strength: float, pair: int | None) -> Sample:
    return Sample(latent, Conditioning("", None), strength, pair)


def test_the_figures_are_those_that_were_put_in() -> None:
    none, d, aside = pictures()
    found = interference(none, none + 0.8 * d + aside, none + 0.1 * d - 3 * aside, none + 0.7 * d + aside, d)
    assert (found.alone, found.under, found.by_other) == pytest.approx((0.8, 0.6, 0.1), abs=1e-5)
    assert found.change == pytest.approx(-0.25, abs=1e-5)
    assert "75%" in found.summary("smile", "age")
    assert "+0.10" in found.summary("smile", "age")


def test_the_direction_is_the_mean_difference_of_the_pairs() -> None:
    none, d, aside = pictures()
    samples = [sample(none[0], -1.0, 0), sample(none[0] + d + aside, 1.0, 0), sample(none[1] + d - aside, 1.0, 1)]
    samples += [sample(none[1], -1.0, 1), sample(none[2], 0.0, None)]
    torch.testing.assert_close(pair_gap(samples), d)


def test_a_slider_that_does_nothing_has_no_share() -> None:
    none, d, aside = pictures()
    found = interference(none, none + aside, none, none + aside, d)
    assert math.isnan(found.change)
    assert "cannot be told" in found.summary()


def test_what_cannot_be_compared_is_an_error() -> None:
    none, d, _ = pictures()
    for other, direction in ((none[1:], d), (none, d[1:])):
        with refused("interference.shapes"):
            interference(none, other, none, none, direction)
    with refused("interference.no_direction"):
        interference(none, none, none, none, d * 0)
    with refused("interference.no_pairs"):
        pair_gap([sample(d, 1.0, None)])
    with refused("interference.sizes"):
        pair_gap([sample(d, 1.0, 0), sample(d, -1.0, 0), sample(d[:, 1:], 1.0, 1), sample(d[:, 1:], -1.0, 1)])
