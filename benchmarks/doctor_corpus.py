"""Image sets with known truth for the pair doctor, made of pictures that nobody of this project drew.

Avatars are DiceBear's (npm), photographs are those in scikit-image's wheel (skimage/data). Each set is a folder with positive/,
negative/ and truth.json. The styles and photographs of the part `chosen` were looked at while the doctor's limits were chosen,
those of `held` were not. `benchmarks/doctor.py` makes the sets and judges the doctor.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from doctor_edits import EDITS, LIGHT, Edit, jpeg, moved, noisy
from PIL import Image

CHOSEN_STYLES = (
    *("adventurer", "adventurerNeutral", "avataaars", "avataaarsNeutral", "bigEars", "bigEarsNeutral", "bottts", "botttsNeutral"),
    *("lorelei", "loreleiNeutral", "pixelArt", "pixelArtNeutral", "thumbs"),
)
HELD_STYLES = (
    *("bigSmile", "croodles", "croodlesNeutral", "dylan", "funEmoji", "micah", "miniavs", "notionists", "notionistsNeutral"),
    *("openPeeps", "personas", "shapes", "toonHead"),
)
CHOSEN_PHOTOS = ("astronaut.png", "brick.png", "camera.png", "chelsea.png", "gravel.png", "ihc.png", "motorcycle_left.png")
HELD_PHOTOS = ("coffee.png", "coins.png", "grass.png", "hubble_deep_field.jpg", "page.png", "retina.jpg", "rocket.jpg")
PARTS = {"chosen": (CHOSEN_STYLES, CHOSEN_PHOTOS), "held": (HELD_STYLES, HELD_PHOTOS)}
KINDS = ("aligned", "unpaired", "shuffled", "swapped", "shifted", "all shifted", "mispaired", "duplicate", "identical", "faint")
SHARES = (30, 12, 6, 24, 5, 4, 6, 4, 3, 6)
STRANGER = 1000  # the seed of a stranger is that of a person and this
LEAST = 0.003  # of the pixels must differ, by more than
VISIBLE = 10  # of 255
Picture = Image.Image


@dataclass
class Set:
    """A set to be made. `people`: the drawing of (subject, is positive); subject + STRANGER is somebody else."""

    number: int
    part: str
    source: str
    kind: str
    count: int
    what: str
    rng: random.Random
    draw: Callable[[int, bool], Picture] | None = None
    jobs: list[tuple[str, dict, int]] = field(default_factory=list)
    edit: Edit | None = None
    enlarged: bool = False  # a scene is smaller than its picture, and so blurred
    says: tuple[str, ...] = ()  # findings that are true of an avatar's change


class Avatars:
    """DiceBear in a folder of node modules; what was drawn is kept in memory."""

    def __init__(self, modules: Path, cache: Path) -> None:
        self.modules = modules
        self.cache = cache
        self.script = Path(__file__).with_name("doctor_avatars.mjs").resolve()
        self.styles = json.loads(self._node("list"))
        self.files: dict[str, Path] = {}
        cache.mkdir(parents=True, exist_ok=True)

    def _node(self, task: str, given: str = "") -> str:
        command = ["node", str(self.script), task]
        return subprocess.run(command, cwd=self.modules, input=given, capture_output=True, text=True, check=True).stdout

    def ends(self, style: str, rng: random.Random) -> tuple[str, dict, dict]:
        """(what differs, options of the negative, options of the positive)."""
        choices = self.styles[style]
        keys = []
        for key, choice in choices.items():
            if key.endswith(("Probability", "OffsetX", "OffsetY", "otation", "Size", "Weight", "Family", "chars")):
                continue
            if len(choice["values"] or choice["preset"] or ()) > 1 or f"{key}Probability" in choices:
                keys.append(key)
        key = rng.choice(keys)
        choice = choices[key]
        values = choice["values"] or choice["preset"]
        seen = {f"{key}Probability": 100} if f"{key}Probability" in choices else {}
        if f"{key}Probability" in choices and (len(values) < 2 or rng.random() < 0.5):
            return f"{style} {key} there or not", {f"{key}Probability": 0}, seen
        negative, positive = rng.sample(values, 2)
        return f"{style} {key} {negative} to {positive}", {key: [negative], **seen}, {key: [positive], **seen}

    def plan(self, one: Set, style: str) -> None:
        what, minus, plus = self.ends(style, one.rng)
        one.what = what
        if "backgroundColor" in plus and style.endswith("Neutral"):  # a face that fills the picture: its skin
            one.says = LIGHT
        side = one.rng.choice((64, 96, 128, 256, 256, 320, 512))
        common: dict = {}
        if "backgroundColor" not in self.styles[style] or self.styles[style]["backgroundColor"]["preset"] in (None, []):
            kinds = (None, ["b6e3f4"], ["b6e3f4", "c0aede", "ffd5dc", "d1d4f9", "ffdfbf", "20242c", "5b7a3a"])
            colours = one.rng.choice(kinds)
            common = {"backgroundColor": colours} if colours and "backgroundColor" not in {**minus, **plus} else {}
        base = one.rng.randrange(10**6) * 10

        def options(subject: int, positive: bool) -> dict:
            return {"seed": f"s{base + subject}", **common, **(plus if positive else minus)}

        for subject in range(one.count):
            for who, positive in ((subject, True), (subject, False), (subject + STRANGER, False)):
                if who < STRANGER or one.kind in ("unpaired", "mispaired"):
                    one.jobs.append((style, options(who, positive), side))

        def draw(subject: int, positive: bool) -> Picture:
            picture = Image.open(self.files[self._key(style, options(subject, positive), side)]).convert("RGBA")
            paper = Image.new("RGBA", picture.size, "white")
            return Image.alpha_composite(paper, picture).convert("RGB")

        one.draw = draw

    @staticmethod
    def _key(*job: object) -> str:
        return json.dumps(job, sort_keys=True)

    def render(self, jobs: list[tuple[str, dict, int]]) -> None:
        fresh = []
        for job in jobs:
            key = self._key(*job)
            if key not in self.files:
                self.files[key] = self.cache / f"{len(self.files):06}.png"
                fresh.append([*job, str(self.files[key].resolve())])
        self._node("draw", json.dumps(fresh))


class Photographs:
    """Scenes cut out of photographs, and an edit that makes the two ends of a pair."""

    def __init__(self, folder: Path) -> None:
        names = (*CHOSEN_PHOTOS, *HELD_PHOTOS)
        self.photos = {name: Image.open(folder / name).convert("RGB") for name in names}

    def plan(self, one: Set, names: Sequence[str]) -> None:
        rng = one.rng
        some = rng.sample(names, rng.randint(2, len(names)))
        ratio = rng.choice((1.0, 1.0, 4 / 3, 3 / 4))
        long = rng.choice((96, 160, 256, 256, 384, 512))
        size = (long, round(long / ratio)) if ratio >= 1 else (round(long * ratio), long)
        edits = [edit for edit in EDITS if edit.part in (one.part, "both")]
        one.edit = rng.choice([edit for edit in edits if one.kind != "faint" or edit.can_be_faint])
        one.what = f"{one.edit.name} on {len(some)} photographs"
        change = one.edit.make(rng)
        places: dict[int, tuple[str, tuple[int, ...]]] = {}
        taken: list[tuple[str, tuple[int, ...]]] = []
        for subject in (*range(one.count), *range(STRANGER, STRANGER + one.count)):
            places[subject] = self._place(rng, some, ratio, taken)
        one.enlarged = any(box[2] - box[0] < size[0] for _, box in places.values())
        jitter = rng.randrange(10**9)

        def draw(subject: int, positive: bool) -> Picture:
            name, box = places[subject]
            scene = self.photos[name].crop(box).resize(size, Image.Resampling.LANCZOS)
            array = np.asarray(scene, dtype=np.float32) / 255
            edited = change(array, positive, random.Random(jitter + subject))
            return Image.fromarray((edited.clip(0, 1) * 255).round().astype(np.uint8))

        one.draw = draw

    def _place(self, rng: random.Random, names: Sequence[str], ratio: float, taken: list) -> tuple[str, tuple[int, ...]]:
        """A part of a photograph that shows something, and shares little with those already taken."""
        for _ in range(200):
            name = rng.choice(names)
            photo = self.photos[name]
            wide = rng.uniform(0.35, 0.9) * min(photo.width, photo.height * ratio)
            high = wide / ratio
            left, top = rng.uniform(0, photo.width - wide), rng.uniform(0, photo.height - high)
            box = (round(left), round(top), round(left + wide), round(top + high))
            empty = np.asarray(photo.crop(box).convert("L").resize((32, 32)), dtype=np.float32).std() < 12
            if not empty and all(name != other or _shared(box, place) < 0.3 for other, place in taken):
                break
        taken.append((name, box))
        return name, box


def _shared(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    """The share of the smaller box that both have."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    area = min((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return max(0, wide) * max(0, high) / area


