"""The report card (docs/sweeping.md) of the default slider on a measurable world.

    python benchmarks/report_card.py --world heads --attribute smile --steps 150
    python benchmarks/report_card.py --world faces --attribute eyes --objective denoise_rotating --json card.json

Trains as exam.py does, draws 0 to +-1 in six calibrated steps on eight held-out noises, and measures in LPIPS where the package
is installed, else in pixels: the worlds' samplers give pictures alone. A real checkpoint has the node Slider Report Card.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import exam  # noqa: E402
import quality  # noqa: E402
import torch  # noqa: E402

from slider_core.config.sweep import SweepSpec  # noqa: E402
from slider_core.train.calibration_search import calibrate  # noqa: E402
from slider_core.use.perceptual import best_metric  # noqa: E402
from slider_core.use.sweep import SweepResult  # noqa: E402
from slider_core.use.sweep_report import report_card  # noqa: E402
from slider_core.use.sweep_report_shown import table, to_json  # noqa: E402

STRENGTHS = tuple(step / 6 for step in range(-6, 7))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=list(exam.TUNING), default="heads")
    parser.add_argument("--attribute", default="smile")
    parser.add_argument("--objective", default="displacement", choices=list(quality.OBJECTIVES))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    world = exam.World(args.world)
    samples = world.samples(args.attribute, args.seed)
    trainer = exam.trained(world, samples, args.seed, args.steps, quality.OBJECTIVES[args.objective])
    unit = calibrate(world.model, trainer.adapter, samples, args.seed).unit
    columns = [world.drawn(trainer.adapter, strength * unit) for strength in STRENGTHS]
    result = SweepResult(SweepSpec(STRENGTHS, tuple(range(exam.HELD_OUT))), torch.stack(columns, dim=1))
    card = report_card(result, best_metric(result.images, None, torch.device("cpu")), title=f"{args.world}, {args.attribute}")
    sys.stdout.write(table(card) + "\n")
    if args.json:
        args.json.write_text(to_json(card), encoding="utf-8")


if __name__ == "__main__":
    main()
