"""What the pair doctor has found: each finding with its kind, and the report of all."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..config.checks import counted
from .pair_check import PairFigures, plain

NAMED = 3  # pairs that a sentence lists
NONE_DIFFERS = "nothing differs in any of the pairs"


class Kind(str, Enum):
    """What a finding is about, the worst first."""

    UNPAIRED = "pairs that share nothing"
    WRONG_WAY = "wrong way round"
    IDENTICAL = "nothing differs"
    FLAT = "flat picture"
    UNRELATED = "wrong partner"
    SHIFTED = "shifted"
    SIDES_LIGHT = "sides differ in brightness"
    SIDES_SHARP = "sides differ in sharpness"
    SIDES_SIZE = "sides differ in size"
    LIGHT = "brightness differs"
    SHARP = "sharpness differs"
    CAPTIONS = "captions differ"
    TINY = "too small"
    BLURRED = "blurred"
    SIZE = "sizes differ"
    DUPLICATE = "duplicate"
    TOO_FEW = "too few pairs"


@dataclass(frozen=True)
class Finding:
    """One thing found. `pair`: the name of the pair, None for all of them; `short`: `text` without advice."""

    kind: Kind
    pair: str | None
    text: str
    short: str = ""


def _some(names: list[str]) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


@dataclass(frozen=True)
class PairsReport:
    """`pairs` in their order; `findings` the worst first, whatever that order was. `notes`: what could not be told. `halved`:
    half of the pairs change one way and half the other."""

    pairs: tuple[PairFigures, ...]
    findings: tuple[Finding, ...]
    unused: int = 0  # lines of the dataset's own report about what was not used
    notes: tuple[str, ...] = ()
    halved: bool = False

    def of(self, pair: str | None) -> list[Finding]:
        return [f for f in self.findings if f.pair == pair]

    @property
    def contradiction(self) -> str:
        """Which pairs contradict each other in what changes, as half a sentence; empty where none are seen to."""
        if self.halved:
            return "half of the pairs change one way and half the other"
        wrong = [plain(finding.pair or "") for finding in self.findings if finding.kind is Kind.WRONG_WAY]
        if not wrong:
            return ""
        return f"{_some(wrong)} {'looks' if len(wrong) == 1 else 'look'} the wrong way round"

    @property
    def alike(self) -> str:
        """In which pairs nothing differs, as half a sentence: NONE_DIFFERS where that is all of them; empty where it is none."""
        same = [plain(finding.pair or "") for finding in self.findings if finding.kind is Kind.IDENTICAL]
        if not same:
            return ""
        return NONE_DIFFERS if len(same) == len(self.pairs) else f"nothing differs in {_some(same)}"

    @property
    def headline(self) -> str:
        """In which pairs something was found, as a sentence before the summary; of the whole set the count is said."""
        found = [plain(pair.name) for pair in self.pairs if self.of(pair.name)]
        whole = len(self.of(None))
        parts = []
        if found:
            parts.append(f"{counted(len(found), 'pair')} {'needs' if len(found) == 1 else 'need'} a look: {_some(found)}.")
        if whole:
            parts.append(f"{counted(whole, 'finding')} about the whole set.")
        return " ".join([*parts, self.summary])

    @property
    def summary(self) -> str:
        shares, count = sorted(pair.share for pair in self.pairs), counted(len(self.pairs), "pair")
        if not shares:
            return f"{count}."
        found = dict.fromkeys(f"{share:.1%}".replace("100.0%", "all") for share in (shares[0], shares[-1]))
        return f"{count}, {' to '.join(found)} of the picture differs."

    def lines(self, most: int = 5) -> list[str]:
        """The report, worst first: one line for a finding, at most `most` of a kind, then the names of the rest."""
        lines = []
        for kind in Kind:
            of_kind = [f for f in self.findings if f.kind is kind]
            lines += [f.text for f in of_kind[:most]]
            rest = list(dict.fromkeys(plain(f.pair or "") for f in of_kind[most:]))
            if rest:
                names = rest if len(rest) <= 20 else [*rest[:20], "..."]
                lines.append(f"{kind.value.capitalize()}, {len(rest)} more: {', '.join(names)}.")
        if self.unused and not lines:
            above = f"{counted(self.unused, 'line')} above about files that were not used"
            lines = [f"No fault found in the pairs themselves; {above}."]
        return [*(lines or ["Nothing found that would hurt."]), *self.notes]
