"""Is "Works" true? Many sliders on both measurable worlds, good and bad, and what the product says of each.

    python benchmarks/verdicts.py                       # goes on where it was stopped; some hours of one core
    python benchmarks/verdicts.py --report              # what was measured so far, and no more

Each slider is judged as a user meets it: measured by the product at that step, at the strength that becomes 1. A training gives
a slider where it ends and some before. What it really does is read by the world's own measure on held-out noise: how far it moves
its attribute from -1 to +1, over the images' own gap. A wrong "works" moves it by less than LITTLE, a wrong refusal by more than
MUCH; between the two either answer is right. The product's thresholds were chosen on the sliders with even seeds.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from results import kept

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(Path(__file__).parent / "worlds")]

import heads  # noqa: E402
import quality  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from slider_core.config.checks import SliderError  # noqa: E402
from slider_core.config.lora import AdapterSpec, Algorithm  # noqa: E402
from slider_core.config.training import Objective, Schedule, TrainSpec  # noqa: E402
from slider_core.data.pair_check import PairImages  # noqa: E402
from slider_core.data.pair_doctor import examine  # noqa: E402
from slider_core.encode.alignment import line_up  # noqa: E402
from slider_core.encode.encoder import Sample, pairs_of  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.train.displacement import Wanted  # noqa: E402
from slider_core.train.progress_verdict import Verdict, judge  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.train.training_run import Run  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

LITTLE, MUCH = 0.1, 0.2  # of the images' gap
PAIRS, HELD_OUT, SAMPLER_STEPS = 6, 6, 8
SHOWN = 256  # pixels, as the pair doctor is shown images
WORLDS = {"faces": ("mouth", "eyes", "size"), "heads": heads.ATTRIBUTES}
NEIGHBOUR = {"mouth": "eyes", "eyes": "mouth", "smile": "eye", "eye": "smile"}  # whose images are no opposite
LORA = AdapterSpec()
# case: adapter, training, steps at which a slider is looked at; "rate" is a factor of the probe's
CASES: dict[str, tuple[AdapterSpec, dict[str, Any], tuple[int, ...]]] = {
    "good": (LORA, {}, (4, 30, 90, 270)),
    "rank1": (AdapterSpec(rank=1, alpha=1.0), {}, (30, 180)),
    "rank32": (AdapterSpec(rank=32, alpha=32.0), {}, (30, 180)),
    "teacher": (LORA, {"objective": Objective.TEACHER_DIFFERENCE}, (30, 180)),
    "paired": (LORA, {"objective": Objective.DENOISE_PAIRED}, (30, 180)),
    "rotating": (LORA, {"objective": Objective.DENOISE_ROTATING}, (30, 180)),
    "shuffled": (LORA, {}, (60, 180)),  # half of the pairs are the wrong way round
    "same_ends": (LORA, {}, (60, 180)),  # both sides hold positives, of other people
    "burnt": (LORA, {"rate": 25.0}, (30, 60)),
    "hot": (LORA, {"rate": 6.0}, (60, 150)),
    "weak": (LORA, {"rate": 0.05}, (60, 120)),
    "copies": (LORA, {}, (180,)),  # both sides hold the same images
    "random": (LORA, {}, (0,)),  # never trained, all weights at random
    "onesided": (LORA, {}, (60, 180)),  # the negatives are of another attribute
    "unpaired": (LORA, {}, (30, 180)),
    "loha": (AdapterSpec(algorithm=Algorithm.LOHA), {}, (30, 180)),
}
BREAKS = ("shuffled", "same_ends", "burnt", "hot", "copies", "random", "onesided")  # whose refusal is never wrong
Task = dict[str, Any]


def world(name: str) -> Any:
    torch.set_num_threads(1)
    quality.HELD_OUT, quality.SAMPLER_STEPS = HELD_OUT, SAMPLER_STEPS
    return TinyBackend() if name == "faces" else heads.HeadsBackend()


def images(task: Task, model: Any) -> list[Sample]:
    """The samples of a case; whether partners line up is found as the product finds it."""
    make = quality.images if task["world"] == "faces" else heads.pairs
    attribute, seed, case = task["attribute"], task["seed"], task["case"]
    samples = make(model, attribute, PAIRS, seed, case == "unpaired")
    if case not in ("copies", "same_ends", "shuffled", "onesided"):
        return samples
    positive, negative = ([s for s in samples if s.strength * sign > 0] for sign in (1, -1))
    if case == "copies":
        negative = positive
    elif case == "same_ends":
        positive, negative = positive[: PAIRS // 2], positive[PAIRS // 2 :]
    elif case == "onesided":
        other = NEIGHBOUR.get(attribute, WORLDS[task["world"]][0 if task["world"] == "faces" else 1])
        negative = [s for s in make(model, other, PAIRS, seed + 500, False) if s.strength < 0]
    else:
        flipped = random.Random(seed).sample(range(PAIRS), PAIRS // 2)
        flips = [number in flipped for number in range(PAIRS)]
        both = [(n, p) if flip else (p, n) for flip, p, n in zip(flips, positive, negative, strict=True)]
        positive, negative = [p for p, _ in both], [n for _, n in both]
    aligned = case == "copies" or line_up([s.latent for s in positive], [s.latent for s in negative])
    sides = []
    for sign, side in ((1.0, positive), (-1.0, negative)):
        sides += [replace(s, strength=sign, pair=number, aligned=aligned) for number, s in enumerate(side)]
    return sides


def fresh(task: Task, model: Any, adapter_spec: AdapterSpec, spec: TrainSpec) -> Run:
    adapter = Adapter.create(model.module, survey(model.module, adapter_spec).targets, adapter_spec, seed=task["seed"])
    samples = images(task, model)
    run = Run("slider", {}, Trainer(adapter, samples, spec), adapter_spec)
    if run.trainer.wanted is Wanted.PAIRS:
        run.contradiction = examine(pictures(samples)).contradiction
    return run


def pictures(samples: Sequence[Sample]) -> list[PairImages]:
    """The pairs as the pair doctor sees them; the latents of both worlds are pictures from -1 to 1."""
    pairs = []
    for number, (positive, negative) in enumerate(pairs_of(samples)):
        shown = [F.interpolate(s.latent[None] / 2 + 0.5, (SHOWN, SHOWN)).clamp(0, 1)[0] for s in (positive, negative)]
        pairs.append(PairImages(str(number), *shown, "", "", (SHOWN, SHOWN), (SHOWN, SHOWN)))
    return pairs


def begun(task: Task, model: Any, adapter_spec: AdapterSpec, choices: dict[str, Any], steps: int) -> Run:
    """A run before its first step; one at a factor of the probe's rate keeps that rate."""
    choices = dict(choices)
    factor = choices.pop("rate", None)
    run = fresh(task, model, adapter_spec, TrainSpec(steps=0, lr=0.0, seed=task["seed"], **choices))
    if factor is None:
        return run
    run.trainer.run(model, 1)
    rate = min(10.0, run.trainer.rate * factor)
    spec = TrainSpec(steps=steps, lr=rate, any_rate=True, seed=task["seed"], schedule=Schedule.CONSTANT, **choices)
    return fresh(task, model, adapter_spec, spec)


