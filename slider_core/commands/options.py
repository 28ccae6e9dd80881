"""What the commands share: what they print, and how they read their options."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ..config.checks import need
from ..lora.slider_file import Slider
from ..ranks import is_first
from ..train.step_report import StepReport
from ..train.trainings_driver import Observer

Commands = Any  # what argparse's add_subparsers returns: its class is private
Options = Any  # a parser, or a group of its options under one title: their common class is private
Shared = list[argparse.ArgumentParser]
BAR = 24


def say(text: str) -> None:
    """A line for the reader; of several processes the first speaks."""
    if not is_first():
        return
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def add_strict(command: argparse.ArgumentParser) -> None:
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
        if not is_first():
            return
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{line:<110}")
            if last:
                sys.stderr.write("\n")
        elif last or report.step % max(1, report.total // 10) == 0:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()


def refuse_existing(args: argparse.Namespace) -> None:
    message = f"File exists: {args.out}. Choose another name, or add --overwrite."
    need(args.overwrite or not args.out.exists(), message, "file.exists")


def need_ending(path: Path, ending: str) -> None:
    message = f"{path} does not end in {ending}: name it {path.name}{ending}."
    need(path.suffix.lower() == ending, message, "file.ending")


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One clear line, as for every other fault."""
        if "--strengths: expected one argument" in message:  # a leading minus reads as an option
            message += '; write --strengths="-2,0,2"'
        self.exit(2, f"Error: {message}. See {self.prog} --help.\n")


def whole_number(most: int, least: int = 1) -> Callable[[str], int]:
    """What reads a whole number from `least` to `most`."""

    def read(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f'"{text}" is not a whole number from {least} to {most}')
        return value

    return read


number_or_0 = whole_number(10**6, least=0)
seed_number = whole_number(2**63 - 1, least=0)
