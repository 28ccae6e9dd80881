"""Is the pair doctor right about simple drawn scenes: one thing on an even or a littered background?

    python benchmarks/doctor_scenes.py --sets 60              # of each concept; docs/making-pairs.md quotes it
    python benchmarks/doctor_scenes.py --sets 60 --seed 1     # others

Every set has three to six pairs, each of a place, colours and a background of its own; both images of a pair are the same to the
pixel but for the concept. Sound sets; the same with one pair the wrong way round; with the negatives handed on by one; with
strangers, of which nothing but the concept and the kind of scene is in common. Brightness is not judged: a lamp lights.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from PIL import Image, ImageDraw

from slider_core.data.pair_check import PairImages
from slider_core.data.pair_diagnosis import Kind, PairsReport
from slider_core.data.pair_doctor import examine

SIDE = 256
LEAST, MOST = 3, 6  # pairs
Colour = tuple[int, int, int]
ADVICE = (Kind.TOO_FEW, Kind.BLURRED, Kind.LIGHT, Kind.SIDES_LIGHT)
STATES = ("sound", "one reversed", "handed on", "strangers")


def colour(rng: random.Random, low: int = 20, high: int = 235) -> Colour:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def even(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    draw.rectangle((0, 0, SIDE, SIDE), colour(rng))


def floored(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    """A wall, and a floor a little darker."""
    wall = colour(rng, 40)
    draw.rectangle((0, 0, SIDE, SIDE), wall)
    draw.rectangle((0, 200, SIDE, SIDE), tuple(int(0.75 * part) for part in wall))


def littered(draw: ImageDraw.ImageDraw, rng: random.Random) -> None:
    even(draw, rng)
    for _ in range(30):
        x, y, side = rng.randint(-10, SIDE), rng.randint(-10, SIDE), rng.randint(8, 40)
        draw.rectangle((x, y, x + side, y + side), colour(rng))


BACKGROUNDS = (even, floored, littered)


def disc(draw: ImageDraw.ImageDraw, x: int, y: int, radius: int, fill: Colour) -> None:
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill)


def ball(draw: ImageDraw.ImageDraw, rng: random.Random, more: bool) -> None:
    """A ball, large or small."""
    x, y, fill = rng.randint(80, 176), rng.randint(90, 176), colour(rng)
    disc(draw, x, y, 58 if more else 24, fill)


def face(draw: ImageDraw.ImageDraw, rng: random.Random) -> tuple[int, int]:
    """A head with eyes; where its middle is."""
    x, y = rng.randint(90, 166), rng.randint(120, 170)
    disc(draw, x, y, 46, rng.choice([(230, 190, 160), (120, 80, 50), (180, 130, 90)]))
    for eye in (x - 16, x + 16):
        disc(draw, eye, y - 8, 6, (20, 20, 20))
    return x, y


def hat(draw: ImageDraw.ImageDraw, rng: random.Random, more: bool, fill: Colour = (32, 30, 90)) -> None:
    """A head with or without a hat, of the same colour in all."""
    x, y = face(draw, rng)
    if more:
        draw.rectangle((x - 50, y - 46, x + 50, y - 34), fill)
        draw.rectangle((x - 30, y - 84, x + 30, y - 40), fill)


def any_hat(draw: ImageDraw.ImageDraw, rng: random.Random, more: bool) -> None:
    """A head with or without a hat, each of a colour of its own."""
    hat(draw, rng, more, colour(rng))


def smile(draw: ImageDraw.ImageDraw, rng: random.Random, more: bool) -> None:
    """A head that smiles or is sad."""
    x, y = face(draw, rng)
    if more:
        draw.arc((x - 24, y - 8, x + 24, y + 30), 20, 160, (150, 20, 30), 5)
    else:
        draw.arc((x - 24, y + 16, x + 24, y + 54), 200, 340, (150, 20, 30), 5)


def lamp(draw: ImageDraw.ImageDraw, rng: random.Random, more: bool) -> None:
    """A lamp that is lit or not."""
    x, y, stand = rng.randint(80, 176), rng.randint(80, 120), colour(rng, 20, 120)
    draw.rectangle((x - 4, y, x + 4, 215), stand)
    if more:
        disc(draw, x, y, 60, (250, 235, 150))
    shade = (255, 250, 210) if more else (110, 105, 95)
    draw.polygon([(x - 18, y - 24), (x + 18, y - 24), (x + 36, y + 18), (x - 36, y + 18)], shade)


def house(draw: ImageDraw.ImageDraw, rng: random.Random, more: bool) -> None:
    """A house of three storeys or of one."""
    x, wall, width = rng.randint(40, 120), colour(rng), rng.randint(70, 110)
    top = 90 if more else 165
    draw.rectangle((x, top, x + width, 215), wall)
    draw.polygon([(x - 10, top), (x + width + 10, top), (x + width // 2, top - 40)], tuple(part // 2 for part in wall))
    for y in range(top + 10, 200, 32):
        for left in range(x + 10, x + width - 16, 28):
            draw.rectangle((left, y, left + 14, y + 16), (250, 240, 170))


Background = Callable[[ImageDraw.ImageDraw, random.Random], None]
Concept = Callable[[ImageDraw.ImageDraw, random.Random, bool], None]
CONCEPTS: tuple[Concept, ...] = (ball, hat, any_hat, smile, lamp, house)


def scene(concept: Concept, background: Background, seed: str, more: bool) -> torch.Tensor:
    """(3, SIDE, SIDE) in [0, 1]: one seed draws one scene, with more or less of the concept."""
    rng = random.Random(seed)
    picture = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    background(draw, rng)
    concept(draw, rng, more)
    return torch.from_numpy(np.asarray(picture) / np.float32(255)).permute(2, 0, 1)


def pairs_of(concept: Concept, number: int, seed: int, state: str) -> list[PairImages]:
    """A set in one of STATES; its second pair is the one that is reversed."""
    name = f"{concept.__name__} {seed} {number}"
    rng = random.Random(name)
    background, count = rng.choice(BACKGROUNDS), rng.randint(LEAST, MOST)
    positives = [scene(concept, background, f"{name} {i}", True) for i in range(count)]
    negatives = [scene(concept, background, f"{name} {i}{' other' * (state == 'strangers')}", False) for i in range(count)]
    if state == "handed on":
        negatives = [*negatives[1:], negatives[0]]
    if state == "one reversed":
        positives[1], negatives[1] = negatives[1], positives[1]
    size = SIDE, SIDE
    return [PairImages(f"{i}", *images, "", "", size, size) for i, images in enumerate(zip(positives, negatives, strict=True))]


def is_told(report: PairsReport, state: str) -> bool:
    """Whether what was done to a set is said of it."""
    found = {(finding.kind, finding.pair) for finding in report.findings}
    if state == "one reversed":
        return (Kind.WRONG_WAY, "1") in found
    return state == "sound" or (Kind.UNPAIRED, None) in found


def is_false(report: PairsReport, state: str) -> bool:
    """Whether something is said that is not true of a set of pairs."""
    right = {"one reversed": {(Kind.WRONG_WAY, "1")}}.get(state, set())
    return bool({(f.kind, f.pair) for f in report.findings if f.kind not in ADVICE} - right)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=60, help="of each concept and state")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="what was wrong, set by set")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| concept | sound: false alarm | one reversed: said, false alarm | handed on: said | strangers: said |")
    print("|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for concept in CONCEPTS:
        told: Counter[str] = Counter()
        false: Counter[str] = Counter()
        for number, state in itertools.product(range(args.sets), STATES):
            report = examine(pairs_of(concept, number, args.seed, state))
            told[state] += is_told(report, state)
            false[state] += is_false(report, state)
            if args.verbose and (not is_told(report, state) or (state in STATES[:2] and is_false(report, state))):
                print(concept.__name__, number, state, len(report.pairs), report.lines(2))
        print(_row(concept.__name__, told, false))
        total.update({f"told {state}": count for state, count in told.items()} | {state: count for state, count in false.items()})
    all_told, all_false = ({state: total[f"{what}{state}"] for state in STATES} for what in ("told ", ""))
    print(_row(f"all, of {args.sets * len(CONCEPTS)}", all_told, all_false))


def _row(name: str, told: Mapping[str, int], false: Mapping[str, int]) -> str:
    sound, reversed_one, handed_on, strangers = STATES
    return f"| {name} | {false[sound]} | {told[reversed_one]}, {false[reversed_one]} | {told[handed_on]} | {told[strangers]} |"


if __name__ == "__main__":
    main()
