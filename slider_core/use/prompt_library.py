"""SimpleTuner's prompt library: names to prompts, each with a strength of its own where it wants one.

    {"plain": "a face", "slider_plus": {"prompt": "a face", "adapter_strength": 1.2}}

An entry without `adapter_strength`, or with null, is drawn at the strength that holds for all. A strength of 0 is a strength.
As SimpleTuner reads it: "1.2" is a number, `caption` or `tags` may stand for `prompt`, further fields have no meaning.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from ..config.checks import LONGEST_NAME, nearest, need, parse_json, shown
from ..config.regular_files import MOST_TEXT, read_text

PROMPTS = ("prompt", "caption", "tags")  # the first that is there counts
STRENGTH = "adapter_strength"
NEAR = 0.75  # how alike a field's name is to one of ours when it is a slip of the pen
MOST_ENTRIES = 256
MOST_FIELDS = 16 * MOST_ENTRIES
MOST_STRENGTH = 100.0
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
        places_of: dict[str, list[int]] = {}
        for place, entry in enumerate(self.entries):
            places_of.setdefault(entry.prompt, []).append(place)
        return list(places_of.items())

    def prompts(self) -> dict[str, str]:
        """Each distinct prompt once, under the name of its first entry: what a sweep draws, whose strengths are its own."""
        return {self.entries[places[0]].name: prompt for prompt, places in self.groups()}

    def summary(self, strength: float) -> str:
        """How many entries and prompts, and which strengths."""
        count = len(self.entries)
        with_strength = len([entry for entry in self.entries if entry.strength is not None])
        strengths = f"{with_strength} at a strength of their own, {count - with_strength} at {strength:+g}"
        return f"{count} entries, {len(self.groups())} distinct prompts; {strengths}."


def read_prompts(path: Path) -> PromptLibrary:
    """A prompt library file. SliderError when it cannot be read or says something that has no meaning."""
    return parse_prompts(read_text(path, "Prompt library", "prompts.unreadable"), str(path))


def parse_prompts(text: str, source: str = "Prompt library") -> PromptLibrary:
    """A prompt library from JSON text. SliderError that names the entry and what is wrong with it."""
    message = f"{source}: {len(text)} characters; {MOST_TEXT} at most."
    need(len(text) <= MOST_TEXT, message, "prompts.too_many")
    library = parse_json(text, source, "prompts.not_json", f"Like {EXAMPLE}")
    is_library = isinstance(library, dict) and len(library) > 0
    need(is_library, f"{source}: names with prompts are needed, like {EXAMPLE}", "prompts.empty")
    count = len(library)
    need(count <= MOST_ENTRIES, f"{source}: {count} entries; {MOST_ENTRIES} at most.", "prompts.too_many")
    fields = sum(len(value) for value in library.values() if isinstance(value, Mapping))
    message = f"{source}: {fields} fields in its entries; {MOST_FIELDS} at most."
    need(fields <= MOST_FIELDS, message, "prompts.too_many")  # each is compared with those that are known
    return PromptLibrary(tuple(_entry(name, value, source) for name, value in library.items()))


def _entry(name: str, value: Any, source: str) -> PromptEntry:
    def require(ok: bool, problem: str, code: str) -> None:
        need(ok, f"{source}: entry {json.dumps(shown(name), ensure_ascii=False)} {problem}", code)

    if isinstance(value, str):
        return PromptEntry(name, value)
    form = f'must be a text or {{"{PROMPTS[0]}": …, "{STRENGTH}": …}}, got {shown(json.dumps(value))}.'
    require(isinstance(value, Mapping), form, "prompts.entry")
    for key in value:  # further fields are none of ours, but a slip of the pen must not lose a strength
        known = key in (*PROMPTS, STRENGTH)
        meant = [] if known else get_close_matches(key[:LONGEST_NAME], (*PROMPTS, STRENGTH), 1, NEAR)
        require(not meant, f'has no field "{shown(key)}"; {nearest(key, meant)}', "prompts.unknown_field")
    prompt = next((value[key] for key in PROMPTS if value.get(key) is not None), None)
    is_list = isinstance(prompt, list) and all(isinstance(tag, str) for tag in prompt)
    if is_list:
        prompt = ", ".join(cast(list[str], prompt))
    require(isinstance(prompt, str), f'needs a text as "{PROMPTS[0]}" ({", ".join(PROMPTS[1:])}).', "prompts.no_prompt")
    strength = value.get(STRENGTH)
    if strength is None:
        return PromptEntry(name, cast(str, prompt))
    limits = f"a number from -{MOST_STRENGTH:g} to {MOST_STRENGTH:g} is needed"
    problem = f"has the {STRENGTH} {shown(json.dumps(strength))}; {limits}."
    number = _number(strength)
    require(number is not None and abs(number) <= MOST_STRENGTH, problem, "prompts.strength")
    return PromptEntry(name, cast(str, prompt), number)


def _number(value: Any) -> float | None:
    """A number, or a text that is one; None for anything else."""
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
