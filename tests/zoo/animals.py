"""All entries, and the classes that are no image, video or sound generators."""

from __future__ import annotations

from . import classic, cosmos_lumina, flux, hunyuan_ltx, qwen_hidream, single_stream, unet, wan
from .cosmos_lumina import EXCLUDED as EXCLUDED
from .model import Tiny

_FILES = (unet, classic, flux, hunyuan_ltx, wan, cosmos_lumina, qwen_hidream, single_stream)
FULL = [entry for file in _FILES for entry in file.FULL]
TINY = [entry for file in _FILES for entry in file.TINY]


ONE_PER_FAMILY = list({entry.family: entry for entry in reversed(TINY)}.values())


def _behaviour(entry: Tiny) -> tuple[object, ...]:
    return entry.family, entry.batched, entry.video, entry.wide, entry.kinked, entry.once > 0, entry.idle > 0


# what makes a difference to training: the family, and how its classes mix samples, compute and keep values
ONE_PER_BEHAVIOUR = list({_behaviour(entry): entry for entry in reversed(TINY)}.values())
# another class of each family: the last
LAST_OF_FAMILY = list({entry.family: entry for entry in TINY}.values())


def tiny(title: str) -> Tiny:
    """The tiny model of that title."""
    return next(entry for entry in TINY if entry.title == title)
