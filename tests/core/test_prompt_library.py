"""A prompt library is read as the reference writes it, and whatever has no meaning is refused by its entry's name."""

from pathlib import Path

import pytest

from slider_core.config.checks import SliderError
from slider_core.use.prompt_library import MOST_ENTRIES, PromptEntry, parse_prompts, read_prompts

REFERENCE = """{
  "plain": "regular prompt",
  "slider_plus": { "prompt": "same prompt", "adapter_strength": 1.2 },
  "slider_minus": { "prompt": "same prompt", "adapter_strength": 0.5 }
}"""
GLOBAL = 0.8


def test_the_references_example_is_read() -> None:
    entries = parse_prompts(REFERENCE).entries
    assert entries == (
        PromptEntry("plain", "regular prompt"),
        PromptEntry("slider_plus", "same prompt", 1.2),
        PromptEntry("slider_minus", "same prompt", 0.5),
    )
    assert [entry.at(GLOBAL) for entry in entries] == [GLOBAL, 1.2, 0.5]
    assert [entry.among((-1.0, 0.0, 1.0)) for entry in entries] == [[-1.0, 0.0, 1.0], [1.2], [0.5]]


@pytest.mark.parametrize("written", ["0", "0.0", "-0"])
def test_a_strength_of_zero_is_a_strength(written: str) -> None:
    (entry,) = parse_prompts(f'{{"base": {{"prompt": "x", "adapter_strength": {written}}}}}').entries
    assert entry.strength == 0
    assert entry.at(GLOBAL) == 0
    assert entry.among((-1.0, 1.0)) == [0.0]


def test_entries_of_one_prompt_are_one_group() -> None:
    library = parse_prompts(REFERENCE)
    assert library.groups() == [("regular prompt", [0]), ("same prompt", [1, 2])]
    assert library.prompts() == {"plain": "regular prompt", "slider_plus": "same prompt"}
    assert library.summary(GLOBAL) == "3 entries, 2 distinct prompts; 2 at a strength of their own, 1 at +0.8."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": {"prompt": "x", "adapter_strenght": 1}}', 'entry "a" has no field "adapter_strenght"; did you mean "adapter_st'),
        ('{"a": {"prompt": "x", "adapter_strength": "1.2"}}', 'entry "a" has the adapter_strength "1.2"'),
        ('{"a": {"prompt": "x", "adapter_strength": true}}', 'entry "a" has the adapter_strength true'),
        ('{"a": {"prompt": "x", "adapter_strength": null}}', 'entry "a" has the adapter_strength null'),
        ('{"a": {"prompt": "x", "adapter_strength": NaN}}', 'entry "a" has the adapter_strength NaN'),
        ('{"a": {"prompt": "x", "adapter_strength": 1e999}}', 'entry "a" has the adapter_strength Infinity'),
        ('{"a": {"prompt": "x", "adapter_strength": -101}}', 'entry "a" has the adapter_strength -101'),
        ('{"a": {"prompt": "x", "adapter_strength": 1' + "0" * 400 + "}}", 'entry "a" has the adapter_strength 1000'),
        ('{"a\\nb": 3}', 'entry "a\\nb" must be'),
        ('{"a": {"adapter_strength": 1}}', 'entry "a" needs a text as "prompt"'),
        ('{"a": {"prompt": ["x"]}}', 'entry "a" needs a text as "prompt"'),
        ('{"fine": "x", "a": 3}', 'entry "a" must be a text or'),
        ('{"a": "x", "a": "y"}', '"a" is there twice'),
        ('{"a": {"prompt": "x", "prompt": "y"}}', '"prompt" is there twice'),
        ('{"a": "x",}', "no JSON, line 1, column"),
        ("[" * 100_000, "no JSON"),
        ('["x"]', "names with prompts are needed"),
        ("{}", "names with prompts are needed"),
        ("", "no JSON, line 1"),
        ("{" + ", ".join(f'"{i}": "x"' for i in range(MOST_ENTRIES + 1)) + "}", f"{MOST_ENTRIES} at most"),
    ],
)
def test_what_has_no_meaning_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(SliderError) as refused:
        parse_prompts(text, "lib.json")
    assert str(refused.value).startswith("lib.json: ")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_is_read_with_its_byte_order_mark_and_named_when_it_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "prompts.json"
    file.write_bytes(b"\xef\xbb\xbf" + REFERENCE.encode())
    assert len(read_prompts(file).entries) == 3
    file.write_bytes(b"\xff\xfe\xfa")
    for path in (file, tmp_path / "none.json", tmp_path):
        with pytest.raises(SliderError, match=str(path)):
            read_prompts(path)
