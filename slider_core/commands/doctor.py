"""doctor: check the pairs of a dataset and say what would hurt."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..config.lora import AdapterSpec
from ..data.pairs_report import examined
from ..lora.safe_files import atomic_write
from ..use.sweep_export import png
from .datasets import add_dataset, dataset_of
from .hosts import add_host, opened, wants_comfy
from .options import Commands, Shared, need_ending, refuse_existing, say


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("doctor", parents=shared, help="check the pairs of a dataset and say what would hurt")
    add_dataset(command, "dataset")
    add_host(command)
    command.add_argument("--out", type=Path, help="a PNG to write the contact sheet to")
    command.add_argument("--overwrite", action="store_true", help="replace an existing file")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.out:
        need_ending(args.out, ".png")
        refuse_existing(args)
    on_model = wants_comfy(args)
    dataset = dataset_of(args)
    examination = examined(dataset)
    say("\n".join([dataset.report, *examination.report]))
    if on_model:
        with opened(args) as host:
            likes = host.likes
            say(f"{likes.title}: trained at {likes.training.resolution} pixels, {likes.training.batch} images in a step.")
            say(host.select(AdapterSpec()).report())
    if args.out:
        atomic_write(args.out, png(examination.sheet), args.overwrite)
        say(f"Wrote {args.out}.")
    return {"dataset": str(args.dataset), "pairs": len(dataset.pairs), "findings": examination.lines}
