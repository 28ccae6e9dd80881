"""When is a slider ready? What it draws when its rate falls after 60, 100 or 240 steps. docs/benchmarks-ready.md quotes it.

    python benchmarks/ready.py                 # goes on where it was stopped; about an hour of one core
    python benchmarks/ready.py --report

The default objective at the found rate, six pairs, on the attributes for tuning (exam.py). The rate stays until the step, then
falls for half as many more (train/progress_ready.py), whatever the readings say; calibrated and drawn as in the exam.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import exam
from results import keep, kept

from slider_core.train import trainer as trainer_module

FALLS = (60, 100, 240)
THIRDS = (60, 90)  # between these steps what is learned grows over the last third


def measured(world: str, attribute: str, seed: int, first: int) -> dict[str, Any]:
    place = exam.World(world)
    end = first + first // 2
    with patch.object(trainer_module, "fall_of", return_value=(first, end)):
        trainer = exam.trained(place, place.samples(attribute, seed), seed, end, {"steps": 0})
    found = exam.judged(place, trainer, attribute)
    learned = {reading.step: reading.mean for reading in trainer.readings}
    return {"world": world, "attribute": attribute, "seed": seed, "first": first, "learned": learned} | found


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line per attribute and fall, means over the seeds."""
    heads = ("attribute", "rate falls at", "ends at", "seeds", "share at +-1", "largest", "leak at 40%", "monotone +-2", "R2")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for world, attribute in dict.fromkeys((row["world"], row["attribute"]) for row in rows):
        for first in FALLS:
            some = [row for row in rows if (row["world"], row["attribute"], row["first"]) == (world, attribute, first)]
            if not some:
                continue
            shares = ", ".join(f"{row['share']:.2f}" for row in some)
            cells = [f"{world}, {attribute}", str(first), str(first + first // 2), str(len(some)), shares]
            cells += [exam.mean([row["largest"] for row in some], ".2f"), exam.mean([row["leak"]["0.4"] for row in some])]
            cells += [f"{sum(row['monotone'] for row in some)} of {len(some)}", exam.mean([row["linearity"] for row in some])]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def growth(rows: Sequence[dict[str, Any]]) -> list[float]:
    """At step 90, of each training whose rate falls last: by what part of itself the learned share grew over the last third."""
    found = []
    for row in (row for row in rows if row["first"] == FALLS[-1]):
        learned = {int(step): share for step, share in row["learned"].items()}
        before = max(share for step, share in learned.items() if step <= THIRDS[0])
        found.append((learned[THIRDS[1]] - before) / abs(learned[THIRDS[1]]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    worlds = [world for world, attributes in exam.TUNING.items() if attributes]
    parser.add_argument("--worlds", nargs="+", choices=worlds, default=worlds)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=exam.ROOT / "build" / "ready.jsonl")
    args = parser.parse_args()
    done = {(row["world"], row["attribute"], row["seed"], row["first"]) for row in kept(args.out)}
    for seed, world in itertools.product(range(args.seeds), () if args.report else args.worlds):
        for task in itertools.product([world], exam.TUNING[world], [seed], FALLS):
            if task not in done:
                keep(args.out, measured(*task))
                sys.stderr.write(f"{task}\n")
    rows = kept(args.out)
    print(table(rows))
    print("\nGrowth over the last third at step 90:", ", ".join(f"{value:.0%}" for value in sorted(growth(rows))))


if __name__ == "__main__":
    main()
