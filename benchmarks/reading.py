"""How well are attributes read off the built-in world's faces? docs/benchmarks.md quotes what this prints.

python benchmarks/reading.py        # some seconds
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

import torch

from slider_core.with_tiny.faces import CLASSES, CONTINUOUS, measure, render, sample_faces

SEED, COUNT = 4242, 300  # faces that nothing was chosen on


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    faces = sample_faces(COUNT, torch.Generator().manual_seed(SEED))
    pairs = list(zip(faces, measure(render(faces)), strict=True))
    print("| attribute | mean absolute error |")
    print("|---|---|")
    for name in CONTINUOUS:
        error = sum(abs(getattr(face, name) - getattr(read, name)) for face, read in pairs) / COUNT
        print(f"| {name} | {error:.4f} |")
    wrong = sum(getattr(face, name) != getattr(read, name) for name in CLASSES for face, read in pairs)
    print(f"\n{wrong} of {COUNT * len(CLASSES)} colours are read wrongly")


if __name__ == "__main__":
    main()
