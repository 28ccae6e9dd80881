"""Are the stages of a concept drawn at their strengths? And what does a slider leak that is trained one way?

    python benchmarks/stages.py                # docs/benchmarks-kinds.md quotes it; goes on where it was stopped
    python benchmarks/stages.py --report

On both measurable worlds, six subjects, trained and measured by the product until it calls them ready. Values are shares of the
world's extreme. Drawn from held-out noise:

    ends      pairs of values -1 and +1, at strengths -1 and +1
    stages    five stages of each subject, -1 -0.5 0 0.5 1, each at the strength of its value
    mirrored  pairs of values 0 and +1, at strengths -1 and +1
    one_way   the same pairs, at strengths 0 and +1

effect   how far the attribute moves from 0 to +1 and from 0 to -1, over the extreme
bend     how far a drawn stage lies from the line through 0 and its own end, over that end's effect: the worst of +-0.5
leak     change of the other attributes at +1 where the attribute has moved by 0.3 of the extreme, in the attribute's own units
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import verdicts
from heads import ATTRIBUTES, EXTREME, NUMBERS, OTHERS, caption, heads
from heads import render as render_heads
from results import keep, kept

from slider_core.config.training import TrainSpec
from slider_core.encode.encoder import Sample
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.train.trainer import Trainer
from slider_core.train.training_run import Run
from slider_core.with_tiny.faces import CONTINUOUS, measure, render, sample_faces
from slider_core.with_tiny.faces_pairs import EXTREME as FACE_EXTREME
from slider_core.with_tiny.model_sweep import held_out_caption

SUBJECTS, HELD_OUT, STEPS = 6, 8, 8
TASKS = (("faces", "eyes"), ("faces", "size"), ("heads", "eye"), ("heads", "size"))
STRENGTHS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
EQUAL = 0.3
Stage = tuple[float, float]  # strength, value
CASES: dict[str, list[tuple[Stage, Stage]]] = {
    "ends": [((1, 1), (-1, -1))],
    "stages": [((1, 1), (-1, -1)), ((0.5, 0.5), (-0.5, -0.5)), ((1, 1), (0, 0)), ((0, 0), (-1, -1))],
    "mirrored": [((1, 1), (-1, 0))],
    "one_way": [((1, 1), (0, 0))],
}


def samples_of(model: Any, world: str, attribute: str, case: str, seed: int) -> list[Sample]:
    """The subjects' images at the stages of a case, in pairs."""
    generator = torch.Generator().manual_seed(100 + seed)
    people = sample_faces(SUBJECTS, generator) if world == "faces" else list(zip(*heads(SUBJECTS, generator), strict=True))
    samples = []
    pairs = [(person, stages) for person in people for stages in CASES[case]]
    for number, (person, stages) in enumerate(pairs):
        for strength, value in stages:
            if world == "faces":
                face = dataclasses.replace(person, **{attribute: value * FACE_EXTREME})
                image, text = render([face]), face.caption
            else:
                numbers = person[0].clone()
                numbers[NUMBERS.index(attribute)] = value * EXTREME
                image, text = render_heads(numbers[None], person[1][None]), caption(int(person[1]))
            samples.append(Sample(model.encode_images(image)[0], model.encode_prompt(text), float(strength), number))
    return samples


def values(model: Any, world: str, adapter: Adapter, weight: float) -> dict[str, list[float]]:
    """Every attribute of the held-out pictures at a LoRA weight."""
    if world == "heads":
        columns = model.read(model.draw(adapter, weight, range(HELD_OUT), STEPS)).T.tolist()
        return dict(zip((*ATTRIBUTES, *OTHERS), columns, strict=True))
    rows = []
    for seed in range(HELD_OUT):
        rows.append(model.sample(model.encode_prompt(held_out_caption(seed)), 50_000 + seed, [weight], adapter, STEPS)[0])
    faces = measure(torch.stack(rows))
    return {name: [getattr(face, name) for face in faces] for name in CONTINUOUS}


