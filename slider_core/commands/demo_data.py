"""demo-data: write positive/ and negative/ images of the built-in world."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..with_tiny.faces_pairs import make_pairs, write_pairs
from .options import Commands, Shared, say, seed_number, whole_number


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("demo-data", parents=shared, help="write positive/ and negative/ images of the built-in world")
    command.add_argument("--attribute", required=True, help="mouth, eyes, size, x, y, skin or background")
    command.add_argument("--pairs", type=whole_number(10**4), default=6, help="how many pairs")
    command.add_argument("--seed", type=seed_number, default=0, help="which faces")
    command.add_argument("--unpaired", action="store_true", help="the two sides show different faces")
    command.add_argument("--out", type=Path, required=True, help="a new or empty folder")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    write_pairs(args.out, make_pairs(args.attribute, args.pairs, args.seed, args.unpaired))
    say(f"Wrote {args.pairs} positive and {args.pairs} negative images to {args.out}.")
    return {"out": str(args.out), "attribute": args.attribute, "pairs": args.pairs, "unpaired": args.unpaired}
