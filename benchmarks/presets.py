"""What the presets of a training are worth on the built-in model, and one rival of `careful`: a table for docs/training.md.

    python benchmarks/presets.py                      # goes on where it was stopped

Every row has the same pairs, first weights and base model; +-1 is the calibrated unit, held-out noise and captions. One thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
from pathlib import Path

from quality import backend, images, swept, trained
from results import keep, kept

from slider_core.config.training import TrainSpec
from slider_core.train.calibration_search import calibrate

ROOT = Path(__file__).resolve().parent.parent
ATTRIBUTES, SEEDS, PAIRS = ("mouth", "eyes"), (0, 1), 6
CHOICES: dict[str, dict[str, float]] = {
    "100 steps": {"steps": 100},
    "300 steps": {},
    "600 steps, ema 0.99": {"steps": 600, "ema": 0.99},
    "300 steps of 2 parts, ema 0.99": {"accumulate": 2, "ema": 0.99},
}


def measured(attribute: str, seed: int, name: str) -> dict:
    """One slider: its effect from -1 to +1 (world units), the leak there (standard deviations), classes flipped, gain."""
    model = backend()
    samples = images(model, attribute, PAIRS, seed, unpaired=False)
    trainer, _seconds = trained(model, samples, TrainSpec(seed=seed, **CHOICES[name]))
    unit = calibrate(model, trainer.adapter, samples, seed).unit
    curve = swept(model, trainer.adapter, (-1.0, 0.0, 1.0), unit)
    return {
        "attribute": attribute,
        "seed": seed,
        "choice": name,
        "unit": unit,
        "effect": curve.effect(attribute),
        "leak": (curve.leak[attribute][0] + curve.leak[attribute][2]) / 2,
        "monotone": curve.monotone(attribute),
        "flipped": 1 - min(curve.kept[kind][i] for kind in curve.kept for i in (0, 2)),
        "explained": trainer.readings[-1].mean,
    }


def table(rows: list[dict]) -> str:
    """Markdown: a line per choice, means over attributes and seeds, and the range of the effect."""
    lines = ["| choice | effect -1 to +1 | smallest | leak | gain | flipped | sliders |", "|---|---|---|---|---|---|---|"]
    for name in dict.fromkeys(row["choice"] for row in rows):
        some = [row for row in rows if row["choice"] == name and math.isfinite(row["effect"])]
        means = [statistics.mean(row[key] for row in some) for key in ("effect", "leak", "explained", "flipped")]
        least = min(row["effect"] for row in some)
        lines.append(
            f"| {name} | {means[0]:.2f} | {least:.2f} | {means[1]:.2f} | {means[2]:.1%} | {means[3]:.1%} | {len(some)} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "presets.jsonl")
    out = parser.parse_args().out
    rows = kept(out)
    done = {(row["attribute"], row["seed"], row["choice"]) for row in rows}
    for seed, attribute, name in itertools.product(SEEDS, ATTRIBUTES, CHOICES):
        if (attribute, seed, name) not in done:
            rows.append(measured(attribute, seed, name))
            keep(out, rows[-1])
            sys.stderr.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
