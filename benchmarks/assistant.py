"""Sliders for a model that is distilled to four steps: with a training adapter (an assistant) and without.

    python benchmarks/assistant.py --attributes eyes --seeds 2          # goes on where it was stopped
    python benchmarks/assistant.py --report

The model is worlds/turbo.py's. Every slider is trained as the exam trains (exam.py): on the distilled model as it is, or with the
assistant on it; at the few levels of its sampler, or at those of an ordinary model. All are drawn without the assistant in four
steps at cfg 1. EXAM was never used to choose anything.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any

from exam import PAIRS, World, drawn_faces, judged, keep, kept, mean, read_faces, trained

ROOT = Path(__file__).resolve().parent.parent

import quality  # noqa: E402
import torch  # noqa: E402
from turbo import FEW, TurboBackend  # noqa: E402

from slider_core.config.training import Timesteps  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.train.measurement import measure_any  # noqa: E402
from slider_core.with_tiny.faces import CONTINUOUS, UNIFORM_STD  # noqa: E402

TUNING, EXAM = ("eyes", "mouth"), ("size",)
OBJECTIVES = ("displacement", "teacher_difference", "denoise_rotating")
WAYS = {f"{on}, {levels}": (on, levels) for on in ("alone", "assistant") for levels in ("few_step", "ordinary")}
STEPS = 150


class Turbo(World):
    """Trained on with the assistant or without, drawn without."""

    names = CONTINUOUS
    gap, spread = quality.GAP, UNIFORM_STD

    def __init__(self, assistant: bool) -> None:
        torch.set_num_threads(1)
        self.name = "turbo faces"
        self.model = TurboBackend(assistant=assistant)
        self.plain = TurboBackend()

    def samples(self, attribute: str, seed: int) -> list[Sample]:
        return quality.images(self.model, attribute, PAIRS, seed, unpaired=False)

    def drawn(self, adapter: Adapter | None, strength: float) -> torch.Tensor:
        return drawn_faces(self.plain, adapter, strength, FEW)

    def read(self, images: torch.Tensor) -> torch.Tensor:
        return read_faces(images)


def choices(objective: str, levels: str) -> dict[str, Any]:
    """As the exam has them, or at the sampler's levels."""
    few = {"timesteps": Timesteps.FEW_STEP, "few_steps": FEW} if levels == "few_step" else {}
    return quality.OBJECTIVES[objective] | few


def run(task: dict[str, Any]) -> dict[str, Any]:
    """One slider. `again`: the share at strength 1 as Slider Calibrate finds it on the model that the slider is used on."""
    on, levels = WAYS[task["way"]]
    world = Turbo(on == "assistant")
    samples, begun = world.samples(task["attribute"], task["seed"]), time.monotonic()
    trainer = trained(world, samples, task["seed"], task["steps"], choices(task["objective"], levels))
    seconds = time.monotonic() - begun
    found = judged(world, trainer, task["attribute"])
    unit = measure_any(world.plain, trainer.adapter, samples).unit
    curve = world.curve(trainer.adapter, unit, (-1.0, 1.0))
    found |= {"again": curve.effect(task["attribute"]) / world.gap, "unit_again": unit, "rate": trainer.rate}
    return task | found | {"seconds": round(seconds, 1)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line per attribute, objective and way of training, means over the seeds."""
    heads = ("attribute", "objective", "trained on", "levels", "share at +-1", "by seed", "calibrated again", "largest")
    heads = (*heads, "leak at 20%", "leak at 40%", "R2")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for place in itertools.product((*TUNING, *EXAM), OBJECTIVES, WAYS):
        some = [r for r in rows if (r["attribute"], r["objective"], r["way"]) == place]
        if not some:
            continue
        by_seed = ", ".join(f"{r['share']:.2f}" for r in some)
        cells = [*place[:2], *WAYS[place[2]], mean([r["share"] for r in some], ".2f"), by_seed]
        cells += [mean([r[name] for r in some], ".2f") for name in ("again", "largest")]
        cells += [mean([r["leak"][str(e)] for r in some]) for e in (0.2, 0.4)]
        cells.append(mean([r["linearity"] for r in some]))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("attribute", "objective", "way", "seed", "steps"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attributes", nargs="+", choices=(*TUNING, *EXAM), default=[*TUNING, *EXAM])
    parser.add_argument("--objectives", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "assistant.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    done = {key(row) for row in rows}
    tasks = [
        {"attribute": attribute, "objective": objective, "way": way, "seed": seed, "steps": args.steps}
        for attribute in args.attributes
        for seed in range(args.seeds)
        for objective in args.objectives
        for way in args.ways
    ]
    for task in tasks if not args.report else []:
        if key(task) in done:
            continue
        rows.append(run(task))
        keep(args.out, rows[-1])
        sys.stderr.write(f"{key(task)} share {rows[-1]['share']:.2f}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
