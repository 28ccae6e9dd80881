"""How often are pairs told from two heaps? docs/benchmarks-images.md and tests/core/test_alignment.py quote what this prints.

python benchmarks/alignment.py        # about a minute
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from slider_core.encode.alignment import line_up
from slider_core.with_tiny.faces import render
from slider_core.with_tiny.faces_pairs import make_pairs

COUNTS, MOVING, STAYING = (4, 5, 6, 8, 12), ("size", "x", "y"), ("mouth", "eyes", "skin", "background")
SEEDS, MORE_HEAPS = range(200, 240), range(200)


def known(attribute: str, count: int, seed: int, unpaired: bool) -> bool:
    pairs = make_pairs(attribute, count, seed, unpaired)
    return line_up(*(render([pair[side] for pair in pairs]) for side in (0, 1)))


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    print("| images a side | heaps taken for pairs | pairs known: the face moves or grows | a part or a colour changes |")
    print("|---|---|---|---|")
    for count in COUNTS:
        heaps = [(a, s) for a in (*MOVING, *STAYING[:3]) for s in SEEDS] + [("skin", s) for s in MORE_HEAPS]
        cells = [f"{sum(known(a, count, s, True) for a, s in heaps)} of {len(heaps)}"]
        for some in (MOVING, STAYING):
            found = sum(known(a, count, s, False) for a in some for s in SEEDS)
            cells.append(f"{found} of {len(some) * len(SEEDS)}")
        print(f"| {count} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
