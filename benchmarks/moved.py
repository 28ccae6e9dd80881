"""How much more does a model err on moved pairs? docs/benchmarks-worlds.md quotes what this prints.

    python benchmarks/moved.py                 # about a minute
    python benchmarks/moved.py --seeds 30

Nothing is trained: `moved_error` is what a training reads before its first step, on PAIRS pairs of each attribute and seed.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch
from quality import backend, images
from worlds.heads import HeadsBackend
from worlds.heads import pairs as heads_pairs

from slider_core.encode.encoder import Sample, pairs_of
from slider_core.objective.formulas import JITTER
from slider_core.train.moved_pairs import FAMILIAR, moved_error
from slider_core.with_tiny.model import TinyBackend

PAIRS = 6
WORLDS = {"faces": ("mouth", "eyes", "size"), "heads": ("smile", "eye", "size")}


def world(name: str) -> tuple[TinyBackend, Callable[[str, int], list[Sample]]]:
    """(model, encoded pairs of an attribute and a seed)."""
    if name == "heads":
        heads = HeadsBackend()
        return heads, lambda attribute, seed: heads_pairs(heads, attribute, PAIRS, seed)
    model = backend()
    return model, lambda attribute, seed: images(model, attribute, PAIRS, seed, unpaired=False)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    seeds = range(parser.parse_args().seeds)
    print(f"| world | attribute | least | median | largest | above {FAMILIAR:g} |")
    print("|---|---|---|---|---|---|")
    for name, attributes in WORLDS.items():
        model, samples = world(name)
        for attribute in attributes:
            found = [moved_error(model, pairs_of(samples(attribute, seed)), JITTER, seed) for seed in seeds]
            beyond = sum(error > FAMILIAR for error in found)
            middle = statistics.median(found)
            cells = f"{min(found):.2f} | {middle:.2f} | {max(found):.2f} | {beyond} of {len(found)}"
            print(f"| {name} | {attribute} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
