"""The world is measurable: what the renderer draws, the measure reads back."""

import math

import pytest
import torch
from core.faults import refused

from slider_core.with_tiny.faces import CLASSES, CONTINUOUS, Face, measure, mouth_place, render, sample_faces
from slider_core.with_tiny.faces_pairs import make_pairs

UNSEEN_SEED, COUNT = 4242, 150
WORST_MEAN_ERROR = {"mouth": 0.04, "eyes": 0.08, "size": 0.01, "x": 0.01, "y": 0.01}  # of a range of 2


@pytest.fixture(scope="module")
def unseen() -> tuple[list[Face], list]:
    faces = sample_faces(COUNT, torch.Generator().manual_seed(UNSEEN_SEED))
    return faces, measure(render(faces))


def test_measure_reads_unseen_renders_back(unseen: tuple) -> None:
    faces, read = unseen
    for attribute, most in WORST_MEAN_ERROR.items():
        error = sum(abs(getattr(f, attribute) - getattr(m, attribute)) for f, m in zip(faces, read, strict=True)) / COUNT
        assert error < most, (attribute, error)
    for kind in CLASSES:
        assert [getattr(f, kind) for f in faces] == [getattr(m, kind) for m in read]


def test_measure_extrapolates_beyond_the_training_range() -> None:
    read = measure(render([Face(mouth=-1.6), Face(mouth=1.6), Face(eyes=1.5)]))
    assert read[0].mouth < -1.4
    assert read[1].mouth > 1.4
    assert read[2].eyes > 1.3


def test_mouths_lie_where_a_mouth_can_be() -> None:
    smile, frown = (Face(mouth=mouth, size=0.5, x=-0.7, y=0.4) for mouth in (1.0, -1.0))
    differs = (render([smile]) != render([frown]))[0].any(dim=0)
    assert differs.sum() > 50
    assert not (differs & ~mouth_place(smile)).any()


def test_measure_says_nan_where_there_is_nothing_to_measure() -> None:
    (read,) = measure(torch.full((1, 3, 64, 64), 0.5))
    assert math.isnan(read.mouth)
    assert math.isnan(read.size)


def test_measure_refuses_another_shape() -> None:
    with refused("faces.shape", (1, 3, 32, 32)):
        measure(torch.zeros(1, 3, 32, 32))


def test_captions_name_skin_and_background_only() -> None:
    assert Face(mouth=1, eyes=-1).caption == Face(mouth=-1, size=1).caption == "a face with light skin on a blue background"


def test_aligned_pairs_differ_in_their_attribute_alone() -> None:
    for attribute in (*CONTINUOUS, *CLASSES):
        for positive, negative in make_pairs(attribute, 4, seed=1):
            assert {k for k in vars(positive) if vars(positive)[k] != vars(negative)[k]} == {attribute}
            if attribute in CONTINUOUS:
                assert getattr(positive, attribute) > 0 > getattr(negative, attribute)


def test_unpaired_faces_share_nothing() -> None:
    assert all(p.x != n.x and p.size != n.size for p, n in make_pairs("mouth", 5, seed=1, unpaired=True))


def test_an_unknown_attribute_names_the_nearest() -> None:
    with refused("faces.attribute", "mouht", '"mouth"'):
        make_pairs("mouht", 1, seed=0)
