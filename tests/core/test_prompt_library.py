"""A prompt library is read as the reference writes it, and whatever has no meaning is refused by its entry's name."""

import json
from pathlib import Path

import pytest
from core.faults import refused

from slider_core.config.regular_files import MOST_TEXT
from slider_core.use.prompt_library import MOST_ENTRIES, MOST_FIELDS, PromptEntry, parse_prompts, read_prompts

REFERENCE = """{
  "plain": "regular prompt",
  "slider_plus": { "prompt": "same prompt", "adapter_strength": 1.2 },
  "slider_minus": { "prompt": "same prompt", "adapter_strength": 0.5 }
}"""
GLOBAL = 0.8
STRENGTHS = ('"strong"', "true", '"inf"', "[1]", "-101")
NO_NUMBERS = ("NaN", "1e999", "1" + "0" * 400, "-1" + "0" * 5000)
WRONG = [
    *((f'{{"a": {{"prompt": "x", "adapter_strength": {value}}}}}', "prompts.strength", '"a"') for value in STRENGTHS),
    *((f'{{"a": {{"prompt": "x", "adapter_strength": {value}}}}}', "prompts.not_json", value[:60]) for value in NO_NUMBERS),
    ('{"a": {"prompt": "x", "adapter_strenght": 1}}', "prompts.unknown_field", '"adapter_strength"'),
    ('{"a\\nb": 3}', "prompts.entry", '"a\\nb"'),
    ('{"fine": "x", "a": 3}', "prompts.entry", '"a"'),
    ('{"a": {"adapter_strength": 1}}', "prompts.no_prompt", '"a"'),
    ('{"a": {"promt": "x"}}', "prompts.unknown_field", '"prompt"'),
    ('{"a": {"prompt": [1]}}', "prompts.no_prompt", '"a"'),
    ('{"a": "x", "a": "y"}', "json.twice", '"a"'),
    ('{"a": {"prompt": "x", "prompt": "y"}}', "json.twice", '"prompt"'),
    ('{"a": "x",}', "prompts.not_json", "line 1"),
    ("[" * 100_000, "prompts.not_json", ""),
    ("", "prompts.not_json", "line 1"),
    ('["x"]', "prompts.empty", ""),
    ("{}", "prompts.empty", ""),
    ("{" + ", ".join(f'"{i}": "x"' for i in range(MOST_ENTRIES + 1)) + "}", "prompts.too_many", MOST_ENTRIES),
    (json.dumps({"a": {"prompt": "x"} | {f"zq{i}": 1 for i in range(MOST_FIELDS)}}), "prompts.too_many", MOST_FIELDS),
]


def test_the_references_example_is_read() -> None:
    entries = parse_prompts(REFERENCE).entries
    assert entries == (
        PromptEntry("plain", "regular prompt"),
        PromptEntry("slider_plus", "same prompt", 1.2),
        PromptEntry("slider_minus", "same prompt", 0.5),
    )
    assert [entry.at(GLOBAL) for entry in entries] == [GLOBAL, 1.2, 0.5]
    assert [entry.among((-1.0, 0.0, 1.0)) for entry in entries] == [[-1.0, 0.0, 1.0], [1.2], [0.5]]


def test_what_simpletuners_own_reader_takes_is_read() -> None:
    for fields, expected in (
        ('"prompt": "x", "adapter_strength": null', ("x", None)),
        ('"prompt": "x", "adapter_strength": "-1.2"', ("x", -1.2)),
        ('"caption": "x", "adapter_strength": 2', ("x", 2.0)),
        ('"tags": ["x", "y"]', ("x, y", None)),
        ('"prompt": "x", "caption": "y", "lyrics": "la", "bbox_entities": []', ("x", None)),
    ):
        (entry,) = parse_prompts(f'{{"a": {{{fields}}}}}').entries
        assert (entry.prompt, entry.strength) == expected


@pytest.mark.parametrize("written", ["0", "-0"])
def test_a_strength_of_zero_is_a_strength(written: str) -> None:
    (entry,) = parse_prompts(f'{{"base": {{"prompt": "x", "adapter_strength": {written}}}}}').entries
    assert entry.strength == 0
    assert entry.at(GLOBAL) == 0
    assert entry.among((-1.0, 1.0)) == [0.0]


def test_entries_of_one_prompt_are_one_group() -> None:
    library = parse_prompts(REFERENCE)
    assert library.groups() == [("regular prompt", [0]), ("same prompt", [1, 2])]
    assert library.prompts() == {"plain": "regular prompt", "slider_plus": "same prompt"}
    summary = library.summary(GLOBAL)
    assert all(part in summary for part in ("3 entries", "2 distinct", "+0.8"))


def test_what_has_no_meaning_is_refused_by_name() -> None:
    for text, code, value in WRONG:
        with refused(code, "lib.json", value):
            parse_prompts(text, "lib.json")


def test_a_file_is_read_with_its_byte_order_mark_and_named_when_it_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    file.write_bytes(b"\xef\xbb\xbf" + REFERENCE.encode())
    assert len(read_prompts(file).entries) == 3
    file.write_bytes(b"\xff\xfe\xfa")
    for path in (file, tmp_path / "none.json", tmp_path):
        with refused("prompts.unreadable", path):
            read_prompts(path)
    file.write_bytes(b" " * (MOST_TEXT + 1))
    with refused("file.too_large", file):
        read_prompts(file)
