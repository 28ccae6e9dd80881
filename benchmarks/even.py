"""Do the steps of a dial look even? Of the dial as it is, and of the one that a sweep gives (units: even_steps).

    DICEBEAR_PATH=... python benchmarks/even.py --seeds 2        # goes on where it was stopped
    python benchmarks/even.py --report                           # the table of what was measured so far

A default slider of 150 steps; attributes for tuning (exam.py), of the avatars two that choose nothing. The dial is measured on
noises of its own, at strengths that lie evenly over the useful range, as Slider Report Card does it. Then STEPS steps a side,
from 0 to the end of the useful range, are drawn from eight held-out noises: with the dial off, evenly in strength, with it on,
evenly in places.
The worlds' samplers give pictures alone, so distances are root mean squares of pixels.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results import keep, kept

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import exam  # noqa: E402
import torch  # noqa: E402

from slider_core.config.sweep import SweepSpec  # noqa: E402
from slider_core.lora.calibration import Units  # noqa: E402
from slider_core.lora.even_steps import EvenSteps  # noqa: E402
from slider_core.lora.info import SliderInfo  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.use.perceptual import Metric, root_mean_square  # noqa: E402
from slider_core.use.sweep import SweepResult  # noqa: E402
from slider_core.use.sweep_steps import measured_steps  # noqa: E402

ATTRIBUTES = {name: some for name, some in exam.TUNING.items() if some} | {"avatars": ("mouth", "eyes")}
TRAINED, STEPS = 150, 4  # steps of the training; of the dial, on each side
FINE = 13  # strengths that are drawn; a coarser dial has every other of them
DIALS = ((7, 4), (7, 8), (7, 30), (13, 8), (13, 30))  # strengths, noises
SHOWN = (7, 8)
KEY = ("world", "attribute", "seed")


def drawn(world: exam.World, adapter: Adapter, unit: float, strengths: Sequence[float], seeds: Sequence[int]) -> torch.Tensor:
    """(seeds, strengths, 3, H, W) at calibrated strengths."""
    world.seeds = seeds
    return torch.stack([world.drawn(adapter, strength * unit) for strength in strengths], dim=1)


def dial_of(images: torch.Tensor, strengths: Sequence[float]) -> EvenSteps | None:
    """As Slider Report Card measures it on a sweep."""
    result = SweepResult(SweepSpec(tuple(strengths), tuple(range(len(images)))), images)
    metric = Metric("pixels", images, root_mean_square)
    return measured_steps(result, metric, SliderInfo(), Units.CALIBRATED)


def figures(world: exam.World, images: torch.Tensor, attribute: str) -> dict[str, float]:
    """Of pictures (seeds, 2 STEPS + 1, ...) from the low end to the high one, means of both sides: how uneven the steps are, and
    how straight a line what is read makes over them."""
    column = list(world.names).index(attribute)
    read = [float(world.read(images[:, place])[:, column].nanmean()) for place in range(images.shape[1])]
    every = []
    for first in (0, STEPS):
        side = images[:, first : first + STEPS + 1]
        steps = [float(root_mean_square(side[:, place], side[:, place + 1]).mean()) for place in range(STEPS)]
        spread = statistics.pstdev(steps) / statistics.mean(steps)
        straight = statistics.correlation(range(STEPS + 1), read[first : first + STEPS + 1]) ** 2
        every.append({"spread": spread, "largest": max(steps) / min(steps), "straight": straight})
    return {name: statistics.mean(side[name] for side in every) for name in every[0]}


def run(task: dict[str, Any]) -> dict[str, Any]:
    """One slider: both ways of going from one end of its useful range to the other."""
    world, attribute = exam.World(task["world"]), task["attribute"]
    trainer = exam.trained(world, world.samples(attribute, task["seed"]), task["seed"], TRAINED, {})
    _, calibration, _ = exam.measured(world, trainer)
    adapter, unit = trainer.adapter, calibration.unit
    ends = [side.end / unit if side else 1.0 for side in (calibration.minus, calibration.plus)]
    low, high = (max(1.0, end) for end in ends)
    fine = [*torch.linspace(-low, 0, FINE // 2 + 1).tolist(), *torch.linspace(0, high, FINE // 2 + 1).tolist()[1:]]
    learned = drawn(world, adapter, unit, fine, range(100, 100 + max(noises for _, noises in DIALS)))
    even = [*torch.linspace(-low, 0, STEPS + 1).tolist(), *torch.linspace(0, high, STEPS + 1).tolist()[1:]]
    off = figures(world, drawn(world, adapter, unit, even, range(exam.HELD_OUT)), attribute)
    on: dict[str, Any] = {}
    for strengths, noises in DIALS:
        every = slice(None, None, (FINE - 1) // (strengths - 1))
        dial = dial_of(learned[:noises, every], fine[every])
        if dial is None:
            continue
        ends = dial.points[0][0], dial.points[-1][0]
        places = [*torch.linspace(ends[0], 0, STEPS + 1).tolist(), *torch.linspace(0, ends[1], STEPS + 1).tolist()[1:]]
        images = drawn(world, adapter, unit, [dial.strength(place) for place in places], range(exam.HELD_OUT))
        on[f"{strengths}, {noises}"] = {"points": dial.points} | figures(world, images, attribute)
    return task | {"ends": [-low, high], "off": off, "on": on}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line an attribute, means over the seeds, then how much the strengths and noises of the dial matter."""
    heads = ("attribute", "useful range", "spread off", "on", "largest over smallest off", "on", "R2 of what is read, off", "on")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    dial = f"{SHOWN[0]}, {SHOWN[1]}"
    for world, some in ATTRIBUTES.items():
        for attribute in some:
            of_it = [row for row in rows if (row["world"], row["attribute"]) == (world, attribute) and dial in row["on"]]
            if of_it:
                ends = ", ".join(f"{row['ends'][0]:.1f} to {row['ends'][1]:.1f}" for row in of_it)
                cells = [f"{world}' {attribute}", ends]
                for name, style in (("spread", ".2f"), ("largest", ".1f"), ("straight", ".3f")):
                    cells.append(f"{statistics.mean(row['off'][name] for row in of_it):{style}}")
                    cells.append(f"{statistics.mean(row['on'][dial][name] for row in of_it):{style}}")
                lines.append("| " + " | ".join(cells) + " |")
    tuning = [row for row in rows if row["world"] in exam.TUNING and exam.TUNING[row["world"]]]
    lines += ["", "| strengths, noises of the dial | spread on | largest over smallest on |", "|---|---|---|"]
    for name in (f"{strengths}, {noises}" for strengths, noises in DIALS):
        of_it = [row["on"][name] for row in tuning if name in row["on"]]
        if of_it:
            spread, largest = (statistics.mean(found[key] for found in of_it) for key in ("spread", "largest"))
            lines.append(f"| {name} | {spread:.2f} | {largest:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(ATTRIBUTES), default=list(ATTRIBUTES))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "even.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    done = {tuple(row[name] for name in KEY) for row in rows}
    for seed, world in itertools.product(range(args.seeds), args.worlds):
        for attribute in ATTRIBUTES[world]:
            if args.report or (world, attribute, seed) in done:
                continue
            rows.append(run({"world": world, "attribute": attribute, "seed": seed}))
            keep(args.out, rows[-1])
            sys.stderr.write(f"{world} {attribute} {seed}: {rows[-1]['off']['spread']:.2f}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
