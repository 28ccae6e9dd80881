"""doctor: check the pairs of a dataset and say what would hurt."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..data.pairs_report import examine_dataset
from ..lora.safe_files import atomic_write
from ..use.sweep_export import png
from .options import Commands, Shared, add_dataset, dataset_of, need_ending, refuse_existing, say


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("doctor", parents=shared, help="check the pairs of a dataset and say what would hurt")
    add_dataset(command, "dataset")
    command.add_argument("--out", type=Path, help="a PNG to write the contact sheet to")
    command.add_argument("--overwrite", action="store_true")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    if args.out:
        need_ending(args.out, ".png")
        refuse_existing(args)
    dataset = dataset_of(args)
    picture, lines = examine_dataset(dataset)
    say("\n".join([dataset.report, *lines]))
    if args.out:
        atomic_write(args.out, png(picture), args.overwrite)
        say(f"Wrote {args.out}.")
    return {"dataset": str(args.dataset), "pairs": len(dataset.pairs), "findings": lines}
