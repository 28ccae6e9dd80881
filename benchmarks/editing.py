"""Which reference image does a slider on an edit model learn with? Effect against identity, on a world whose truth is known.

    python benchmarks/editing.py               # docs/video-and-edit.md quotes it; goes on where it was stopped
    python benchmarks/editing.py --report

worlds/edits.py is made first. Then sliders of six pairs, 180 steps, calibrated by the product; by the default objective and by
plain denoising. The reference that a training step shows is, by case:

    none       no reference
    answer     the image that the slider is to arrive at: it shows the answer
    start      the image that the slider is to set out from, the other end of the pair
    negative   the negative image on both sides, which at -1 is the answer
    one_way    the same, trained from 0 to +1 alone; none_one_way: without a reference

Each is used as an edit model is: heads that it never saw are the reference, whose attribute lies in the middle, with the prompt
of their own hair, from held-out noise.

effect     how far the attribute moves from -1 to +1 (one way: from 0 to +1), as a share of the images' own gap
lost       how far the five other attributes lie from the reference's own, mean; at 0 it is the edit model's own error
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import verdicts
from edits import EditsBackend
from heads import ATTRIBUTES, EXTREME, NUMBERS, OTHERS, SIZE, caption, heads, pairs, render
from results import keep, kept

from slider_core.config.training import Objective, Sides, TrainSpec
from slider_core.encode.encoder import Sample, referenced
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength
from slider_core.objective.one_way import on_sides
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run

CASES = {
    Objective.DISPLACEMENT: ("none", "answer", "start", "negative", "one_way", "none_one_way"),
    Objective.DENOISE_PAIRED: ("none", "answer", "start"),
}
HELD_OUT, SAMPLER_STEPS, STEPS, EQUAL = 8, 10, 180, 0.2
STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)


def samples_of(model: EditsBackend, attribute: str, case: str, seed: int) -> list[Sample]:
    """The pairs with the reference of a case."""
    samples = pairs(model, attribute, 6, seed)
    sides = Sides.PLUS if case.endswith("one_way") else Sides.BOTH
    if case.startswith("none"):
        return on_sides(samples, sides)
    by_side = {(sample.pair, sample.side): sample for sample in samples}
    shown = []
    for sample in samples:
        side = {"answer": sample.side, "start": -sample.side}.get(case, -1)
        partner = by_side[sample.pair, -sample.side]
        shown.append(referenced(sample, by_side[sample.pair, side].latent, model, partner))
    return on_sides(shown, sides)


@torch.no_grad()
def drawn(model: EditsBackend, adapter: Adapter, weight: float, references: torch.Tensor, hair: torch.Tensor) -> torch.Tensor:
    """(N, 6) attributes of the references, edited at a LoRA weight."""
    count = len(references)
    x = torch.stack([torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(60_000 + n)) for n in range(count)])
    prompts = [model.encode_prompt(caption(int(one))) for one in hair]
    conds = [model.with_reference(prompt, one * 2 - 1) for prompt, one in zip(prompts, references, strict=True)]
    for now, following in itertools.pairwise(torch.linspace(1, 0, SAMPLER_STEPS + 1)):
        with at_strength(adapter, model.module, [weight] * count):
            x = x + (following - now) * model.predict(x, now.clamp_max(0.999).expand(count), conds)
    return model.read(((x + 1) / 2).clamp(0, 1))


def measured(model: EditsBackend, attribute: str, objective: Objective, case: str, seed: int) -> dict[str, Any]:
    start = time.monotonic()
    samples = samples_of(model, attribute, case, seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    sides = Sides.PLUS if case.endswith("one_way") else Sides.BOTH
    spec = TrainSpec(steps=STEPS, lr=0.0, seed=seed, objective=objective, jitter=0.0, sides=sides)
    run = Run("slider", {}, Trainer(adapter, samples, spec), verdicts.LORA)
    run.trainer.run(model, STEPS)
    run.calibrate(model)
    unit = run.measured[1].unit if run.measured else 1.0
    numbers, hair = heads(HELD_OUT, torch.Generator().manual_seed(900))
    numbers[:, NUMBERS.index(attribute)] = 0.0
    references = render(numbers, hair)
    column = (*ATTRIBUTES, *OTHERS).index(attribute)
    others = [place for place in range(6) if place != column]
    own = model.read(references)
    read = {s: drawn(model, adapter, s * unit, references, hair) for s in STRENGTHS}
    change = {s: float((read[s] - read[0.0])[:, column].mean()) / (2 * EXTREME) for s in read}
    lost = {s: float((read[s] - own)[:, others].abs().mean()) for s in read}
    row = {"attribute": attribute, "objective": objective.value, "case": case, "seed": seed, "unit": unit}
    seconds = round(time.monotonic() - start)
    return row | {"change": change, "lost": lost, "learned": run.trainer.readings[-1].mean, "seconds": seconds}


def points(row: dict[str, Any]) -> list[tuple[float, float]]:
    """(effect, identity lost) at strengths 0, 1 and 2, both sides together."""
    change, lost = ({float(s): value for s, value in row[name].items()} for name in ("change", "lost"))
    if row["case"].endswith("one_way"):
        return [(change[s], lost[s]) for s in (0.0, 1.0, 2.0)]
    return [(change[s] - change[-s], (lost[s] + lost[-s]) / 2) for s in (0.0, 1.0, 2.0)]


def lost_at_equal(row: dict[str, Any]) -> float | None:
    """Identity lost where the effect passes EQUAL, between two strengths."""
    for (before, held), (after, gone) in itertools.pairwise(points(row)):
        if before < EQUAL <= after:
            return held + (EQUAL - before) / (after - before) * (gone - held)
    return None


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"| attribute | objective | reference | effect at 1 | at 2 | lost at 0 | at 1 | at 2 | at effect {EQUAL} |",
        "|---" * 9 + "|",
    ]
    for place in dict.fromkeys((row["attribute"], row["objective"], row["case"]) for row in rows):
        some = [row for row in rows if (row["attribute"], row["objective"], row["case"]) == place]
        means = [tuple(map(statistics.mean, zip(*at, strict=True))) for at in zip(*(points(row) for row in some), strict=True)]
        equal = [lost for row in some if (lost := lost_at_equal(row)) is not None]
        cells = [*place, *(f"{means[at][0]:.2f}" for at in (1, 2)), *(f"{means[at][1]:.3f}" for at in (0, 1, 2))]
        cells.append(f"{statistics.mean(equal):.3f} ({len(equal)} of {len(some)})" if equal else "not reached")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=verdicts.ROOT / "build" / "editing.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    done = {(row["seed"], row["attribute"], row["objective"], row["case"]) for row in rows}
    torch.set_num_threads(1)
    model = None if args.report else EditsBackend()
    for seed, attribute, objective in itertools.product(range(args.seeds), ("eye", "size"), CASES):
        for case in CASES[objective]:
            if model is None or (seed, attribute, objective.value, case) in done:
                continue
            row = measured(model, attribute, objective, case, seed)
            keep(args.out, row)
            sys.stderr.write(f"{attribute} {objective.value} {case} {seed} {row['change']} {row['lost']} {row['seconds']} s\n")
    print(report(kept(args.out)))


if __name__ == "__main__":
    main()
