"""The choices about a dataset: its buckets, captions, crops and pairs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from .config import JsonSpec, choice, is_number, is_whole, need


class CaptionFrom(str, Enum):
    """Where a caption comes from (the names are those of SimpleTuner's caption_strategy)."""

    TEXTFILE = "textfile"
    FILENAME = "filename"
    INSTANCEPROMPT = "instanceprompt"
    NONE = "none"


class Crop(str, Enum):
    """Which part of an image is kept when its shape is not the bucket's; the same for both images of a pair."""

    CENTER = "center"
    RANDOM = "random"
    NONE = "none"


class Pairing(str, Enum):
    """How positives and negatives become pairs."""

    AUTO = "auto"  # by file name where all match, else by order; whether they line up is looked at
    NAME = "name"  # and they do line up, and so with order
    ORDER = "order"
    RANDOM = "random"  # drawn anew in every epoch: for images that do not belong together


class Unequal(str, Enum):
    """What to do when one side has fewer images than the other."""

    STOP = "stop"
    BALANCE = "balance"  # show the smaller side's images again


class Alpha(str, Enum):
    """What a transparent part of an image means."""

    COLOR = "color"  # the background colour shows through
    MASK = "mask"  # it is not trained on


@dataclass(frozen=True)
class DatasetSpec(JsonSpec):
    """How buckets become a dataset. `background` is "#rrggbb"; `flip`: every pair mirrored as well; a clip gives `frames`."""

    pairing: Pairing = Pairing.AUTO
    unequal: Unequal = Unequal.STOP
    flip: bool = False
    alpha: Alpha = Alpha.COLOR
    background: str = "#ffffff"
    frames: int = 1
    seed: int = 0  # of random crops

    def __post_init__(self) -> None:
        for name, kind in (("pairing", Pairing), ("unequal", Unequal), ("alpha", Alpha)):
            object.__setattr__(self, name, choice(kind, getattr(self, name), name.capitalize()))
        colour = isinstance(self.background, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", self.background)
        need(bool(colour), f'background must be a colour such as "#ffffff", got {self.background!r}.')
        need(is_whole(self.frames, 1), f"frames must be a whole number from 1, got {self.frames!r}.")

    @property
    def rgb(self) -> tuple[int, int, int]:
        return tuple(bytes.fromhex(self.background[1:]))  # type: ignore[return-value]


@dataclass(frozen=True)
class BucketSpec(JsonSpec):
    """One labelled folder. `strength` > 0: more of the concept, < 0: less, 0: stay as you are.

    Within the buckets of one sign `probability` weighs how often a bucket's turn comes; an epoch shows each of its images
    1 + `repeats` times. `crop` and `resolution` (0: that of the run) say how its images are fitted.
    """

    folder: str
    strength: float
    caption: str | None = None  # one caption for all; None: as `captions` says
    captions: CaptionFrom = CaptionFrom.TEXTFILE
    trigger: str = ""  # a word before every caption
    name: str = ""  # in reports; the folder's own when empty
    probability: float = 1.0
    repeats: int = 0
    resolution: int = 0
    crop: Crop = Crop.CENTER

    def __post_init__(self) -> None:
        object.__setattr__(self, "captions", choice(CaptionFrom, self.captions, "Caption strategy"))
        object.__setattr__(self, "crop", choice(Crop, self.crop, "Crop"))
        where = f"Bucket {self.title}"
        need(is_number(self.strength), f"{where}: strength must be a finite number, got {self.strength!r}.")
        likely = is_number(self.probability) and self.probability > 0
        need(likely, f"{where}: probability must be above 0, got {self.probability!r}; to leave a bucket out, disable it.")
        one = self.captions is not CaptionFrom.INSTANCEPROMPT or bool(self.caption)
        need(one, f"{where}: the captions {CaptionFrom.INSTANCEPROMPT.value} need one caption for all.")
        need(is_whole(self.repeats, 0), f"{where}: repeats must be a whole number from 0, got {self.repeats!r}.")
        need(is_whole(self.resolution, 0), f"{where}: resolution must be a whole number of pixels, got {self.resolution!r}.")

    @property
    def sign(self) -> int:
        return (self.strength > 0) - (self.strength < 0)

    @property
    def title(self) -> str:
        return self.name or self.folder.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