def share_of(task: Task, model: Any, run: Run) -> float:
    """How far the attribute moves from -1 to +1, over the images' gap."""
    unit = run.measured[1].unit if run.measured else 1.0
    attribute = task["attribute"]
    if task["world"] == "faces":
        curve = quality.swept(model, run.trainer.adapter, (-1.0, 0.0, 1.0), unit)
        return curve.effect(attribute) / quality.GAP
    return heads.effect(model, run.trainer.adapter, attribute, unit, range(HELD_OUT), SAMPLER_STEPS)


def row_of(task: Task, model: Any, run: Run) -> dict[str, Any]:
    run.calibrate(model)
    last = run.trainer.readings[-1]
    drawn = asdict(run.drawn) if run.drawn else {}
    judged = {"verdict": judge(run.evidence()).value, "share": share_of(task, model, run), "drawn": drawn}
    passes = run.measured[1].passes if run.measured else 0
    return task | judged | {"step": run.step, "reading": asdict(last), "rate": run.trainer.rate, "passes": passes}


def sliders(task: Task) -> Iterator[dict[str, Any]]:
    """All sliders of one training, as they come."""
    model = world(task["world"])
    adapter_spec, choices, stops = CASES[task["case"]]
    run = begun(task, model, adapter_spec, choices, stops[-1])
    if task["case"] == "random":
        yield never_trained(task, model, run)
        return
    for stop in stops:
        before = run.step
        try:
            run.trainer.run(model, stop)
        except SliderError as fault:
            yield task | {"fault": fault.code}
            return
        if run.step > before:
            yield row_of(task, model, run)


