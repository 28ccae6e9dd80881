"""Whether a model is distilled to a few steps, by the names of its file and of the LoRAs that it carries."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

MOST_STEPS = 16  # a larger number before "steps" in a name counts the steps of a training
NAME_SAYS = "the name's own number of steps, else the kind's usual one; a place to start"


class Distilled(str, Enum):
    """Whether the model is distilled to a few steps. auto: as its files are named."""

    AUTO = "auto"
    YES = "yes"
    NO = "no"


@dataclass(frozen=True)
class Kind:
    """A way to distil. `steps` where the name has no number; `sampler`, `scheduler`: empty for the family's."""

    name: str
    pattern: str  # in a lower-case file name
    steps: int
    sampler: str = ""
    scheduler: str = ""


KINDS = (
    Kind("lcm", r"(?<![a-z])lcm(?![a-z])", 8, "lcm", "sgm_uniform"),
    Kind("dmd", r"(?<![a-z])dmd\d?(?![a-z])", 4, "lcm", "sgm_uniform"),
    Kind("lightning", r"lightning", 4, "euler"),
    Kind("schnell", r"schnell", 4, "euler"),
    Kind("turbo", r"turbo", 8, "euler"),
    Kind("hyper", r"(?<![a-z])hyper(?:-?sd)?(?:-?xl)?(?![a-z])", 8, "euler"),
    Kind("klein", r"klein(?!.*base)", 4, "euler"),
    Kind("lightx2v", r"lightx2v", 4, "euler"),
    Kind("causvid", r"causvid|causal_forcing", 4, "euler"),
    Kind("distilled", r"(?<!cfg[-_ ])(?<!guidance[-_ ])distill", 8, "euler"),
    Kind("few steps", r"(?<!\d)\d{1,2}[-_ ]?steps?(?![a-z])", 8, "euler"),
)
ASKED = Kind("distilled", "", 4, "euler")  # a person says so, and no name says how
# a distillation that was undone for good, or a LoRA that undoes it while one trains
UNDOES = re.compile(r"(?<![a-z])(?:de|un)[-_ ]?(?:distil|turbo|lightning|schnell)|training[-_ ]?adapter")
_STEPS = re.compile(r"(?<!\d)(\d{1,2})[-_ ]?steps?(?![a-z])")


@dataclass(frozen=True)
class Finding:
    """The kind that a name shows, the number of steps that it gives (0: none), and the name."""

    kind: Kind
    steps: int
    name: str


def steps_in(name: str) -> int:
    """`..._4step.safetensors` -> 4; 0 where a name has no such number, or one too large for a distilled model."""
    match = _STEPS.search(name.lower())
    if match and int(match[1]) <= MOST_STEPS:
        return int(match[1])
    return 0


def find(files: Sequence[str]) -> Finding | None:
    """The kind of the first name that shows one. A LoRA comes after its model, and its number of steps counts."""
    findings = [finding for finding in map(_in_name, files) if finding is not None]
    with_steps = [finding for finding in findings if finding.steps]
    return next(iter(reversed(with_steps or findings)), None)


def undoes(name: str) -> bool:
    """Whether a file is a distilled model that is one no more, or a training adapter that makes it so."""
    return bool(UNDOES.search(name.lower()))


def undone(files: Sequence[str]) -> bool:
    """Whether the last name that says anything says that the distillation is undone."""
    for name in reversed(files):
        if undoes(name):
            return True
        if _in_name(name) is not None:
            return False
    return False


def _in_name(name: str) -> Finding | None:
    if undoes(name):
        return None
    for kind in KINDS:
        if re.search(kind.pattern, name.lower()):
            steps = steps_in(name)
            if steps or kind.name != "few steps":
                return Finding(kind, steps, name)
            return None
    return None
