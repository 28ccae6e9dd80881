"""What do two sliders on one model do to each other? docs/benchmarks-kinds.md quotes the table this prints.

    python benchmarks/interference.py            # some minutes of one core

Sliders of two attributes, trained as in quality.py (default objective) and calibrated, are drawn alone and together at -1, 0 and
+1 on held-out noise with captions of their own, and the faces are measured. The last columns are the same question asked
without a measure of faces: along_pairs.py along the pairs' mean difference, at +1 and +1.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys

import torch
from along_pairs import interference, pair_gap
from quality import GAP, HELD_OUT, OBJECTIVES, SAMPLER_STEPS, STEPS, backend, images, trained

from slider_core.config.training import Objective, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength
from slider_core.train.calibration_search import calibrate
from slider_core.with_tiny.faces import measure
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.model_sweep import held_out_caption

RATE, ENDS = 4e-3, (-1.0, 0.0, 1.0)
Slider = tuple[Adapter, float, list[Sample]]  # with its unit and its images


def slider(model: TinyBackend, attribute: str, seed: int, steps: int) -> Slider:
    samples = images(model, attribute, 6, seed, unpaired=False)
    spec = TrainSpec(steps=steps, lr=RATE, seed=seed, **OBJECTIVES[Objective.DISPLACEMENT.value])
    trainer, _ = trained(model, samples, spec)
    return trainer.adapter, calibrate(model, trainer.adapter, samples, seed).unit, samples


def drawn(model: TinyBackend, a: Slider, b: Slider, seeds: int) -> dict[tuple[float, float], torch.Tensor]:
    """(strength of a, strength of b) -> images (N, 3, H, W)."""
    found: dict[tuple[float, float], list[torch.Tensor]] = {}
    for seed, other in itertools.product(range(seeds), ENDS):
        cond = model.encode_prompt(held_out_caption(seed))
        with at_strength(b[0], model.module, [other * b[1]]):
            rows = model.sample(cond, 50_000 + seed, [s * a[1] for s in ENDS], a[0], SAMPLER_STEPS)
        for strength, image in zip(ENDS, rows, strict=True):
            found.setdefault((strength, other), []).append(image)
    return {key: torch.stack(some) for key, some in found.items()}


def means(faces: dict[tuple[float, float], torch.Tensor], attribute: str) -> dict[tuple[float, float], float]:
    values = {key: [getattr(m, attribute) for m in measure(some)] for key, some in faces.items()}
    return {key: statistics.mean(v for v in some if v == v) for key, some in values.items()}


def row(model: TinyBackend, names: tuple[str, str], seed: int, sliders: dict[str, Slider], seeds: int) -> str:
    """One line: what `names[0]` does alone and under `names[1]`."""
    a, b = (sliders[name] for name in names)
    faces = drawn(model, a, b, seeds)
    mean = means(faces, names[0])
    alone, minus, plus = (mean[1.0, other] - mean[-1.0, other] for other in (0.0, -1.0, 1.0))
    by_other = mean[0.0, 1.0] - mean[0.0, -1.0]
    latents = {key: model.encode_images(some) for key, some in faces.items()}
    sets = (latents[0.0, 0.0], latents[1.0, 0.0], latents[0.0, 1.0], latents[1.0, 1.0])
    along = interference(*sets, pair_gap(a[2]))
    cells = [f"{names[0]} under {names[1]}", str(seed), f"{alone:.2f}", f"{minus / alone - 1:+.0%}", f"{plus / alone - 1:+.0%}"]
    cells += [f"{by_other:+.3f} ({by_other / GAP:+.1%})", f"{along.alone:+.3f}", f"{along.change:+.0%}", f"{along.by_other:+.3f}"]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attributes", nargs=2, default=["mouth", "eyes"])
    parser.add_argument("--seeds", type=int, default=2, help="pairs of sliders")
    parser.add_argument("--first", type=int, default=0, help="the first of these seeds")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--faces", type=int, default=HELD_OUT, help="held-out noises")
    args = parser.parse_args()
    model = backend()
    head = ("slider", "seed", "effect alone", "change, other at -1", "change, other at +1", "the other's own effect (of gap)")
    head += ("along the pairs: alone", "change", "by the other")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for seed in range(args.first, args.first + args.seeds):
        sliders = {}
        for name in args.attributes:
            sliders[name] = slider(model, name, seed, args.steps)
            sys.stderr.write(f"{name} seed {seed}: unit {sliders[name][1]:.3f}\n")
        for names in itertools.permutations(args.attributes):
            print(row(model, names, seed, sliders, args.faces), flush=True)


if __name__ == "__main__":
    main()
