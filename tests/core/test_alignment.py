"""Pairs are told from unpaired sets, on the demo world and on made-up latents.

benchmarks/alignment.py, 4 to 12 images a side: no unpaired sets of 2200 passed for pairs; pairs whose face moves or grows were
known in 104 of 120 sets of four, 119 of 120 sets of six, and all others.
"""

import pytest
import torch

from slider_core.encode.alignment import differ_in_motion, line_up, nearer_share, outlines_agree
from slider_core.with_tiny.faces import ATTRIBUTES, render
from slider_core.with_tiny.faces_pairs import make_pairs

SEEDS = range(4)


def sides(attribute: str, count: int, seed: int, unpaired: bool) -> tuple[torch.Tensor, torch.Tensor]:
    pairs = make_pairs(attribute, count, seed, unpaired)
    return render([p for p, _ in pairs]), render([n for _, n in pairs])


def test_pairs_of_one_scene_line_up() -> None:
    for attribute in [a for a in ATTRIBUTES if a not in ("size", "x", "y")]:
        assert all(line_up(*sides(attribute, 6, seed, unpaired=False)) for seed in SEEDS)


def test_pairs_whose_outline_moves_do() -> None:
    lined_up = [line_up(*sides(attribute, 6, seed, unpaired=False)) for attribute in ("size", "x", "y") for seed in SEEDS]
    assert sum(lined_up) >= len(lined_up) - 1


@pytest.mark.parametrize("count", [4, 6, 12])
def test_unpaired_sets_do_not(count: int) -> None:
    for attribute in ATTRIBUTES:
        assert not any(line_up(*sides(attribute, count, seed, unpaired=True)) for seed in SEEDS)


def test_nearer_share_counts_who_lies_before_the_partner() -> None:
    positives = torch.tensor([0.0, 10.0, 20.0]).reshape(3, 1, 1, 1)
    assert nearer_share(positives, positives + 1) == 0
    # 0 and 1 find each other, 20 and 19.5 too; nearer to 10 than its partner 21 are 1 and 19.5, nearer to 21 than 10 is 20
    assert nearer_share(positives, torch.tensor([1.0, 21.0, 19.5]).reshape(3, 1, 1, 1)) == pytest.approx(3 / 6 / 2)


def test_a_large_change_in_few_places_counts_less_than_much_that_is_the_same() -> None:
    positives = [torch.full((1, 10, 10), value) for value in (0.0, 1.0, 2.0, 3.0, 4.0)]
    negatives = [p.clone() for p in positives]
    for n, negative in enumerate(negatives):
        negative[0, :1] = positives[n - 1][0, :1] * 10  # by the sum of squares nearest to another
    assert nearer_share(positives, negatives) == 0


def test_outlines_do_not_mind_colours() -> None:
    picture = torch.zeros(3, 16, 16)
    picture[:, 4:12, 5:11] = 1
    assert outlines_agree(picture, 5 - 3 * picture) == pytest.approx(1, abs=1e-5)
    assert outlines_agree(picture, picture.roll(6, dims=1)) < 0.4
    assert outlines_agree(picture, torch.ones(3, 16, 16)) == 0
    assert outlines_agree(picture[:, None].repeat(1, 2, 1, 1), picture[:, None].repeat(1, 2, 1, 1)) == pytest.approx(1, abs=1e-5)


def test_portraits_of_different_people_are_no_pairs() -> None:
    """All have one silhouette, which makes any two outlines alike; partners are no more alike than others."""
    generator = torch.Generator().manual_seed(0)
    face = torch.zeros(3, 16, 16)
    face[:, 3:13, 4:12] = 1
    people = [[face + 0.15 * torch.randn(1, 16, 16, generator=generator) for _ in range(6)] for _ in range(2)]
    agree = torch.tensor([outlines_agree(p, n) for p, n in zip(*people, strict=True)]).median()
    assert 0.6 < agree < 0.85, "outlines alone would call them pairs"
    assert not line_up(*people)
    assert line_up(people[0], [5 - 3 * p + 0.2 * torch.randn(1, 16, 16, generator=generator) for p in people[0]])


Person = dict[str, torch.Tensor]


def people(count: int, generator: torch.Generator) -> list[Person]:
    """What portraits are drawn in: bright background, dark hair, a skin between, and spots of their own."""
    some = []
    for _ in range(count):
        background, skin, hair = torch.tensor([0.85, 0.5, 0.1]) + 0.1 * torch.rand(3, generator=generator)
        spots = 0.25 * torch.rand(3, 19, 14, generator=generator) * (torch.rand(19, 14, generator=generator) > 0.8)
        some.append({"background": background, "skin": skin, "hair": hair, "spots": spots})
    return some


def portrait(person: Person, mouth: int) -> torch.Tensor:
    """(3, 24, 24): everybody stands in the same place."""
    picture = person["background"].expand(3, 24, 24).clone()
    picture[:, 3:22, 5:19] = person["skin"] + person["spots"]
    picture[:, 3:8, 5:19] = person["hair"]
    picture[:, 17 : 17 + mouth, 9:15] = 0
    return picture


