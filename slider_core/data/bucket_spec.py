"""The choices about a dataset: its buckets, captions, crops and pairs, and words in the place of images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from ..config.checks import JsonSpec, clean_text, is_number, need


class CaptionFrom(str, Enum):
    """Where a caption comes from (the names are those of SimpleTuner's caption_strategy)."""

    TEXTFILE = "textfile"
    TEXTLINES = "textlines"  # every line a caption of its own, one of them drawn a step
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


class Reference(str, Enum):
    """Which image of a pair an edit model is shown as the one to edit, beside each of the two."""

    NONE = "none"
    NEGATIVE = "negative"  # the original, which strength 0 or -1 leaves as it is
    OTHER = "other"  # beside the positive the negative, beside the negative the positive


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
    reference: Reference = Reference.NONE

    def __post_init__(self) -> None:
        for name, kind in (("pairing", Pairing), ("unequal", Unequal), ("alpha", Alpha), ("reference", Reference)):
            self.convert(name, kind, name.capitalize())
        is_colour = isinstance(self.background, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", self.background) is not None
        self.check("background", is_colour, 'a colour such as "#ffffff"')
        self.check_whole("frames", 1)

    @property
    def rgb(self) -> tuple[int, int, int]:
        red, green, blue = bytes.fromhex(self.background[1:])
        return red, green, blue

    def reference_note(self, one_way: bool, drawn_with_one: bool) -> str:
        """What speaks against the choice of references, in a sentence; empty where nothing does. `drawn_with_one`: the prompt of
        the pictures has a reference image."""
        if self.reference is Reference.NONE and drawn_with_one:
            return "The prompt has a reference image, the training images have none: set reference to negative and sides to plus."
        if self.reference is Reference.NEGATIVE and not one_way:
            return (
                "At -1 the reference is the image to arrive at, which shows the answer: set sides to plus, or reference to other."
            )
        return ""


@dataclass(frozen=True)
class BucketSpec(JsonSpec):
    """One labelled folder. `strength` > 0: more of the concept, < 0: less, 0: stay as you are.

    Within the buckets of one sign `probability` weighs how often a bucket's turn comes; an epoch shows each of its images
    1 + `repeats` times. `crop` and `resolution` (0: that of the run) say how its images are fitted. Of more than `most` images
    (0: all) some are drawn by their names, the same ones on both sides.
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
    most: int = 0

    def __post_init__(self) -> None:
        self.convert("captions", CaptionFrom, "Caption strategy")
        self.convert("crop", Crop, "Crop")
        self.check("strength", is_number(self.strength), "a finite number")
        likely = is_number(self.probability) and self.probability > 0
        self.check("probability", likely, "above 0 (to leave a bucket out, disable it)")
        captioned = self.captions is not CaptionFrom.INSTANCEPROMPT or bool(self.caption)
        self.check("caption", captioned, "one for all images, with instanceprompt")
        for name in ("repeats", "resolution", "most"):
            self.check_whole(name, 0)

    @property
    def where(self) -> str:
        return f"Bucket {self.title}: "

    @property
    def sign(self) -> int:
        return (self.strength > 0) - (self.strength < 0)

    @property
    def title(self) -> str:
        return self.name or self.folder.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]


class Latents(str, Enum):
    """What a text slider is trained on: latents that the model itself makes, or the dataset's images."""

    OWN = "own"
    IMAGES = "images"


MOST_LATENTS = 1000
MOST_SIDE = 16384  # pixels


@dataclass(frozen=True)
class TextSliderSpec(JsonSpec):
    """Prompts in the place of images: what `target` becomes at +1 (`positive`) and at -1 (`negative`).

    Each of the `hold` attributes is said beside all three in turn, so that the slider learns no more of them than they have in
    common. `guidance` times the difference of the two ends is what +1 is asked for; `weight` is what prompts count beside a
    dataset's images. The model makes `count` latents of `width` x `height` pixels (0: the run's resolution) in `steps` steps at
    the guidance scale `cfg`, where `latents` does not take the images.
    """

    target: str
    positive: str
    negative: str
    hold: tuple[str, ...] = ()
    guidance: float = 1.0
    weight: float = 1.0
    latents: Latents = Latents.OWN
    count: int = 16
    width: int = 0
    height: int = 0
    steps: int = 10
    cfg: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.convert("latents", Latents, "Latents")
        for name in ("target", "positive", "negative"):
            prompt = getattr(self, name)
            self.check(name, isinstance(prompt, str), "text")
            object.__setattr__(self, name, clean_text(" ".join(prompt.split())))
        same = f'positive and negative say the same ("{self.positive}"): say what the two ends are.'
        need(self.positive != self.negative, same, "text_slider.same")
        attributes = dict.fromkeys(clean_text(" ".join(attribute.split())) for attribute in self.hold)
        attributes.pop("", None)
        object.__setattr__(self, "hold", tuple(attributes))
        for name in ("guidance", "weight"):
            value = getattr(self, name)
            self.check(name, is_number(value) and 0 < value <= 100, "above 0 and at most 100")
        self.check("cfg", is_number(self.cfg) and 1 <= self.cfg <= 30, "from 1 to 30")
        self.check_whole("width", 0, MOST_SIDE)
        self.check_whole("height", 0, MOST_SIDE)
        self.check_whole("steps", 1, 1000)
        self.check_whole("count", 1, MOST_LATENTS)
        self.check("count", self.count >= len(self.hold), f"at least {len(self.hold)}, one for each attribute to hold")

    @classmethod
    def subject(cls) -> str:
        return "text_slider"

    @property
    def prompts(self) -> list[tuple[str, str, str]]:
        """(target, positive, negative) as they are encoded: as they are, else once with each attribute to hold."""
        if not self.hold:
            return [(self.target, self.positive, self.negative)]
        prompts = []
        for attribute in self.hold:
            target = _joined(self.target, attribute)
            prompts.append((target, _joined(self.positive, attribute), _joined(self.negative, attribute)))
        return prompts

    def __str__(self) -> str:
        held = f", hold {', '.join(self.hold)}" if self.hold else ""
        return f'"{self.target}": + "{self.positive}", - "{self.negative}"{held}, guidance {self.guidance:g}'


def _joined(prompt: str, attribute: str) -> str:
    return f"{prompt}, {attribute}" if prompt else attribute


def held(text: str) -> tuple[str, ...]:
    """Attributes out of a text, one on a line or with commas between."""
    return tuple(attribute for attribute in re.split(r"[,\n]", text) if attribute.strip())
