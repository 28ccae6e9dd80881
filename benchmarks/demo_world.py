"""How good are the sliders? Measured on the embedded world; docs/benchmarks.md quotes the table this prints.

    python benchmarks/demo_world.py                      # about 10 minutes on 2 cores
    python benchmarks/demo_world.py --attributes mouth --seeds 3 --objectives denoise_paired

Every run: 6 aligned pairs drawn with the run's seed, the same steps, lr and rank, training seed = run's seed, 16 held-out
noise seeds with captions of their own, measured against the model without a slider.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

from slider_core.config import AdapterSpec, Objective, SweepSpec, TrainSpec  # noqa: E402
from slider_core.dataset import bucket_folders, read_dataset  # noqa: E402
from slider_core.demo import EXTREME, make_pairs, measured_sweep, train_tiny, write_pairs  # noqa: E402
from slider_core.tiny import TinyBackend  # noqa: E402

STRENGTHS = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0)
GAP = 2 * EXTREME  # between the two images of a pair, in world units


def run(backend: TinyBackend, attribute: str, objective: Objective, seed: int, args: argparse.Namespace) -> dict:
    """Train one slider and measure it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "pairs"
        write_pairs(folder, make_pairs(attribute, args.pairs, seed=100 + seed, unpaired=args.unpaired))
        dataset = read_dataset(bucket_folders(folder))
        begun = time.monotonic()
        spec = TrainSpec(steps=args.steps, lr=args.lr, seed=seed, objective=objective)
        trainer = train_tiny(backend, attribute, dataset, AdapterSpec(), spec).trainer
        seconds = time.monotonic() - begun
    _, curve = measured_sweep(backend, trainer.adapter, SweepSpec(strengths=STRENGTHS, seeds=tuple(range(16))))
    one = [STRENGTHS.index(s) for s in (-1.0, 1.0)]
    return {
        "attribute": attribute,
        "objective": objective.value,
        "seed": seed,
        "seconds": round(seconds, 1),
        "curve": [round(v, 3) for v in curve.mean[attribute]],
        "effect": round(curve.effect(attribute), 3),
        "effect2": round(curve.effect(attribute, -2.0, 2.0), 3),
        "monotone": curve.monotone(attribute),
        "leak": round(sum(curve.leak[attribute][i] for i in one) / 2, 3),
        "skin": min(curve.kept["skin"][i] for i in one),
        "background": min(curve.kept["background"][i] for i in one),
        "gain": [round(g, 3) for g in trainer.readings[-1].gain],
    }


def table(rows: list[dict]) -> str:
    """Markdown, one line per run."""
    head = [
        "attribute",
        "objective",
        "seed",
        *(f"{s:+g}" for s in STRENGTHS),
        "effect -1 to +1",
        "share of gap",
        "monotone",
        "leak",
        "skin kept",
        "background kept",
        "train s",
    ]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for r in rows:
        cells = [
            r["attribute"],
            r["objective"],
            r["seed"],
            *(f"{v:.2f}" for v in r["curve"]),
            f"{r['effect']:+.2f}",
            f"{r['effect'] / GAP:.0%}",
            "yes" if r["monotone"] else "no",
            f"{r['leak']:.2f}",
            f"{r['skin']:.0%}",
            f"{r['background']:.0%}",
            r["seconds"],
        ]
        lines.append("| " + " | ".join(str(c) for c in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attributes", nargs="+", default=["mouth", "eyes", "size"])
    parser.add_argument("--objectives", nargs="+", default=[o.value for o in Objective])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=TrainSpec.steps)
    parser.add_argument("--lr", type=float, default=TrainSpec.lr)
    parser.add_argument("--unpaired", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "demo_world.json")
    args = parser.parse_args()
    backend, rows = TinyBackend(), []
    for attribute in args.attributes:
        for objective in args.objectives:
            for seed in range(args.seeds):
                rows.append(run(backend, attribute, Objective(objective), seed, args))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
