"""Does a slider of motion move? Speed, heading, size and light on the world of clips, from clips and from single frames.

    python benchmarks/clips.py                 # goes on where it was stopped
    python benchmarks/clips.py --report

Six pairs of clips (or of single frames of one moment each) that differ in the attribute alone, 150 steps of 4, each objective
as its authors have it (quality.py) at the probe's rate, calibrated by the product. Sixteen clips are drawn from held-out noise,
also for sliders from frames. Shares of the pairs' own gap; leak: mean change of the other attributes (speed, heading, size,
light) from the clips without a slider, in standard deviations of the world, where the effect is that share of the gap. Motion:
the same of speed and heading alone (of the one that is not trained) at +-1. Ball read, way kept: the share of clips whose ball
is read in all frames there, and of those the share that goes the way it went without a slider.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import quality
import torch
import verdicts  # sets the path to worlds/
from balls import EXTREME, FRAMES, BallsBackend, pairs, read
from results import keep, kept

from slider_core.config.lora import AdapterSpec
from slider_core.config.training import TrainSpec
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.progress_verdict import judge
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run
from slider_core.with_tiny.faces import UNIFORM_STD
from slider_core.with_tiny.model_sweep import Curve

NAMES = ("speed", "heading", "size", "light")
MOTION = ("speed", "heading")
BOTH, RIGHT = "both ways", "to the right"
TASKS = (
    ("speed", FRAMES, BOTH),
    ("speed", FRAMES, RIGHT),
    ("heading", FRAMES, BOTH),
    ("size", FRAMES, BOTH),
    ("light", FRAMES, BOTH),
    ("size", 1, BOTH),
    ("light", 1, BOTH),
)
OBJECTIVES = ("displacement", "denoise_rotating")
STRENGTHS = (-4.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 4.0)
EQUAL, GAP = 0.4, 2 * EXTREME
PAIRS, STEPS, HELD_OUT = 6, 150, 16


@dataclass
class Shown:
    """What held-out clips show at calibrated strengths."""

    curve: Curve
    wobble: list[float]  # pixels off the line
    moved: list[dict[str, float]]  # mean change from the bare clips, in standard deviations of the world
    ball: list[float]  # share of clips with a ball that can be read in every frame
    way: list[float]  # share of those that keep their way


def shown(model: BallsBackend, adapter: Adapter, unit: float, ways: str) -> Shown:
    seeds = [seed for seed in range(2 * HELD_OUT) if ways == BOTH or model.prompt(seed).endswith("right")][:HELD_OUT]
    bare = read(model.draw(None, 0.0, seeds))
    at = [read(model.draw(adapter, strength * unit, seeds)) for strength in STRENGTHS]
    moved = [{name: float((seen[name] - bare[name]).abs().nanmean()) / UNIFORM_STD for name in NAMES} for seen in at]
    leak = {name: [statistics.mean(drift[o] for o in NAMES if o != name) for drift in moved] for name in NAMES}
    mean = {name: [float(seen[name].nanmean()) for seen in at] for name in NAMES}
    wobble = [float(seen["wobble"].nanmean()) for seen in at]
    there = [seen["way"].isfinite() for seen in at]
    way = [float((seen["way"] == bare["way"])[found].float().mean()) for seen, found in zip(at, there, strict=True)]
    return Shown(Curve(STRENGTHS, mean, {}, leak), wobble, moved, [float(found.float().mean()) for found in there], way)


def measured(model: BallsBackend, attribute: str, frames: int, ways: str, objective: str, seed: int) -> dict[str, Any]:
    samples = pairs(model, attribute, PAIRS, seed, frames, ways == RIGHT)
    adapter = Adapter.create(model.module, survey(model.module, AdapterSpec()).targets, AdapterSpec(), seed=seed)
    spec = TrainSpec(steps=STEPS, lr=0.0, batch=4, seed=seed, **quality.OBJECTIVES[objective])
    run = Run("slider", {}, Trainer(adapter, samples, spec), AdapterSpec())
    start = time.process_time()
    run.trainer.run(model, STEPS)
    run.calibrate(model)
    seconds = round(time.process_time() - start)
    unit = run.measured[1].unit if run.measured else 1.0
    seen = shown(model, adapter, unit, ways)
    curve, ends = seen.curve, [STRENGTHS.index(-1.0), STRENGTHS.index(1.0)]
    motion = [name for name in MOTION if name != attribute]
    row = {"attribute": attribute, "frames": frames, "ways": ways, "objective": objective, "seed": seed, "unit": unit}
    return row | {
        "share": curve.effect(attribute) / GAP,
        "largest": max(curve.effect(attribute, -s, s) for s in STRENGTHS if s > 0) / GAP,
        "leak": {str(EQUAL): quality.leak_at(curve, attribute, EQUAL * GAP)},
        "leak at 1": statistics.mean(curve.leak[attribute][i] for i in ends),
        "motion": statistics.mean(seen.moved[i][name] for i in ends for name in motion),
        "ball": statistics.mean(seen.ball[i] for i in ends),
        "way": statistics.mean(seen.way[i] for i in ends),
        "monotone": curve.monotone(attribute, -2.0, 2.0),
        "wobble": [seen.wobble[STRENGTHS.index(s)] for s in (-1.0, 0.0, 1.0)],
        "curve": curve.mean[attribute],
        "seconds": seconds,
        "verdict": run.verdict(),
        "judged": judge(run.evidence()).value,
    }


COLUMNS = {  # of the report: a figure of each row, or its mean over the seeds
    "share at +-1, each seed": lambda some: ", ".join(_figure(row["share"]) for row in some),
    "verdict": lambda some: ", ".join(row["judged"].replace("_", " ") for row in some),
    "leak at +-1": lambda some: _mean(some, "leak at 1"),
    "leak at 40 %": lambda some: quality.mean([row["leak"][str(EQUAL)] for row in some]),
    "motion at +-1": lambda some: _mean(some, "motion"),
    "ball read": lambda some: _mean(some, "ball"),
    "way kept": lambda some: _mean(some, "way"),
    "s": lambda some: f"{statistics.mean(row['seconds'] for row in some):.0f}",
}


def _figure(share: float) -> str:
    return "no ball" if math.isnan(share) else f"{share:.2f}"


def _mean(some: list[dict[str, Any]], name: str) -> str:
    """The mean where there is a ball."""
    values = [row[name] for row in some if not math.isnan(row[name])]
    return f"{statistics.mean(values):.2f}" if values else "no ball"


def report(rows: list[dict[str, Any]]) -> str:
    head = ("attribute", "trained on", "objective", *COLUMNS)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    names = ("attribute", "frames", "ways", "objective")
    for group in sorted(dict.fromkeys(tuple(row[name] for name in names) for row in rows), key=_order):
        some = sorted((row for row in rows if tuple(row[name] for name in names) == group), key=lambda row: row["seed"])
        trained_on = ("clips" if group[1] > 1 else "single frames") + (", all to the right" if group[2] == RIGHT else "")
        lines.append("| " + " | ".join([group[0], trained_on, group[3], *(cell(some) for cell in COLUMNS.values())]) + " |")
    return "\n".join(lines)


def _order(group: tuple[Any, ...]) -> tuple[int, int]:
    return TASKS.index(group[:3]), OBJECTIVES.index(group[3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=verdicts.ROOT / "build" / "clips.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    done = {(row["seed"], row["attribute"], row["frames"], row["ways"], row["objective"]) for row in rows}
    torch.set_num_threads(1)
    model, start = BallsBackend(), time.monotonic()
    wanted = [(s, *task, objective) for s in range(args.seeds) for objective in OBJECTIVES for task in TASKS]
    for seed, attribute, frames, ways, objective in [one for one in wanted if one not in done]:
        if args.report or time.monotonic() - start > args.seconds:
            break
        rows.append(measured(model, attribute, frames, ways, objective, seed))
        keep(args.out, rows[-1])
        sys.stderr.write(f"{attribute} {frames} {ways} {objective} {seed} share {rows[-1]['share']:.2f}\n")
    print(report(rows))


if __name__ == "__main__":
    main()
