"""demo: train a slider on the shipped pairs and prove it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..config.training import TrainSpec
from ..with_tiny.model_sweep import table
from ..with_tiny.smile_demo import run_demo
from .options import Commands, Progress, Shared, say, seed_number, whole_number


def add(commands: Commands, shared: Shared) -> None:
    command = commands.add_parser("demo", parents=shared, help="train a slider on the shipped pairs and prove it")
    command.add_argument("--out", type=Path, default=Path("demo-out"), help="folder; files of an earlier demo are replaced")
    command.add_argument("--steps", type=whole_number(10**6), default=TrainSpec.steps, help="training steps")
    command.add_argument("--seed", type=seed_number, default=0, help="noise and order of the training")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> dict[str, Any]:
    spec = TrainSpec(steps=args.steps, seed=args.seed)
    say(f"Training a smile slider on the shipped pairs: {spec.steps} steps of {spec.objective.value} ...")
    report = run_demo(args.out, spec, seeds=12, observer=Progress())
    say(table(report["strengths"], report["mean"], report["kept"]))
    say(f"mouth moves by {report['effect']:+.2f} from -1 to +1; {report['verdict']} ({report['seconds']:.0f} s)")
    say(f"Look at {args.out / 'strip.png'} and {args.out / 'curve.png'}; the slider is {args.out / 'slider.safetensors'}.")
    return report