def never_trained(task: Task, model: Any, run: Run) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(task["seed"])
    spread = 0.03 if task["seed"] % 2 else 0.06
    with torch.no_grad():
        for p in run.trainer.adapter.parameters():
            p.add_(spread * torch.randn(p.shape, generator=generator))
    run.trainer.readings.append(run.trainer.probe.read(model, run.trainer.adapter))
    return row_of(task, model, run)


def tasks(seeds: int) -> list[Task]:
    """All trainings; the first hold some of everything."""
    listed = []
    for seed, (place, case), name in itertools.product(range(seeds), enumerate(CASES), WORLDS):
        attributes = WORLDS[name]
        for attribute in attributes if case == "good" else (attributes[(seed + place) % len(attributes)],):
            listed.append({"world": name, "attribute": attribute, "case": case, "seed": seed})
    return listed


def key(row: dict[str, Any]) -> str:
    return json.dumps([row.get(name) for name in ("world", "attribute", "case", "seed", "adapter", "factor")])


def verdict_report(rows: list[dict[str, Any]]) -> str:
    """Counts by world and half, by case and verdict, and every verdict that is wrong."""
    rows = [row for row in rows if "verdict" in row and "factor" not in row]
    lines = ["| sliders | judged | said to work | wrongly | in part | with an effect | of them in part | refused | unproven |"]
    lines.append("|---" * 9 + "|")
    wrong = []
    for name, half in itertools.product(WORLDS, (0, 1)):
        some = [row for row in rows if row["world"] == name and row["seed"] % 2 == half]
        works = [row for row in some if row["verdict"] == Verdict.WORKS.value]
        false = [row for row in works if row["share"] < LITTLE]
        effect = [row for row in some if row["share"] > MUCH and row["case"] not in BREAKS]
        parts, open_ = ([row for row in some if row["verdict"] == v.value] for v in (Verdict.PARTLY, Verdict.UNPROVEN))
        refused = [row for row in effect if row["verdict"] != Verdict.WORKS.value and row not in parts + open_]
        groups = (
            some,
            works,
            false,
            parts,
            effect,
            [r for r in effect if r in parts],
            refused,
            [r for r in effect if r in open_],
        )
        counts = [len(group) for group in groups]
        lines.append(f"| {name}, {('even', 'odd')[half]} seeds | " + " | ".join(map(str, counts)) + " |")
        wrong += false + refused
    cases = collections.Counter((row["case"], row["verdict"]) for row in rows)
    lines += [f"{case}: {verdict} {count}" for (case, verdict), count in sorted(cases.items())]
    return "\n".join([*lines, *(json.dumps(row) for row in wrong)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no training after so many")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "verdicts.jsonl")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    rows = kept(args.out)
    done = {key(row) for row in rows}
    start = time.monotonic()
    for task in tasks(args.seeds):
        if args.report or time.monotonic() - start > args.seconds:
            break
        if key(task) in done:
            continue
        new = list(sliders(task))
        rows += new
        with args.out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in new)
        sys.stderr.write(f"{key(task)} {[(row.get('verdict'), round(row.get('share', 0), 2)) for row in new]}\n")
    print(verdict_report(rows))


if __name__ == "__main__":
    main()
