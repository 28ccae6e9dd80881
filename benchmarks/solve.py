"""Do solved strengths bring two sliders that overlap nearer to what each does alone? docs/benchmarks-kinds.md quotes the table.

    python benchmarks/solve.py            # some minutes of one core

Sliders of the mouth, of the eyes, and of both at once ("joy"), trained as in quality.py and calibrated, are drawn alone and in
twos at +1 on held-out noise, at the plain strengths and at those of slider_core/use/interference.py, which knows no measure of
faces. A slider's concept is what its pairs differ in: for joy the mean of mouth and eyes.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from contextlib import ExitStack

import torch
from interference import RATE, Slider
from quality import HELD_OUT, OBJECTIVES, SAMPLER_STEPS, STEPS, backend, trained

from slider_core.config.training import Objective, TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.lora.strength import at_strength
from slider_core.train.calibration_search import calibrate
from slider_core.use.interference import solve
from slider_core.with_tiny.faces import measure, render, sample_faces
from slider_core.with_tiny.faces_pairs import at_extreme
from slider_core.with_tiny.model import TinyBackend
from slider_core.with_tiny.model_sweep import held_out_caption

CONCEPTS = {"mouth": ("mouth",), "eyes": ("eyes",), "joy": ("mouth", "eyes")}
PAIRS = 6


def slider(model: TinyBackend, concept: str, seed: int, steps: int) -> Slider:
    samples = []
    faces = sample_faces(PAIRS, torch.Generator().manual_seed(100 + seed))
    for sign in (1, -1):
        side = faces
        for attribute in CONCEPTS[concept]:
            side = [at_extreme(face, attribute, sign) for face in side]
        for number, (face, latent) in enumerate(zip(side, model.encode_images(render(side)), strict=True)):
            samples.append(Sample(latent, model.encode_prompt(face.caption), float(sign), number, aligned=True))
    spec = TrainSpec(steps=steps, lr=RATE, seed=seed, **OBJECTIVES[Objective.DISPLACEMENT.value])
    trainer, _ = trained(model, samples, spec)
    return trainer.adapter, calibrate(model, trainer.adapter, samples, seed).unit, samples


def drawn(model: TinyBackend, sliders: list[Slider], factors: list[float], seeds: int) -> dict[str, float]:
    """The mean of each attribute with these sliders at so many times their unit."""
    images = []
    for seed in range(seeds):
        with ExitStack() as stack:
            for (adapter, unit, _), factor in zip(sliders[1:], factors[1:], strict=True):
                stack.enter_context(at_strength(adapter, model.module, [factor * unit]))
            cond = model.encode_prompt(held_out_caption(seed))
            first, unit, _ = sliders[0]
            images.append(model.sample(cond, 50_000 + seed, [factors[0] * unit], first, SAMPLER_STEPS)[0])
    faces = measure(torch.stack(images))
    means = {}
    for name in ("mouth", "eyes"):
        means[name] = statistics.mean(value for face in faces if (value := getattr(face, name)) == value)
    return means


def moved(means: dict[str, float], base: dict[str, float], concept: str) -> float:
    return statistics.mean(means[name] - base[name] for name in CONCEPTS[concept])


def line(model: TinyBackend, sliders: dict[str, Slider], names: tuple[str, str], at: float, faces: int) -> list[str]:
    """What two sliders do at that strength, alone and together, plain and solved, as shares of what each does alone."""
    two = [sliders[name] for name in names]
    cond = model.encode_prompt(held_out_caption(0))
    found = solve(model, [one[0] for one in two], [at * one[1] for one in two], cond, two[0][2][0].latent.shape)
    base = drawn(model, two, [0.0, 0.0], faces)
    solved = [at * factor for factor in found.strengths]
    means = [drawn(model, two, factors, faces) for factors in ([at, 0.0], [0.0, at], [at, at], solved)]
    alone = [moved(means[place], base, name) for place, name in enumerate(names)]
    shares = [[moved(case, base, name) / one for name, one in zip(names, alone, strict=True)] for case in means[2:]]
    cells = [" and ".join(names), f"{at:g}", ", ".join(f"{found.matrix[i, 1 - i]:.2f}" for i in (0, 1))]
    cells += [", ".join(f"{one:+.2f}" for one in alone)]
    cells += [", ".join(f"{share:.0%}" for share in some) for some in shares]
    return [*cells, ", ".join(f"{factor:.2f}" for factor in found.strengths)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--at", nargs="+", type=float, default=[0.5, 1.0], help="strengths that are wanted")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--faces", type=int, default=HELD_OUT, help="held-out noises")
    args = parser.parse_args()
    model = backend()
    head = ("sliders", "strength", "overlap", "effect alone", "together", "solved", "factors")
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for seed in range(args.seeds):
        sliders = {name: slider(model, name, seed, args.steps) for name in CONCEPTS}
        for names, at in itertools.product(itertools.combinations(CONCEPTS, 2), args.at):
            print("| " + " | ".join(line(model, sliders, names, at, args.faces)) + " |", flush=True)


if __name__ == "__main__":
    main()
