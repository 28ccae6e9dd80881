"""Is the found learning rate near the best? Every algorithm and rank on both measurable worlds, at a sweep of rates.

    python benchmarks/rates.py                          # goes on where it was stopped; about half an hour of one core
    python benchmarks/rates.py --report                 # what was measured so far, and no more

What is compared is what a slider has learned after STEPS steps, at the strength that explains most (Reading.reach, on noise that
no step is trained on). The sweep is in times the rate that the probe finds, and goes on past its ends while the end is the best.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import verdicts
from results import keep, kept

from slider_core.config.checks import SliderError
from slider_core.config.lora import AdapterSpec, Algorithm
from slider_core.config.training import TrainSpec

STEPS, EARLY = 100, 30
FACTORS = (1.0, 2.0)  # times the probe's, that are tried first
FURTHEST = (1 / 16, 32.0)
ADAPTERS = {
    **{f"lora {rank}": AdapterSpec(rank=rank, alpha=float(rank)) for rank in (4, 1, 32, 16)},
    **{f"rslora {rank}": AdapterSpec(rank=rank, alpha=float(rank), algorithm=Algorithm.RSLORA) for rank in (4, 32)},
    **{kind.value: AdapterSpec(algorithm=kind) for kind in Algorithm if kind not in (Algorithm.LORA, Algorithm.RSLORA)},
}
ATTRIBUTES = {"faces": "eyes", "heads": "eye"}
Row = dict[str, Any]


def trained(task: Row, model: Any, rate: float) -> Row:
    """STEPS steps at `rate`."""
    spec = TrainSpec(steps=STEPS, lr=rate, any_rate=True, seed=task["seed"])
    run = verdicts.fresh(task, model, ADAPTERS[task["adapter"]], spec)
    try:
        for until, every in ((EARLY, 10), (STEPS, STEPS)):
            run.trainer.run(model, until, read_every=every)
    except SliderError as fault:
        return task | {"fault": fault.code, "rate": rate, "learned": 0.0}
    course = [(r.step, round(r.mean, 4), round(r.strength, 3), round(r.reach, 4)) for r in run.trainer.readings]
    return task | {"rate": rate, "learned": run.trainer.readings[-1].reach, "course": course}


def probed(task: Row, model: Any) -> float:
    run = verdicts.fresh(task, model, ADAPTERS[task["adapter"]], TrainSpec(steps=1, lr=0.0, seed=task["seed"]))
    run.trainer.run(model, 1)
    return float(run.trainer.rate)


def swept(task: Row, model: Any, done: list[Row]) -> Iterator[Row]:
    """The rows of one adapter on one world that `done` lacks."""
    have = {row["factor"]: row for row in done}
    rate = next((row["rate"] / row["factor"] for row in done), 0.0) or probed(task, model)
    while True:
        missing = [factor for factor in FACTORS if factor not in have]
        if not missing:
            best = max(have, key=lambda factor: have[factor]["learned"])
            missing = [2 * best] if best == max(have) else [best / 2] if best == min(have) else []
            missing = [f for f in missing if FURTHEST[0] <= f <= FURTHEST[1] and f * rate <= 1]
        if not missing:
            return
        row = trained(task | {"factor": missing[0]}, model, missing[0] * rate)
        have[missing[0]] = row
        yield row


def same(row: Row, task: Row) -> bool:
    return all(row.get(name) == task[name] for name in ("world", "attribute", "seed", "adapter"))


def report(rows: list[Row]) -> str:
    """What is learned at each rate over what is learned at the best one."""
    factors = sorted({row["factor"] for row in rows})
    heads = " | ".join(f"x {factor:g}" for factor in factors)
    lines = [f"| world, attribute | adapter | probe's rate | {heads} |", "|---" * (3 + len(factors)) + "|"]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in ("adapter", "world", "attribute", "seed")), []).append(row)
    for (adapter, world, attribute, _seed), group in sorted(groups.items()):
        best = max(row["learned"] for row in group) or 1.0
        by_factor = {row["factor"]: row for row in group}
        cells = [f"{by_factor[f]['learned'] / best:.0%}" if f in by_factor else "" for f in factors]
        rate = group[0]["rate"] / group[0]["factor"]
        lines.append(f"| {world}, {attribute} | {adapter} | {rate:.2g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="*", choices=list(ATTRIBUTES), default=list(ATTRIBUTES))
    parser.add_argument("--attributes", nargs="*", default=[], help="one for each world")
    parser.add_argument("--adapters", nargs="*", default=list(ADAPTERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after so many")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=verdicts.ROOT / "build" / "rates.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    attributes = dict(zip(args.worlds, args.attributes or [ATTRIBUTES[world] for world in args.worlds], strict=True))
    models = {world: verdicts.world(world) for world in args.worlds}
    start = time.monotonic()
    for adapter, world in [] if args.report else itertools.product(args.adapters, args.worlds):
        task = {"world": world, "attribute": attributes[world], "case": "rate", "seed": args.seed, "adapter": adapter}
        for row in swept(task, models[world], [row for row in rows if same(row, task)]):
            rows.append(row)
            keep(args.out, row)
            sys.stderr.write(f"{time.monotonic() - start:.0f} s {world} {adapter} x {row['factor']:g} {row['learned']:.3f}\n")
            if time.monotonic() - start > args.seconds:
                break
        if time.monotonic() - start > args.seconds:
            break
    print(report(rows))


if __name__ == "__main__":
    main()
