"""What the commands of `python -m slider_core` share: what they print, and how they read their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..config.checks import SliderError
from ..data.bucket_spec import TextSliderSpec, held
from ..data.dataset import Dataset, add_text_slider

BAR = 24


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def progress(report: Any) -> None:
    """A bar with gain and time left: redrawn in place on a terminal, a line every tenth of the way elsewhere."""
    done = report.step * BAR // report.total
    line = f"[{'#' * done}{'.' * (BAR - done)}] {report.summary()}"
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line:<110}" + ("\n" if report.step == report.total else ""))
    elif report.step % max(1, report.total // 10) == 0 or report.step == report.total:
        sys.stderr.write(line + "\n")
    sys.stderr.flush()


def refuse_existing(args: argparse.Namespace) -> None:
    if args.out.exists() and not args.overwrite:
        raise SliderError(f"File exists: {args.out}. Choose another name, or add --overwrite.")


def need_ending(path: Path, ending: str) -> None:
    if path.suffix.lower() != ending:
        raise SliderError(f"{path} does not end in {ending}: name it {path.name}{ending}.")


def dataset_of(args: argparse.Namespace) -> Dataset:
    """The folder or dataset file of the options."""
    from ..data.bucket_spec import DatasetSpec
    from ..data.dataset import bucket_folders, read_dataset
    from ..data.simpletuner import read_dataset_file

    spec = DatasetSpec(args.pairing, args.unequal, args.flip)
    if args.dataset.suffix.lower() == ".json" and args.dataset.is_file():
        buckets, notes = read_dataset_file(args.dataset)
        return read_dataset(buckets, spec, notes=notes)
    told = {"captions": args.caption_from, "trigger": args.trigger, "crop": args.crop}
    return read_dataset(bucket_folders(args.dataset, **told), spec)


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One clear line, as for every other fault."""
        if "--strengths: expected one argument" in message:  # a leading minus reads as an option
            message += '; write --strengths="-2,0,2"'
        self.exit(2, f"Error: {message}. See {self.prog} --help.\n")


def whole_number(most: int) -> Callable[[str], int]:
    """A whole number from 1 to `most`."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0
        if not 1 <= value <= most:
            raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 1 to {most}')
        return value

    return read


def seed_number(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from 0 to 2^63 - 1')
    return value


def add_dataset(command: argparse.ArgumentParser, name: str = "--dataset") -> None:
    """The options that choose a dataset."""
    from ..data.bucket_spec import CaptionFrom, Crop, DatasetSpec, Pairing, Unequal

    command.add_argument(name, type=Path, help="a folder with positive/ and negative/, or a dataset file")
    for option, default, kinds in (
        ("--pairing", DatasetSpec.pairing, Pairing),
        ("--unequal", DatasetSpec.unequal, Unequal),
        ("--crop", Crop.CENTER, Crop),
        ("--caption-from", CaptionFrom.TEXTFILE, CaptionFrom),
    ):
        names = [kind.value for kind in kinds if kind is not CaptionFrom.INSTANCEPROMPT]
        command.add_argument(option, default=default.value, choices=names, help=", ".join(names))
    command.add_argument("--trigger", default="", help="a word before every caption")
    command.add_argument("--flip", action="store_true", help="every pair mirrored as well")


NAMES = ("target", "positive", "negative")


def add_word_options(command: argparse.ArgumentParser) -> None:
    """--target, --positive, --negative and what goes with them."""
    command.add_argument("--target", help="a slider from words: whom it is for")
    command.add_argument("--positive", help="what +1 shows, said in full")
    command.add_argument("--negative", help="what -1 shows, said in full")
    command.add_argument("--hold", default="", help="what must stay as it is, with commas between")
    command.add_argument("--guidance", type=float, default=TextSliderSpec.guidance, help="how far +1 is pushed")
    command.add_argument("--words-weight", type=float, default=TextSliderSpec.weight, help="what words count beside images")
    command.add_argument("--latents", type=int, default=TextSliderSpec.count, help="how many the model makes")


def with_words(args: argparse.Namespace, dataset: Dataset | None) -> Dataset:
    """The dataset with the words of the options. SliderError where there is neither, or only some of the words."""
    given = [name for name in NAMES if getattr(args, name) is not None]
    if not given and dataset is None:
        raise SliderError("Give --dataset for a slider from images, or --target, --positive and --negative for one from words.")
    if not given:
        return dataset  # type: ignore[return-value]
    if missing := [f"--{name}" for name in NAMES if name not in given]:
        raise SliderError(f"A slider from words needs {' and '.join(missing)} too.")
    return add_text_slider(
        TextSliderSpec(
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