def _arranged(one: Set) -> tuple[list[tuple[Picture, Picture]], dict]:
    """The pairs of a set, positive and negative, with what was done to some of them."""
    rng, count, kind = one.rng, one.count, one.kind
    assert one.draw is not None
    plus = [one.draw(i, True) for i in range(count)]
    minus = [one.draw(i, False) for i in range(count)]
    some = sorted(rng.sample(range(count), 1 if count < 6 or rng.random() < 0.6 else 2))
    if kind in ("unpaired", "mispaired"):
        for i in range(count) if kind == "unpaired" else some:
            minus[i] = one.draw(i + STRANGER, False)
    elif kind == "shuffled":
        turn = rng.randint(1, count - 1)
        minus = minus[turn:] + minus[:turn]
    elif kind == "duplicate":
        some = sorted(rng.sample(range(count), 2))
        plus[some[1]], minus[some[1]] = (jpeg(noisy(p[some[0]], 0.006, rng), rng.randint(85, 96)) for p in (plus, minus))
    elif kind in ("shifted", "all shifted"):
        by = _shift(rng, plus[0].width)
        for i in some if kind == "shifted" else range(count):
            minus[i] = moved(minus[i], by)
    for i in some:
        if kind in ("swapped", "faint"):
            plus[i], minus[i] = minus[i], plus[i]
        elif kind == "identical":
            minus[i] = jpeg(plus[i], rng.randint(80, 95))
    return list(zip(plus, minus, strict=True)), {"some": some, "twins": _twins(plus) | _twins(minus)}


