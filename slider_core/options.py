"""The options of the command line for words."""

from __future__ import annotations

import argparse

from .config import SliderError
from .dataset import Dataset
from .dataset_spec import WordsSpec, held
from .words import add_words

NAMES = ("target", "positive", "negative")


def add_word_options(command: argparse.ArgumentParser) -> None:
    """--target, --positive, --negative and what goes with them."""
    command.add_argument("--target", help="a slider from words: whom it is for")
    command.add_argument("--positive", help="what +1 shows, said in full")
    command.add_argument("--negative", help="what -1 shows, said in full")
    command.add_argument("--hold", default="", help="what must stay as it is, with commas between")
    command.add_argument("--guidance", type=float, default=WordsSpec.guidance, help="how far +1 is pushed")
    command.add_argument("--words-weight", type=float, default=WordsSpec.weight, help="what words count beside images")
    command.add_argument("--latents", type=int, default=WordsSpec.count, help="how many the model makes")


def with_words(args: argparse.Namespace, dataset: Dataset | None) -> Dataset:
    """The dataset with the words of the options. SliderError where there is neither, or only some of the words."""
    given = [name for name in NAMES if getattr(args, name) is not None]
    if not given and dataset is None:
        raise SliderError("Give --dataset for a slider from images, or --target, --positive and --negative for one from words.")
    if not given:
        return dataset  # type: ignore[return-value]
    if missing := [f"--{name}" for name in NAMES if name not in given]:
        raise SliderError(f"A slider from words needs {' and '.join(missing)} too.")
    return add_words(
        WordsSpec(
            args.target,
            args.positive,
            args.negative,
            held(args.hold),
            guidance=args.guidance,
            weight=args.words_weight,
            count=args.latents,
        ),
        dataset,
    )
