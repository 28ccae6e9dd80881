"""How much work is a slider, against SimpleTuner's rule? FLOPs of the steps until both draw the same.

    python benchmarks/work.py                  # docs/benchmarks-ready.md quotes it; goes on where it was stopped
    python benchmarks/work.py --report

Both measurable worlds' hardest attributes, six pairs, steps of two pairs, each objective with its authors' own settings
(quality.py) and the rate that the probe finds for it. At some steps the slider is calibrated as the product does and drawn from
held-out noise (frozen.py): effect at strength 1, leak at an equal effect. The FLOPs are those of one step, counted by torch,
times the steps; readings and calibration are left out on both sides.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any
from unittest.mock import patch

import frozen
import quality
import stages
import verdicts
from results import keep, kept
from torch.utils.flop_counter import FlopCounterMode

from slider_core.config.training import TrainSpec
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run

TASKS = (("heads", "smile"), ("faces", "mouth"))
STOPS = {"displacement": (15, 30, 60, 120), "denoise_rotating": (30, 60, 120, 240, 480)}
COUNTED = 3  # the step whose FLOPs are counted


def counting(found: dict[str, float]) -> Any:
    """In place of Trainer._one_step: one of the steps is counted."""
    step = Trainer._one_step

    def counted(trainer: Trainer, *args: Any, **kwargs: Any) -> Any:
        if trainer.step != COUNTED:
            return step(trainer, *args, **kwargs)
        with FlopCounterMode(display=False) as counter:
            done = step(trainer, *args, **kwargs)
        found["flops"] = counter.get_total_flops()
        return done

    return patch.object(Trainer, "_one_step", counted)


def measured(world: str, attribute: str, objective: str, seed: int) -> list[dict[str, Any]]:
    """A row for each stop of one training."""
    model = verdicts.world(world)
    samples = stages.samples_of(model, world, attribute, "ends", seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    stops = STOPS[objective]
    run = Run("slider", {}, Trainer(adapter, samples, spec_of(objective, stops[-1], seed)), verdicts.LORA)
    rows = []
    found: dict[str, float] = {}
    for stop in stops:
        with counting(found):
            run.trainer.run(model, stop, read_every=10**6)
        run.calibrate(model)
        unit = run.measured[1].unit if run.measured else 1.0
        row = {"world": world, "attribute": attribute, "objective": objective, "seed": seed, "steps": stop, "unit": unit}
        row |= {"gflop": found["flops"] * stop / 1e9, "learned": run.trainer.readings[-1].reach}
        rows.append(row | frozen.drawn(model, world, attribute, adapter, unit))
    return rows


def spec_of(objective: str, steps: int, seed: int) -> TrainSpec:
    return TrainSpec(steps=steps, lr=0.0, seed=seed, **quality.OBJECTIVES[objective])


def report(rows: list[dict[str, Any]]) -> str:
    lines = ["| world, attribute | seed | objective | steps | GFLOP | learned | effect | leak at 0.3 |", "|---" * 8 + "|"]
    for row in rows:
        effect, leak = frozen.effect_and_leak([row])
        place = f"{row['world']}, {row['attribute']} | {row['seed']} | {row['objective']} | {row['steps']} | {row['gflop']:.0f}"
        lines.append(f"| {place} | {row['learned']:.1%} | {effect} | {leak} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[4])
    parser.add_argument("--report", action="store_true", help="train nothing")
    out = verdicts.ROOT / "build" / "work.jsonl"
    args = parser.parse_args()
    done = {(row["world"], row["attribute"], row["objective"], row["seed"]) for row in kept(out)}
    for task in [(*task, objective, seed) for seed in args.seeds for task in TASKS for objective in STOPS]:
        if task in done or args.report:
            continue
        for row in measured(*task):
            keep(out, row)
        sys.stderr.write(f"{task}\n")
    print(report(kept(out)))


if __name__ == "__main__":
    main()
