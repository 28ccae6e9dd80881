"""Does the probe foretell what a slider becomes? docs/benchmarks-verdicts.md quotes what this prints.

    python benchmarks/probe.py                 # goes on where it was stopped; some minutes of one core
    python benchmarks/probe.py --report

On both measurable worlds, every attribute, good sets of six pairs, and sets of which about half of the pairs are the wrong
way round. Before training the probe measures what they ask (train/direction.py); then a slider is trained for 100 steps at the
rate found for it, calibrated, and its effect is read on held-out noise: how far it moves its attribute from -1 to +1, over the
images' own gap.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
from pathlib import Path
from typing import Any

import verdicts
from results import keep, kept

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import TrainSpec
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.direction import LEVELS, Asked, asked

STEPS = 100


def measured(task: dict[str, Any]) -> dict[str, Any]:
    model = verdicts.world(task["world"])
    run = verdicts.fresh(task, model, verdicts.LORA, TrainSpec(steps=STEPS, lr=0.0, seed=task["seed"]))
    every = survey(model.module, AdapterSpec(preset="all")).targets
    adapter = Adapter.create(model.module, every, verdicts.LORA, seed=task["seed"])
    seen = asked(model, adapter, run.trainer.samples, run.trainer.spec)
    chosen = [target.path for target in survey(model.module, verdicts.LORA).targets]
    run.trainer.run(model, STEPS)
    run.calibrate(model)
    figures = {"agreement": seen.agreement, "agreements": seen.agreements, "sizes": seen.sizes, "by_noise": seen.by_noise}
    figures |= {
        "window": seen.window,
        "auto": seen.share_of(chosen),
        "layers": seen.layers[:3],
    }
    return task | figures | {"share": verdicts.share_of(task, model, run), "aligned": run.trainer.samples[0].aligned}


def found(agreement: float) -> str:
    """What the product says of it."""
    return Asked(agreement, (), (), 0.0, (), 0).direction.value


def ranks(values: list[float]) -> list[int]:
    """The place of each value in their order."""
    return [sorted(values).index(value) for value in values]


def report(rows: list[dict[str, Any]]) -> str:
    lines = ["| world, attribute | set | agreement | by noise | levels | found | effect |", "|---" * 7 + "|"]
    for row in rows:
        low, high = row["window"]
        name = f"{row['world']}, {row['attribute']}"
        agreement = row["agreement"]
        figures = f"{agreement:.2f} | {row['by_noise']:.2f} | {low:.2g} to {high:.2g} | {found(agreement)} | {row['share']:.2f}"
        lines.append(f"| {name} | {row['case']} {row['seed']} | {figures} |")
    for what, some in (("all", rows), *((name, [row for row in rows if row["world"] == name]) for name in verdicts.WORLDS)):
        if len(some) > 2:
            both = [[row[key] for row in some] for key in ("agreement", "share")]
            ranked = statistics.correlation(*map(ranks, both))
            lines.append(f"{what}, {len(some)} sets: r {statistics.correlation(*both):.2f}, rank correlation {ranked:.2f}")
    best = [LEVELS[row["sizes"].index(1.0)] for row in rows if row["case"] == "good"]
    lines.append(f"levels of the largest step: {sorted(best)}; share of auto's layers {[round(row['auto'], 2) for row in rows]}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=verdicts.ROOT / "build" / "probe.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    done = {(row["world"], row["attribute"], row["case"], row["seed"]) for row in rows}
    places = [(name, attribute) for name, attributes in verdicts.WORLDS.items() for attribute in attributes]
    wanted = [("good", 0), ("shuffled", 0), ("good", 1)]
    for (case, seed), (world, attribute) in itertools.product(wanted, places):
        if args.report or (world, attribute, case, seed) in done:
            continue
        row = measured({"world": world, "attribute": attribute, "case": case, "seed": seed})
        keep(args.out, row)
        sys.stderr.write(f"{world} {attribute} {case} {seed}: {row['agreement']:.2f} {row['share']:.2f}\n")
    print(report(kept(args.out)))


if __name__ == "__main__":
    main()
