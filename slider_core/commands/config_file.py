"""--config of `train`: the options of another program's file, read before those that a person writes beside it."""

from __future__ import annotations

from pathlib import Path

from ..config.checks import need
from .options import say
from .simpletuner_config import read_config

OPTION = "--config"


def with_config(words: list[str]) -> list[str]:
    """The words of the command line with those of its --config in front of the person's own, and a line for each key said."""
    if not words or words[0] != "train":
        return words
    for place, word in enumerate(words[1:], 1):
        name, equals, value = word.partition("=")
        if name != OPTION:
            continue
        rest = words[place + 1 :]
        if not equals:
            need(bool(rest), "--config: the file is missing: name SimpleTuner's config.json.", "config.missing")
            value = rest.pop(0)
        config = read_config(Path(value), rest + words[1:place])
        say("\n".join(config.lines()))
        return [words[0], *config.words, *words[1:place], *rest]
    return words