def _twins(side: list[Picture]) -> set[int]:
    """Those that another before it equals in every pixel: a style with few parts draws two subjects alike."""
    pixels = [picture.tobytes() for picture in side]
    return {i for i, one in enumerate(pixels) if one in pixels[:i]}


def _shift(rng: random.Random, width: int) -> tuple[int, int]:
    """Pixels (right, down): 1.6 to 10 % of the width."""
    reach, least = max(3, round(0.1 * width)), max(2, round(0.016 * width))
    return rng.choice((-1, 1)) * rng.randint(least, reach), rng.randint(-reach, reach)


def _visible(one: Set) -> bool:
    """Whether both ends of every pair differ visibly."""
    assert one.draw is not None
    for i in range(one.count):
        plus, minus = (np.asarray(one.draw(i, positive), dtype=np.int16) for positive in (True, False))
        if (np.abs(plus - minus).max(-1) > VISIBLE).mean() < LEAST:
            return False
    return True


def _written(one: Set, folder: Path) -> None:
    pairs, truth = _arranged(one)
    rng = one.rng
    noise = rng.choice((0.0, 0.0, 0.01, 0.02)) if one.source == "photo" else 0.0
    quality = rng.choice((None, None, 75, 85, 95))
    if one.kind == "faint":
        # what the edit does is made small, and grain is laid over it
        noise, quality = 0.03, 85
        pairs = [(Image.blend(minus, plus, 0.05), minus) for plus, minus in pairs]
    for i, pair in enumerate(pairs):
        for side, picture in zip(("positive", "negative"), pair, strict=True):
            place = folder / side
            place.mkdir(parents=True, exist_ok=True)
            grainy = noisy(picture, noise, rng) if noise else picture
            ending = "png" if quality is None else "jpg"
            extra = {} if quality is None else {"quality": quality}
            grainy.save(place / f"{i + 1:02}.{ending}", **extra)
    truth |= {"part": one.part, "source": one.source, "kind": one.kind, "count": one.count, "what": one.what}
    truth |= {"edit": one.edit.name if one.edit else "", "directed": one.edit.directed if one.edit else True}
    blurred = ["BLURRED"] if one.enlarged else []
    truth |= {"says": [*blurred, *one.says, *(one.edit.says if one.edit else ())], "twins": sorted(truth["twins"])}
    (folder / "truth.json").write_text(json.dumps(truth), encoding="utf-8")


def _planned(number: int, part: str, source: str, seed: int, avatars: Avatars, photographs: Photographs) -> Set:
    rng = random.Random(f"{seed} {part} {number}")
    kind = rng.choices(KINDS, SHARES)[0]
    if kind == "faint":
        source = "photo"
    one = Set(number, part, source, kind, rng.randint(3, 8), "", rng)
    styles, photos = PARTS[part]
    if source == "avatar":
        avatars.plan(one, rng.choice(styles))
    else:
        photographs.plan(one, photos)
    return one


def make(out: Path, modules: Path, photos: Path, count: int, seed: int) -> None:
    """`count` sets of each part below `out`."""
    avatars, photographs = Avatars(modules, out / "drawn"), Photographs(photos)
    for part in PARTS:
        wanted = list(range(count))
        for attempt in range(8):
            planned = []
            for number in wanted:
                source = "avatar" if number % 2 else "photo"
                planned.append(_planned(number, part, source, seed + 1000 * attempt, avatars, photographs))
            avatars.render([job for one in planned for job in one.jobs])
            wanted = []
            for one in planned:
                if _visible(one):
                    _written(one, out / part / f"{one.number:04}")
                else:
                    wanted.append(one.number)
            if not wanted:
                break


def truths(out: Path) -> Iterator[tuple[Path, dict]]:
    for file in sorted(out.glob("*/*/truth.json")):
        yield file.parent, json.loads(file.read_text(encoding="utf-8"))