WHOLE = {
    "as it is": lambda picture: picture,
    "dim": lambda picture: 0.35 * picture,
    "inverted": lambda picture: 1 - picture,
    "grey": lambda picture: picture.mean(dim=0, keepdim=True).expand(3, -1, -1),
    "blue": lambda picture: picture * torch.tensor([0.5, 0.7, 1.0])[:, None, None],
}


@pytest.mark.parametrize("count", [6, 12])
def test_portraits_in_one_place_are_pairs_only_of_one_person(count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    taken = dict.fromkeys(WHOLE, 0)
    wrongly = others_agree = 0
    for _ in range(20):
        positives = people(count, generator)
        shown = [portrait(person, 3) for person in positives]
        for others in (people(count, generator), [*positives[1:], positives[0]]):
            negatives = [portrait(person, 1) for person in others]
            wrongly += line_up(shown, negatives)
            others_agree += outlines_agree(shown[0], negatives[0]) >= 0.85
        for name, whole in WHOLE.items():
            taken[name] += line_up(shown, [whole(portrait(person, 1)) for person in positives])
    assert others_agree > 0, "the outlines of any two may be very alike"
    assert wrongly == 0
    assert taken == dict.fromkeys(WHOLE, 20)


def test_images_of_one_scene_are_pairs_in_any_order() -> None:
    generator = torch.Generator().manual_seed(0)
    scene = portrait(people(1, generator)[0], 3)
    levels = (1.0, 0.9, 0.8, 0.7)
    sides = [
        [level * scene + 1e-3 * torch.randn(3, 24, 24, generator=generator) for level in side] for side in (levels, levels[::-1])
    ]
    assert line_up(*sides)


def test_one_image_for_all_of_the_other_side() -> None:
    """Nobody else could be the partner: only its edits are pairs."""
    generator = torch.Generator().manual_seed(0)
    person, *others = people(5, generator)
    one = [portrait(person, 1)] * 4
    assert line_up([WHOLE[name](portrait(person, 2)) for name in ("dim", "inverted", "grey", "blue")], one)
    assert not line_up([portrait(other, 2).roll(shift, dims=2) for shift, other in enumerate(others)], one)


def test_a_pair_that_comes_twice_counts_once() -> None:
    """Three portraits of other people which by chance agree a little more as they lie: as often as one likes."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        sides = [[portrait(person, 2) for person in people(3, generator)] for _ in range(2)]
        assert line_up(*(side * 4 for side in sides)) == line_up(*sides)


def test_an_image_alone_of_its_shape_says_nothing() -> None:
    """Three pairs of three shapes, partners unlike: each finds its partner, for there is no other."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 8, 8), (3, 8, 16), (3, 16, 8)]
    sets = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2)]
    assert not line_up(*sets)
    assert line_up(sets[0], [h + 0.1 for h in sets[0]])


def test_few_pairs_must_lie_nearer_than_many() -> None:
    """Two of 24 ranks are wrong among four pairs: that happens by chance. Among twelve such it does not."""

    def even(levels: list[float]) -> list[torch.Tensor]:
        return [torch.full((1, 3, 3), level) for level in levels]

    positives, negatives = [0.0, 10.0, 20.0, 30.0], [6.0, 11.0, 21.0, 24.0]
    assert nearer_share(even(positives), even(negatives)) == pytest.approx(2 / 24)
    assert not line_up(even(positives), even(negatives))
    many = [[level + 1000 * n for n in range(3) for level in side] for side in (positives, negatives)]
    assert line_up(even(many[0]), even(many[1]))


def clip(speed: float, side: int = 4, level: float = 1.0) -> torch.Tensor:
    """(3, 8, 24, 24): a square about a middle that moves to the right, `speed` pixels a frame."""
    frames = torch.zeros(3, 8, 24, 24)
    for moment in range(8):
        left = 5 + round(speed * moment) - side // 2
        frames[:, moment, 12 - side // 2 : 12 + side // 2, left : left + side] = level
    return frames


@pytest.mark.parametrize(
    ("positive", "negative", "motion"),
    [
        (clip(1.5), clip(0.0), True),
        (clip(1.5), clip(0.5), True),
        (clip(1.0, level=1.0), clip(1.0, level=0.3), False),  # lighter
        (clip(1.0, side=6), clip(1.0, side=4), False),  # larger
        (clip(0.0), clip(0.0).flip(-1), True),  # no frame agrees: nobody can tell that it is looks
        (clip(1.5)[:, 0], clip(0.0)[:, 0], False),  # images
    ],
)
def test_clips_differ_in_motion_or_in_looks(positive: torch.Tensor, negative: torch.Tensor, motion: bool) -> None:
    assert differ_in_motion([positive] * 2, [negative] * 2) is motion
