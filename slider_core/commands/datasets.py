"""The options that choose a dataset, or prompts in the place of one, and what they give."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config.checks import SliderError, need
from ..data.bucket_spec import TextSliderSpec, held
from ..data.dataset import Dataset, add_text_slider
from ..data.source import DatasetChoices
from .choices import add_flags, chosen

PROMPTS = ("target", "positive", "negative")


def add_dataset(command: argparse.ArgumentParser, name: str = "--dataset") -> None:
    """The options that choose a dataset."""
    command.add_argument(name, type=Path, help="a folder with positive/ and negative/, or a dataset file")
    add_flags(command.add_argument_group("how images are read"), "dataset")


def dataset_of(args: argparse.Namespace) -> Dataset:
    """The folder or dataset file of the options."""
    return DatasetChoices(**chosen(args, "dataset")).read(args.dataset)


def add_text_options(command: argparse.ArgumentParser) -> None:
    """--target, --positive, --negative and what goes with them."""
    text = command.add_argument_group("prompts, for a text slider")
    text.add_argument("--target", help="the subject prompt")
    text.add_argument("--positive", help="the full prompt of +1")
    text.add_argument("--negative", help="the full prompt of -1")
    add_flags(text, "text")


def training_data(args: argparse.Namespace) -> Dataset:
    """The dataset and the prompts of the options. SliderError where there is neither, or only some of the prompts."""
    dataset = dataset_of(args) if args.dataset else None
    missing = [f"--{name}" for name in PROMPTS if getattr(args, name) is None]
    if len(missing) == len(PROMPTS):
        if dataset is None:
            message = "Give --dataset for a slider from images, or --target, --positive and --negative for a text slider."
            raise SliderError(message, "train.no_dataset")
        return dataset
    need(not missing, f"A text slider needs {' and '.join(missing)} too.", "train.prompts_missing")
    values = chosen(args, "text")
    values["hold"] = held(values["hold"])
    return add_text_slider(TextSliderSpec(args.target, args.positive, args.negative, **values), dataset)


def some_prompt(dataset: Dataset) -> str:
    """The caption of the first positive image that has one, or a text slider's subject; empty where there is neither."""
    captions = [sample.caption for sample in dataset.image_samples if sample.strength > 0 and sample.caption]
    captions += [text.target for text in dataset.text_sliders]
    return next(iter(captions), "")
