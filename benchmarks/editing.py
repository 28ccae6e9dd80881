"""Which reference image does a slider on an edit model learn with? Effect against identity, on a world whose truth is known.

    python benchmarks/editing.py               # docs/benchmarks.md quotes it; goes on where it was stopped

worlds/edits.py is made first (ten minutes of one core). Then sliders of six pairs, 180 steps, calibrated by the product; a pair's
images are trained with the reference of a case. Used is every slider as an edit model is: heads that it never saw are the
reference, whose attribute lies in the middle, with the prompt of their own hair, from held-out noise.

effect     how far the attribute moves from -1 to +1 (one_way: from 0), over the images' own gap
identity   how far the other attributes lie from the reference's own at the ends, mean; at 0 it is the edit model's own error
strength 1 its LoRA weight
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
import verdicts
from edits import EditsBackend
from heads import ATTRIBUTES, EXTREME, NUMBERS, OTHERS, SIZE, caption, heads, pairs, render

from slider_core.config.training import Sides, TrainSpec
from slider_core.data.bucket_spec import Reference
from slider_core.encode.encoder import Sample, referenced
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength
from slider_core.objective.one_way import on_sides
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run

CASES = ("none", "own", "negative", "other", "one_way")
HELD_OUT, SAMPLER_STEPS, STEPS = 8, 10, 180


def samples_of(model: EditsBackend, attribute: str, case: str, seed: int) -> list[Sample]:
    """The pairs with the reference of a case. `own`: each image beside itself, which shows the answer."""
    samples = pairs(model, attribute, 6, seed)
    if case == "none":
        return samples
    if case == "own":
        return [referenced(sample, sample.latent, model) for sample in samples]
    which = Reference.OTHER if case == "other" else Reference.NEGATIVE
    positive = {s.pair: s for s in samples if s.strength > 0}
    negative = {s.pair: s for s in samples if s.strength < 0}
    shown = []
    for sample in samples:
        other = which is Reference.OTHER and sample.strength < 0
        shown.append(referenced(sample, (positive if other else negative)[sample.pair].latent, model))
    return on_sides(shown, Sides.PLUS if case == "one_way" else Sides.BOTH)


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


def measured(model: EditsBackend, attribute: str, case: str, seed: int) -> dict[str, Any]:
    samples = samples_of(model, attribute, case, seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    run = Run("slider", {}, Trainer(adapter, samples, TrainSpec(steps=STEPS, lr=0.0, seed=seed)), verdicts.LORA)
    run.trainer.run(model, STEPS)
    run.calibrate(model)
    unit = run.measured[1].unit if run.measured else 1.0
    numbers, hair = heads(HELD_OUT, torch.Generator().manual_seed(900))
    numbers[:, NUMBERS.index(attribute)] = 0.0
    references = render(numbers, hair)
    column = (*ATTRIBUTES, *OTHERS).index(attribute)
    others = [place for place in range(6) if place != column]
    own = model.read(references)
    read = {s: drawn(model, adapter, s * unit, references, hair) for s in (-1.0, -0.5, 0.0, 0.5, 1.0)}
    change = {s: float((read[s] - read[0.0])[:, column].mean()) / EXTREME for s in read}
    lost = {s: float((read[s] - own)[:, others].abs().mean()) for s in read}
    found = {"attribute": attribute, "case": case, "seed": seed, "unit": unit, "change": change, "lost": lost}
    return found | {"verdict": run.verdict(), "learned": run.trainer.readings[-1].mean}


def report(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| attribute | reference in training | effect | at -1, -0.5, +0.5, +1 | identity lost at 0 | at the ends | strength 1 |",
        "|---" * 7 + "|",
    ]
    for attribute, case in itertools.product(ATTRIBUTES, CASES):
        some = [row for row in rows if (row["attribute"], row["case"]) == (attribute, case)]
        if not some:
            continue
        change, lost = (
            {s: statistics.mean(row[name][str(s)] for row in some) for s in (-1.0, -0.5, 0.0, 0.5, 1.0)}
            for name in ("change", "lost")
        )
        effect = change[1.0] if case == "one_way" else (change[1.0] - change[-1.0]) / 2
        ends = lost[1.0] if case == "one_way" else (lost[1.0] + lost[-1.0]) / 2
        steps = ", ".join(f"{change[s]:+.2f}" for s in (-1.0, -0.5, 0.5, 1.0))
        unit = statistics.mean(row["unit"] for row in some)
        lines.append(f"| {attribute} | {case} | {effect:.2f} | {steps} | {lost[0.0]:.3f} | {ends:.3f} | {unit:.2f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=verdicts.ROOT / "build" / "editing.jsonl")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(row["attribute"], row["case"], row["seed"]) for row in rows}
    torch.set_num_threads(1)
    model = EditsBackend()
    for seed, attribute, case in itertools.product(range(args.seeds), ("eye", "size"), CASES):
        if (attribute, case, seed) in done:
            continue
        row = measured(model, attribute, case, seed)
        with args.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        sys.stderr.write(f"{attribute} {case} {seed} {row['change']} {row['lost']}\n")
    print(report([json.loads(line) for line in args.out.read_text().splitlines()]))


if __name__ == "__main__":
    main()
