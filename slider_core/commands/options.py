"""What the commands share: what they print, and how they read their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..config.checks import SliderError, need
from ..config.lora import FileDtype
from ..data.bucket_spec import CaptionFrom, Crop, DatasetSpec, Pairing, TextSliderSpec, Unequal, held
from ..data.dataset import Dataset, add_text_slider, bucket_folders, read_dataset
from ..data.simpletuner import read_dataset_file
from ..lora.slider_file import Slider
from ..train.step_report import StepReport
from ..train.trainings_driver import Observer

Commands = Any  # what argparse's add_subparsers returns: its class is private
Shared = list[argparse.ArgumentParser]
BAR = 24
PROMPTS = ("target", "positive", "negative")


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def strict(command: argparse.ArgumentParser) -> None:
    """The option to take a LoRA file whole or not at all."""
    command.add_argument("--strict", action="store_true", help="an error where a part of the LoRA file cannot be applied")


def say_left_out(slider: Slider) -> None:
    """What of a slider's file is not applied, in its lines."""
    for line in slider.left_out_lines():
        say(line)


class Progress(Observer):
    """A bar with explained shares and time left: redrawn in place on a terminal, a line every tenth of the way elsewhere."""

    def after_step(self, report: StepReport) -> None:
        done = report.step * BAR // report.total
        line = f"[{'#' * done}{'.' * (BAR - done)}] {report.summary()}"
        last = report.step == report.total
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line:<110}" + ("\n" if last else ""))
        elif last or report.step % max(1, report.total // 10) == 0:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def rounding(dtype: FileDtype, lost: float) -> str:
    """A sentence about what a number format costs; empty when nothing."""
    return f" As {dtype.value} its effect is rounded by {lost:.2%}." if lost else ""


def refuse_existing(args: argparse.Namespace) -> None:
    message = f"File exists: {args.out}. Choose another name, or add --overwrite."
    need(args.overwrite or not args.out.exists(), message, "file.exists")


def need_ending(path: Path, ending: str) -> None:
    message = f"{path} does not end in {ending}: name it {path.name}{ending}."
    need(path.suffix.lower() == ending, message, "file.ending")


def dataset_of(args: argparse.Namespace) -> Dataset:
    """The folder or dataset file of the options."""
    spec = DatasetSpec(args.pairing, args.unequal, args.flip)
    if args.dataset.suffix.lower() == ".json" and args.dataset.is_file():
        buckets, notes = read_dataset_file(args.dataset)
        return read_dataset(buckets, spec, notes=notes)
    sides = {"positive": args.positive_folder, "negative": args.negative_folder}
    folders = bucket_folders(args.dataset, **sides, captions=args.caption_from, trigger=args.trigger, crop=args.crop)
    return read_dataset(folders, spec)


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


def number_or_0(text: str) -> int:
    """A whole number from 0 to 10^6."""
    return 0 if text == "0" else whole_number(10**6)(text)


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
    for side in ("positive", "negative"):
        command.add_argument(f"--{side}-folder", default="", help=f"the folder of the {side} images, where its name says nothing")
    command.add_argument("--flip", action="store_true", help="every pair mirrored as well")


def add_text_options(command: argparse.ArgumentParser) -> None:
    """--target, --positive, --negative and what goes with them."""
    command.add_argument("--target", help="a text slider: the subject prompt")
    command.add_argument("--positive", help="the prompt of +1, whole")
    command.add_argument("--negative", help="the prompt of -1, whole")
    command.add_argument("--hold", default="", help="what to preserve, with commas between")
    command.add_argument("--guidance", type=float, default=TextSliderSpec.guidance, help="how far +1 is pushed")
    command.add_argument("--words-weight", type=float, default=TextSliderSpec.weight, help="weight of the prompts beside images")
    command.add_argument("--latents", type=int, default=TextSliderSpec.count, help="how many the model makes")


def with_text_slider(args: argparse.Namespace, dataset: Dataset | None) -> Dataset:
    """The dataset with the prompts of the options. SliderError where there is neither, or only some of the prompts."""
    missing = [f"--{name}" for name in PROMPTS if getattr(args, name) is None]
    if len(missing) == len(PROMPTS):
        if dataset is None:
            message = "Give --dataset for a slider from images, or --target, --positive and --negative for a text slider."
            raise SliderError(message, "train.no_dataset")
        return dataset
    need(not missing, f"A text slider needs {' and '.join(missing)} too.", "train.prompts_missing")
    text = TextSliderSpec(
        args.target,
        args.positive,
        args.negative,
        held(args.hold),
        guidance=args.guidance,
        weight=args.words_weight,
        count=args.latents,
    )
    return add_text_slider(text, dataset)
