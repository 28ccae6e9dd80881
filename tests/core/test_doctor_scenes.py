"""The pair doctor on simple scenes, as a newcomer draws them; `benchmarks/doctor_scenes.py` does the same on many."""

import random

import pytest
import torch
from core.test_pair_doctor import kinds, pair, swapped, tensor
from PIL import Image, ImageDraw

from slider_core.data.pair_check import PairImages, check
from slider_core.data.pair_diagnosis import Kind
from slider_core.data.pair_doctor import examine

SIDE = 256
PLACES = ((90, 150), (160, 100), (128, 128), (110, 170), (170, 160))
COLOURS = ((200, 40, 40), (40, 90, 200), (30, 150, 60), (230, 180, 30), (150, 60, 170))
WALLS = ((210, 220, 230), (240, 230, 200), (180, 170, 160), (60, 60, 80), (220, 240, 220))


def room(wall: tuple[int, int, int]) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (SIDE, SIDE), wall)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 200, SIDE, SIDE), tuple(int(0.75 * part) for part in wall))
    return picture, draw


def ball(number: int, more: bool) -> Image.Image:
    """A ball of its own colour, large or small."""
    picture, draw = room(WALLS[number])
    (x, y), radius = PLACES[number], 60 if more else 22
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), COLOURS[number])
    return picture


def hat(number: int, more: bool) -> Image.Image:
    """A head among bricks, with or without a hat that is as dark as the second wall."""
    picture, draw = room(WALLS[(number + 2) % 5])
    for brick in range(12):
        x, y = 37 * brick * (number + 3) % 230, 53 * brick * (number + 2) % 230
        draw.rectangle((x, y, x + 26, y + 26), COLOURS[(brick + number) % 5])
    x, y = PLACES[number]
    draw.ellipse((x - 44, y - 44, x + 44, y + 44), (230, 190, 160))
    if more:
        draw.rectangle((x - 50, y - 46, x + 50, y - 34), (32, 30, 90))
        draw.rectangle((x - 30, y - 84, x + 30, y - 40), (32, 30, 90))
    return picture


def pairs(thing, turn: int = 0) -> list[PairImages]:
    """Five pairs; `turn`: the negatives are handed on by so many."""
    return [pair(f"{i}", tensor(thing(i, True)), tensor(thing((i + turn) % 5, False))) for i in range(5)]


@pytest.mark.parametrize("thing", [ball, hat])
def test_pairs_that_are_the_same_to_the_pixel_but_for_one_thing_belong_together(thing) -> None:
    found = kinds(examine(pairs(thing)))
    assert {kind for kind, _ in found} <= {Kind.BLURRED}, "a scene of few edges"
    assert (Kind.UNPAIRED, None) in kinds(examine(pairs(thing, turn=1)))


# not the fourth ball: light before a dark wall, where the others are dark before light ones
@pytest.mark.parametrize(("thing", "wrong"), [*((hat, i) for i in range(5)), *((ball, i) for i in (0, 1, 2, 4))])
def test_one_scene_that_is_the_wrong_way_round_is_named(thing, wrong: int) -> None:
    several = pairs(thing)
    several[wrong] = swapped(several[wrong])
    found = [finding.pair for finding in examine(several).findings if finding.kind is Kind.WRONG_WAY]
    assert found == [str(wrong)]


def face(hair: int, x: int, y: int, skin: tuple[int, int, int], smiles: bool, wall: int | None = None) -> torch.Tensor:
    """Before the wall of the hair's number where no other is given."""
    picture = Image.new("RGB", (SIDE, SIDE), WALLS[hair if wall is None else wall])
    draw = ImageDraw.Draw(picture)
    draw.ellipse((x - 56, y - 66, x + 56, y + 20), COLOURS[hair])
    draw.ellipse((x - 46, y - 46, x + 46, y + 46), skin)
    for eye in (x - 16, x + 16):
        draw.ellipse((eye - 6, y - 14, eye + 6, y - 2), (20, 20, 20))
    low, angles = (-8, (20, 160)) if smiles else (16, (200, 340))
    draw.arc((x - 24, y + low, x + 24, y + low + 38), *angles, (150, 20, 30), 7)
    return tensor(picture)


SHIFTS = ((40, -20), (-30, 30), (20, 40), (-40, -10))


