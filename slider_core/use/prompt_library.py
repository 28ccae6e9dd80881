"""SimpleTuner's prompt library: names to prompts, each with a strength of its own where it wants one.

    {"plain": "a face", "slider_plus": {"prompt": "a face", "adapter_strength": 1.2}}

An entry without `adapter_strength` is drawn at the strength that holds for all. A strength of 0 is a strength.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..config.checks import SliderError, nearest

PROMPT, STRENGTH = "prompt", "adapter_strength"
MOST_ENTRIES, MOST_BYTES, MOST_STRENGTH = 256, 1 << 20, 100.0
EXAMPLE = '{"plain": "a face", "plus": {"prompt": "a face", "adapter_strength": 1.2}}'


@dataclass(frozen=True)
class PromptEntry:
    """One prompt; `strength` None: the one that holds for all."""

    name: str
    prompt: str
    strength: float | None = None

    def at(self, strength: float) -> float:
        """Its own strength, or the given one."""
        return strength if self.strength is None else self.strength

    def among(self, strengths: Sequence[float]) -> list[float]:
        """Where it is drawn: at its own strength, or at all of the given ones."""
        return list(strengths) if self.strength is None else [self.strength]


@dataclass(frozen=True)
class PromptLibrary:
    entries: tuple[PromptEntry, ...]

    def groups(self) -> list[tuple[str, list[int]]]:
        """Each distinct prompt with the places of its entries: what one sampling call can draw together."""
        found: dict[str, list[int]] = {}
        for place, entry in enumerate(self.entries):
            found.setdefault(entry.prompt, []).append(place)
        return list(found.items())

    def prompts(self) -> dict[str, str]:
        """Each distinct prompt once, under the name of its first entry: what a sweep draws, whose strengths are its own."""
        return {self.entries[places[0]].name: prompt for prompt, places in self.groups()}

    def summary(self, strength: float) -> str:
        """How many entries and prompts, and which strengths."""
        own = sum(entry.strength is not None for entry in self.entries)
        told = f"{len(self.entries)} entries, {len(self.groups())} distinct prompts"
        return f"{told}; {own} at a strength of their own, {len(self.entries) - own} at {strength:+g}."


def read_prompts(path: Path) -> PromptLibrary:
    """A prompt library file. SliderError when it cannot be read or says something that has no meaning."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SliderError(f"{path} is larger than {MOST_BYTES >> 20} MB: that is no prompt library.")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        raise SliderError(f"Prompt library {path} cannot be read ({fault}).") from None
    return parse_prompts(text, str(path))


def parse_prompts(text: str, source: str = "Prompt library") -> PromptLibrary:
    """A prompt library from JSON text. SliderError that names the entry and what is wrong with it."""

    def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise SliderError(f"{source}: {json.dumps(twice, ensure_ascii=False)} is there twice; give each a name of its own.")
        return dict(pairs)

    try:
        told = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as fault:
        raise SliderError(f"{source}: no JSON, line {fault.lineno}, column {fault.colno}: {fault.msg}. Like {EXAMPLE}") from None
    except (RecursionError, ValueError) as fault:
        if isinstance(fault, SliderError):
            raise
        raise SliderError(f"{source}: no JSON ({fault}). Like {EXAMPLE}") from None
    if not isinstance(told, dict) or not told:
        raise SliderError(f"{source}: names with prompts are needed, like {EXAMPLE}")
    if len(told) > MOST_ENTRIES:
        raise SliderError(f"{source}: {len(told)} entries; {MOST_ENTRIES} at most.")
    return PromptLibrary(tuple(_entry(name, value, source) for name, value in told.items()))


def _entry(name: str, value: Any, source: str) -> PromptEntry:
    def wrong(what: str) -> NoReturn:
        raise SliderError(f"{source}: entry {json.dumps(name, ensure_ascii=False)} {what}")

    if isinstance(value, str):
        return PromptEntry(name, value)
    if not isinstance(value, Mapping):
        wrong(f'must be a text or {{"{PROMPT}": …, "{STRENGTH}": …}}, got {json.dumps(value)[:60]}.')
    odd = next((key for key in value if key not in (PROMPT, STRENGTH)), None)
    if odd is not None:
        wrong(f'has no field "{odd}"; {nearest(odd, [PROMPT, STRENGTH])}')
    if not isinstance(value.get(PROMPT), str):
        wrong(f'needs a text as "{PROMPT}".')
    strength = value.get(STRENGTH)
    number = isinstance(strength, (int, float)) and not isinstance(strength, bool)
    if STRENGTH in value and not (number and abs(strength) <= MOST_STRENGTH):
        wrong(f"has the {STRENGTH} {json.dumps(strength)[:60]}; a number from -{MOST_STRENGTH:g} to {MOST_STRENGTH:g} is needed.")
    return PromptEntry(name, value[PROMPT], None if strength is None else float(strength))
