"""What batch and learning rate a larger world wants, at equally many samples: a table for docs/several-gpus.md.

    python benchmarks/batches.py                      # goes on where it was stopped

Every row has the same pairs, first weights and base model, and as many samples in all; the rate is TrainSpec's own times the
factor. Effect: how far the attribute moves from -1 to +1 as trained, in drawn pictures, share of the images' own gap.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from quality import backend, images, swept, trained
from results import keep, kept
from worlds.heads import HeadsBackend
from worlds.heads import effect as heads_effect
from worlds.heads import pairs as heads_pairs

from slider_core.config.training import TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.lora.slider_adapter import Adapter
from slider_core.with_tiny.faces_pairs import EXTREME
from slider_core.with_tiny.model import TinyBackend

ROOT = Path(__file__).resolve().parent.parent
PAIRS, SAMPLES, SEED = 16, 960, 0
BATCHES, FACTORS = (4, 8, 16, 32), (1.0, 2.0**0.5, 2.0, 4.0)
WORLDS = (("faces", "mouth"), ("faces", "eyes"), ("heads", "smile"), ("heads", "size"))


def world(name: str, attribute: str) -> tuple[TinyBackend, list[Sample], Callable[[Adapter], float]]:
    """(model, encoded pairs, effect of a slider at +-1)."""
    if name == "heads":
        heads = HeadsBackend()
        return heads, heads_pairs(heads, attribute, PAIRS, SEED), lambda adapter: heads_effect(heads, adapter, attribute, 1.0)
    model = backend()
    samples = images(model, attribute, PAIRS, SEED, unpaired=False)
    gap = 2 * EXTREME
    return model, samples, lambda adapter: swept(model, adapter, (-1.0, 0.0, 1.0)).effect(attribute) / gap


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "batches.jsonl")
    out = parser.parse_args().out
    rows = kept(out)
    done = {(*row["world"], row["batch"], row["factor"]) for row in rows}
    for name, attribute in WORLDS:
        model, samples, effect = world(name, attribute)
        for batch in BATCHES:
            for factor in FACTORS:
                if factor > batch / 4 or (name, attribute, batch, factor) in done:
                    continue
                spec = TrainSpec(seed=SEED, batch=batch, steps=SAMPLES // batch, lr=factor * TrainSpec.lr, any_rate=True)
                trainer, seconds = trained(model, samples, spec)
                row = {
                    "world": (name, attribute),
                    "batch": batch,
                    "factor": factor,
                    "rate": spec.lr,
                    "seconds": round(seconds, 1),
                }
                row |= {"effect": effect(trainer.adapter), "learned": trainer.readings[-1].mean}
                rows.append(row)
                keep(out, row)
                sys.stderr.write(json.dumps(row) + "\n")
    print(table(rows))


def table(rows: list[dict]) -> str:
    """Markdown: a line per batch and factor, means over the worlds' attributes."""
    lines = ["| batch | steps | rate, times 0.002 | effect | learned share |", "|---|---|---|---|---|"]
    for batch in BATCHES:
        for factor in FACTORS:
            some = [row for row in rows if (row["batch"], row["factor"]) == (batch, factor)]
            if some:
                effect, learned = (statistics.mean(row[key] for row in some) for key in ("effect", "learned"))
                lines.append(f"| {batch} | {SAMPLES // batch} | {factor:.2g} | {effect:.2f} | {learned:.0%} |".replace("%", " %"))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
