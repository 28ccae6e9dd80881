"""What of a LoRA file is not applied, why, and how much of it that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ..config.checks import counted, need

SHOWN = 3  # names of each reason


class Reason(str, Enum):
    """Why parts of a file are left out."""

    TEXT_ENCODER = "of a text encoder, while a slider moves the image side alone"
    NO_CHANGE = "without a change of a layer"
    INCOMPLETE = "without all of their tensors"
    NO_SIGN = "without a meaning at a signed strength"
    NO_PLACE = "for layers that this model lacks"


@dataclass(frozen=True)
class LeftOut:
    """A layer, or a key that is none. `size`: the norm of its change at strength 1; 0 where it has none."""

    name: str
    reason: Reason
    size: float = 0.0
    detail: str = ""  # more on the reason


def describe(left_out: Sequence[LeftOut], kept: Sequence[float]) -> list[str]:
    """Lines for a user: how many parts for each reason with the first names, and their share. `kept`: norms of the rest."""
    lines = []
    for reason in Reason:
        parts = [part for part in left_out if part.reason is reason]
        if parts:
            names = ", ".join(part.name for part in parts[:SHOWN])
            if len(parts) > SHOWN:
                names += ", ..."
            details = "; ".join(dict.fromkeys(part.detail for part in parts if part.detail))
            line = f"Left out: {counted(len(parts), 'part')} {reason.value} ({names})"
            lines.append(f"{line}: {details}." if details else f"{line}.")
    changes = [part.size for part in left_out if part.size]
    if changes:
        layers = len(changes) / (len(changes) + len(kept))
        lost = math.hypot(*changes)
        total = math.hypot(lost, *kept)
        lines.append(f"That is {layers:.0%} of the file's layers and {lost / total:.0%} of the norm of its change.")
    return lines


def need_whole(left_out: Sequence[LeftOut], source: str) -> None:
    """SliderError when anything was left out of a file that is to be taken whole."""
    parts = " ".join(describe(left_out, ()))
    message = f"{source} does not fit whole, and strict is on. {parts} Switch strict off to load the rest."
    need(not left_out, message, "lora.strict")
