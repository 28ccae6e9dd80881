"""Pairs of prompts from which a model draws before/after images: shipped ones in pair_prompts.json, and a user's own files.

    {"positive": "{subject}, smiling", "negative": "{subject}, serious", "subjects": ["portrait photo of a young woman", ...]}

In: such a file. Out: for each subject a prompt of the positive and one of the negative image, which differ in the concept alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config.checks import SliderError, all_are, clean_text, nearest, need, parse_json, shown
from ..config.regular_files import read_text

SHIPPED = Path(__file__).with_name("pair_prompts.json")
SUBJECT = "{subject}"
FIELDS = ("positive", "negative", "subjects")
MOST_SUBJECTS = 100
LONGEST_PROMPT = 2000  # characters
EXAMPLE = '{"positive": "{subject}, smiling", "negative": "{subject}, serious", "subjects": ["a man", "a woman"]}'


@dataclass(frozen=True)
class PairPrompts:
    """A concept as text. `positive`, `negative`: prompts in which "{subject}" stands for each of `subjects`."""

    name: str
    positive: str
    negative: str
    subjects: tuple[str, ...]

    def prompts(self, subject: str) -> tuple[str, str]:
        """(positive, negative) prompt of a subject; one that does not name it begins with it."""
        return _filled(self.positive, subject), _filled(self.negative, subject)


def _filled(prompt: str, subject: str) -> str:
    if SUBJECT in prompt:
        return prompt.replace(SUBJECT, subject)
    return f"{subject}, {prompt}" if subject else prompt


def pair_prompts(positive: str, negative: str, subjects: str, name: str = "custom") -> PairPrompts:
    """From what a person types: two prompts, and subjects, one a line. SliderError where the two are empty or the same."""
    lines = tuple(clean_text(line).strip() for line in subjects.splitlines() if line.strip())
    plus, minus = clean_text(positive).strip(), clean_text(negative).strip()
    need(bool(plus or minus), "Write what the positive and the negative images show.", "pair_prompts.empty")
    need(plus != minus, f'positive and negative are the same prompt, "{shown(plus)}": name what differs.', "pair_prompts.same")
    need(len(lines) <= MOST_SUBJECTS, f"{len(lines)} subjects; {MOST_SUBJECTS} at most.", "pair_prompts.too_many")
    longest = max(map(len, (plus, minus, *lines)))
    need(longest <= LONGEST_PROMPT, f"A prompt of {longest} characters; {LONGEST_PROMPT} at most.", "pair_prompts.too_long")
    without = not lines and SUBJECT in plus + minus
    need(not without, f"{SUBJECT} stands in the prompts, and subjects is empty: write one a line.", "pair_prompts.no_subject")
    return PairPrompts(name, plus, minus, lines or ("",))


def shipped_concepts() -> dict[str, PairPrompts]:
    """The concepts that come with the pack, by name."""
    content = _read(SHIPPED)
    lists = content["subjects"]
    return {name: _concept(SHIPPED, name, fields, lists) for name, fields in content["concepts"].items()}


def read_concept(path: Path) -> PairPrompts:
    """A user's concept, named as its file; `subjects` may name a shipped list. SliderError that names what is wrong with it."""
    return _concept(path, path.stem, _read(path), _read(SHIPPED)["subjects"])


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, "Pair prompts", "pair_prompts.unreadable")
    content = parse_json(text, str(path), "pair_prompts.not_json", f"Like {EXAMPLE}")
    need(isinstance(content, dict), f"{path}: an object is needed, like {EXAMPLE}", "pair_prompts.fields")
    return content


def _concept(path: Path, name: str, fields: Mapping[str, Any], lists: Mapping[str, list[str]]) -> PairPrompts:
    where = f'{path}, "{shown(name)}"'
    for field in fields:
        near = nearest(field, FIELDS)
        need(field in FIELDS, f'{where}: unknown field "{shown(field)}"; {near}', "pair_prompts.field")
    for field in FIELDS[:2]:
        need(isinstance(fields.get(field), str), f"{where}: {field} must be a text. Like {EXAMPLE}", "pair_prompts.text")
    subjects = fields.get("subjects", [])
    if isinstance(subjects, str):
        near = nearest(subjects, list(lists))
        need(subjects in lists, f'{where}: no list of subjects is named "{shown(subjects)}"; {near}', "pair_prompts.list")
        subjects = lists[subjects]
    texts = isinstance(subjects, list) and all_are(str, subjects)
    need(texts, f"{where}: subjects must be a list of texts, or the name of a shipped one.", "pair_prompts.subjects")
    try:
        return pair_prompts(fields["positive"], fields["negative"], "\n".join(subjects), name)
    except SliderError as fault:
        raise SliderError(f"{where}: {fault}", fault.code) from None