def measured(world: str, attribute: str, case: str, seed: int) -> dict[str, Any]:
    """One slider, ready and calibrated, at every strength."""
    model = verdicts.world(world)
    samples = samples_of(model, world, attribute, case, seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    run = Run("slider", {}, Trainer(adapter, samples, TrainSpec(steps=0, lr=0.0, seed=seed)), verdicts.LORA)
    run.trainer.run(model, run.trainer.end)
    run.calibrate(model)
    unit = run.measured[1].unit if run.measured else 1.0
    drawn = {strength: values(model, world, adapter, strength * unit) for strength in STRENGTHS}
    extreme = FACE_EXTREME if world == "faces" else EXTREME
    change = {s: _change(drawn[s][attribute], drawn[0.0][attribute]) / extreme for s in STRENGTHS}
    leak = {s: statistics.mean(_apart(drawn[s][n], drawn[0.0][n]) for n in drawn[s] if n != attribute) for s in STRENGTHS}
    found = {"world": world, "attribute": attribute, "case": case, "seed": seed, "steps": run.step, "unit": unit}
    return found | {"change": change, "leak": leak}


def _pairs(now: list[float], before: list[float]) -> list[float]:
    return [a - b for a, b in zip(now, before, strict=True) if a == a and b == b]


def _change(now: list[float], before: list[float]) -> float:
    some = _pairs(now, before)
    return statistics.mean(some) if some else 0.0


def _apart(now: list[float], before: list[float]) -> float:
    some = [abs(change) for change in _pairs(now, before)]
    return statistics.mean(some) if some else 0.0


def bend(change: dict[float, float]) -> float:
    """The worse of +-0.5, over its own end's effect."""
    return max(abs(change[side / 2] / change[side] - 0.5) for side in (1.0, -1.0) if change[side])


def leak_at_equal(row: dict[str, Any]) -> float | None:
    """Between the two strengths on the plus side where the effect passes EQUAL."""
    change, leak = ({float(k): v for k, v in row[name].items()} for name in ("change", "leak"))
    before = 0.0
    for strength in [s for s in STRENGTHS if s > 0]:
        if change[strength] >= EQUAL:
            share = (EQUAL - change[before]) / (change[strength] - change[before])
            return leak[before] + share * (leak[strength] - leak[before])
        before = strength
    return None


def report(rows: list[dict[str, Any]]) -> str:
    lines = ["| world, attribute | case | effect at +1, -1 | at +0.5, -0.5 | bend | leak at 0.3 |", "|---" * 6 + "|"]
    for world, attribute in TASKS:
        for case in CASES:
            some = [row for row in rows if (row["world"], row["attribute"], row["case"]) == (world, attribute, case)]
            if not some:
                continue
            mean = {s: statistics.mean(row["change"][str(s)] for row in some) for s in STRENGTHS}
            leaks = [leak for row in some if (leak := leak_at_equal(row)) is not None]
            leaked = f"{statistics.mean(leaks):.3f} ({len(leaks)} of {len(some)})" if leaks else "not reached"
            bent = statistics.mean(bend({float(k): v for k, v in row["change"].items()}) for row in some)
            ends, halves = (f"{mean[at]:+.2f}, {mean[-at]:+.2f}" for at in (1.0, 0.5))
            lines.append(f"| {world}, {attribute} | {case} | {ends} | {halves} | {bent:.2f} | {leaked} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=verdicts.ROOT / "build" / "stages.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    done = {(row["world"], row["attribute"], row["case"], row["seed"]) for row in rows}
    wanted = [(*task, case, seed) for seed in range(args.seeds) for task in TASKS for case in CASES]
    for task in () if args.report else [one for one in wanted if one not in done]:
        start = time.monotonic()
        keep(args.out, measured(*task))
        sys.stderr.write(f"{task} {time.monotonic() - start:.0f} s\n")
    rows = kept(args.out)
    print(report(rows))


if __name__ == "__main__":
    main()
