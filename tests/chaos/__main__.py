"""Kills, interrupts, failing disks, two processes on one name, and hostile inputs, from a seed: `make test-chaos`.

    python -m chaos [--seed 0] [--lives 1.0] [--inputs 1.0]     with tests/ and the repository on PYTHONPATH

`--lives` and `--inputs`: shares of the full counts. Prints a table of what was tried and how often; exit
status 1 where anything broke.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from chaos.hostile import hostile_inputs
from chaos.lives import KINDS, lives

from slider_core.commands.options import say

LIVES = dict(zip(KINDS, (190, 220, 40, 30, 40), strict=True))
INPUTS = 2100


def told(kind: str, results: list[dict[str, Any]]) -> bool:
    """Print the faults of a kind, and its line of the table; whether there were any."""
    faults = [(result.get("trial", ""), fault) for result in results for fault in _faults(result)]
    for trial, fault in faults[:20]:
        say(f"FAULT in {trial}: {fault}\n")
    tried = sum(result.get("tried", 1) for result in results)
    refused = sum(result.get("refused", 0) for result in results)
    codes = {code for result in results for code, _ in result.get("codes", ())}
    words = f" {refused} refused, {len(codes)} codes |" if codes else ""
    say(f"| {kind} | {tried} | {len(faults)} |{words}")
    return bool(faults)


def _faults(result: dict[str, Any]) -> list[str]:
    return [*result.get("faults", ()), *([result["fault"]] if "fault" in result else [])]


def main() -> int:
    options = argparse.ArgumentParser(prog="python -m chaos")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--lives", type=float, default=1.0, help="of the full counts")
    options.add_argument("--inputs", type=float, default=1.0, help="of the full counts")
    options.add_argument("--at-once", type=int, default=os.cpu_count() or 1)
    args = options.parse_args()
    torch.set_num_threads(1)
    start = time.monotonic()
    broke = False
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        if args.lives:
            counts = {kind: math.ceil(args.lives * count) for kind, count in LIVES.items()}
            for kind, results in lives(Path(folder), counts, args.seed, args.at_once).items():
                broke |= told(kind, results)
        if args.inputs:
            for kind, results in hostile_inputs(Path(folder), args.inputs * INPUTS, args.seed, args.at_once).items():
                broke |= told(kind, results)
    say(f"seed {args.seed}, {time.monotonic() - start:.0f} s, {'FAULTS' if broke else 'no fault'}")
    return int(broke)


if __name__ == "__main__":
    sys.exit(main())