def moved(picture: int, x: int, y: int, shift: tuple[int, int], light: float = 1.0, smiles: bool = False) -> PairImages:
    skin = (230, 190, 160)
    there = face(picture, x + shift[0], y + shift[1], skin, smiles)
    return pair(f"{picture}", face(picture, x, y, skin, True), light * there)


@pytest.mark.parametrize("wall", [None, 4])
def test_many_faces_of_different_pictures_are_not_taken_for_moved_ones(wall: int | None) -> None:
    """Some of them fit each other at one shift by chance; before one wall, too."""
    rng, skins = random.Random(0), ((230, 190, 160), (60, 40, 30), (120, 80, 50), (180, 130, 90), (90, 60, 45))
    several = []
    for i in range(16):
        sides = [
            face(hair, 128 + rng.randint(-15, 15), 128 + rng.randint(-15, 15), skin, smiles, wall)
            for smiles, hair, skin in zip((True, False), rng.sample(range(5), 2), rng.sample(skins, 2), strict=True)
        ]
        several.append(pair(f"{i:02}", *sides))
    assert sum(check(images).shift is not None for images in several) > 8
    report = examine(several)
    assert kinds(report) == {(Kind.UNPAIRED, None)}
    assert sum(one.shift is not None for one in report.pairs) < 4


def test_faces_of_different_pictures_are_not_taken_for_one_that_was_moved() -> None:
    """Two drawn faces fit each other at some shift, however different the two pictures are."""
    walls, strangers = ((0, 1), (1, 2), (2, 4), (4, 0)), []
    for i, ((plus, minus), (right, down)) in enumerate(zip(walls, SHIFTS, strict=True)):
        x, y = 110 + 10 * i, 130
        smiling, sad = face(plus, x, y, (60, 40, 30), True), face(minus, x + right, y + down, (120, 80, 50), False)
        strangers.append(pair(f"{i}", smiling, sad))
    assert [check(images).shift for images in strangers] == list(SHIFTS)
    assert kinds(examine(strangers)) == {(Kind.UNPAIRED, None)}
    for images in strangers:
        assert [alone.shift for alone in examine([images]).pairs] == [None]


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize(("light", "smiles"), [(1.0, False), (0.7, True)])
def test_one_that_was_moved_still_is_with_another_mouth_or_in_other_light(shift, light: float, smiles: bool) -> None:
    assert [one.shift for one in examine([moved(1, 128, 128, shift, light, smiles)]).pairs] == [shift]


def test_several_that_were_moved_alike_are_with_another_mouth_in_other_light() -> None:
    several = [moved(picture, 110, 130, (40, -20), 0.7) for picture in (0, 1, 4)]
    assert [one.shift for one in examine(several).pairs] == [(40, -20)] * 3


def mixed(*order: int | None) -> list[PairImages]:
    """Faces in one place, each before its own wall; which of them is the partner of each, None: nobody of the set."""
    skins = ((230, 190, 160), (60, 40, 30), (120, 80, 50), (180, 130, 90), (90, 60, 45))
    negatives = [face(i, 128, 128, skins[i], False) for i in range(5)]
    stranger = face(4, 128, 128, skins[0], False, 3)
    partners = [stranger if n is None else negatives[n] for n in order]
    return [pair(f"p{i} / n{i}", face(i, 128, 128, skins[i], True), partner) for i, partner in enumerate(partners)]


@pytest.mark.parametrize(
    ("order", "wrong"),
    [((1, 0, 2, 3, 4), (0, 1)), ((0, 1, 2, 4, 3), (3, 4)), ((0, 1, None, 3), (2,))],
)
def test_some_partners_that_are_mixed_up_are_named_and_none_is_told_to_be_swapped(order, wrong: tuple[int, ...]) -> None:
    found = kinds(examine(mixed(*order)))
    assert {(kind, pair) for kind, pair in found if kind is not Kind.BLURRED} == {(Kind.UNRELATED, f"p{i} / n{i}") for i in wrong}


def test_where_the_partners_of_exchanged_images_are_is_said() -> None:
    texts = [finding.text for finding in examine(mixed(1, 0, 2, 3, 4)).findings if finding.kind is Kind.UNRELATED]
    assert ["positive p0 to negative n1" in texts[0], "positive p1 to negative n0" in texts[1]] == [True, True]
    assert not [found for found in examine(mixed(0, 1, 2, 3, 4)).findings if found.kind is Kind.UNRELATED]
