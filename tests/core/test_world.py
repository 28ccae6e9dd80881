"""The world is measurable: what the renderer draws, the measure reads back."""

import math

import pytest
import torch

from slider_core.config.checks import SliderError
from slider_core.with_tiny.faces import CLASSES, CONTINUOUS, Face, measure, render, sample_faces
from slider_core.with_tiny.faces_pairs import make_pairs

UNSEEN_SEED, COUNT = 4242, 300
WORST_MEAN_ERROR = {"mouth": 0.04, "eyes": 0.08, "size": 0.01, "x": 0.01, "y": 0.01}  # of a range of 2


@pytest.fixture(scope="module")
def unseen() -> tuple[list[Face], list]:
    faces = sample_faces(COUNT, torch.Generator().manual_seed(UNSEEN_SEED))
    return faces, measure(render(faces))


@pytest.mark.parametrize("attribute", CONTINUOUS)
def test_measure_reads_unseen_renders_back(attribute: str, unseen: tuple) -> None:
    faces, read = unseen
    error = sum(abs(getattr(f, attribute) - getattr(m, attribute)) for f, m in zip(faces, read, strict=True)) / COUNT
    print(f"measure error on {COUNT} unseen renders: {attribute} {error:.4f}")  # noqa: T201 (shown with -rP)
    assert error < WORST_MEAN_ERROR[attribute]


@pytest.mark.parametrize("kind", CLASSES)
def test_measure_reads_every_class_of_unseen_renders(kind: str, unseen: tuple) -> None:
    faces, read = unseen
    assert [getattr(f, kind) for f in faces] == [getattr(m, kind) for m in read]


def test_measure_extrapolates_beyond_the_training_range() -> None:
    read = measure(render([Face(mouth=-1.6), Face(mouth=1.6), Face(eyes=1.5)]))
    assert read[0].mouth < -1.4
    assert read[1].mouth > 1.4
    assert read[2].eyes > 1.3


def test_measure_says_nan_where_there_is_nothing_to_measure() -> None:
    (read,) = measure(torch.full((1, 3, 64, 64), 0.5))
    assert math.isnan(read.mouth)
    assert math.isnan(read.size)


def test_measure_refuses_another_shape() -> None:
    with pytest.raises(SliderError, match=r"\(1, 3, 32, 32\)"):
        measure(torch.zeros(1, 3, 32, 32))


def test_captions_name_skin_and_background_only() -> None:
    assert Face(mouth=1, eyes=-1).caption == Face(mouth=-1, size=1).caption == "a face with light skin on a blue background"


@pytest.mark.parametrize("attribute", [*CONTINUOUS, *CLASSES])
def test_aligned_pairs_differ_in_their_attribute_alone(attribute: str) -> None:
    for positive, negative in make_pairs(attribute, 4, seed=1):
        changed = {k for k in vars(positive) if vars(positive)[k] != vars(negative)[k]}
        assert changed == {attribute}
        if attribute in CONTINUOUS:
            assert getattr(positive, attribute) > 0 > getattr(negative, attribute)


def test_unpaired_faces_share_nothing() -> None:
    assert all(p.x != n.x and p.size != n.size for p, n in make_pairs("mouth", 5, seed=1, unpaired=True))


def test_an_unknown_attribute_names_the_nearest() -> None:
    with pytest.raises(SliderError, match=r'"mouht".*did you mean "mouth"'):
        make_pairs("mouht", 1, seed=0)
