"""Is "Works" true? Many sliders on both measurable worlds, good and bad, and what the product says of each.

    python benchmarks/verdicts.py                       # goes on where it was stopped; some hours of one core
    python benchmarks/verdicts.py --kind rate           # the probe's rate against a sweep of rates

A slider has an effect when what it draws at its calibrated ends covers at least EFFECT of the images' own gap, as the world's own
measure reads it on held-out noise. A wrong "works" has none; a wrong refusal has one, and is refused. Thresholds of the product
were set without the second world (worlds/heads.py), which is left out where its weights were not made.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(Path(__file__).parent / "worlds")]

import heads  # noqa: E402
import torch  # noqa: E402
from quality import GAP, images, swept  # noqa: E402

from slider_core.config.lora import AdapterSpec, Algorithm  # noqa: E402
from slider_core.config.training import Objective, TrainSpec  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.train.progress_verdict import Verdict, judge  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.train.training_run import Run  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402

EFFECT = 0.15  # of the images' gap, between both calibrated ends
WORLDS = {"faces": ("mouth", "eyes", "size"), "heads": heads.ATTRIBUTES}
FITS = ("good", "good", "teacher", "paired", "rank_1", "unpaired")  # what should work, as often as it stands here
BREAKS = ("four_steps", "burnt", "same_ends", "shuffled", "copies", "untrained")
RATES = (0.1, 0.3, 1.0, 3.0, 10.0)  # times the probe's
ADAPTERS = {
    **{f"lora {rank}": AdapterSpec(rank=rank, alpha=float(rank)) for rank in (1, 4, 16, 32)},
    **{kind.value: AdapterSpec(algorithm=kind) for kind in Algorithm if kind is not Algorithm.LORA},
}


def spec_of(case: str, seed: int) -> TrainSpec:
    """How a case is trained; as the defaults have it unless the case says."""
    plain: dict[str, Any] = {"steps": 0, "lr": 0.0, "seed": seed}
    changes: dict[str, dict[str, Any]] = {
        "teacher": {"objective": Objective.TEACHER_DIFFERENCE},
        "paired": {"objective": Objective.DENOISE_PAIRED},
        "four_steps": {"steps": 4},
        "burnt": {"steps": 80, "lr": 0.05, "any_rate": True},
        "untrained": {"steps": 1, "lr": 1e-7},
    }
    return TrainSpec(**plain | changes.get(case, {}))


def mangled(case: str, samples: list[Sample], seed: int) -> list[Sample]:
    """The samples, with what the case has wrong about them."""
    positive = [s for s in samples if s.strength > 0]
    negative = [s for s in samples if s.strength < 0]
    if case == "copies":  # both sides show the same
        return positive + [replace(s, strength=-1.0) for s in positive]
    if case == "same_ends":  # both sides hold positives, of other people
        half = len(positive) // 2
        return positive[:half] + [replace(s, strength=-1.0, pair=n) for n, s in enumerate(positive[half:])]
    if case == "shuffled":  # half of the pairs are the wrong way round
        flips = [random.Random(seed).random() < 0.5 for _ in positive]
        flips[0], flips[1] = True, False
        swapped = []
        for flip, one, other in zip(flips, positive, negative, strict=True):
            swapped += [(other, one) if flip else (one, other)]
        return [replace(p, strength=1.0) for p, _ in swapped] + [replace(n, strength=-1.0) for _, n in swapped]
    return samples


def world(name: str) -> Any:
    torch.set_num_threads(1)
    return TinyBackend() if name == "faces" else heads.HeadsBackend()


def trained_run(task: dict[str, Any], model: Any, spec: TrainSpec, adapter_spec: AdapterSpec) -> Run:
    name, attribute, seed, case = (task[key] for key in ("world", "attribute", "seed", "case"))
    make = images if name == "faces" else heads.pairs
    samples = mangled(case, make(model, attribute, 6, seed, case == "unpaired"), seed)
    adapter = Adapter.create(model.module, survey(model.module, adapter_spec).targets, adapter_spec, seed=seed)
    run = Run("slider", {}, Trainer(adapter, samples, spec), adapter_spec)
    run.trainer.run(model, run.trainer.end)
    run.calibrate(model)
    return run


def share_of(task: dict[str, Any], model: Any, run: Run) -> float:
    """The effect at the calibrated ends, share of the images' gap."""
    unit = run.measured[1].unit if run.measured else 1.0
    if task["world"] == "faces":
        return swept(model, run.trainer.adapter, (-1.0, 0.0, 1.0), unit).effect(task["attribute"]) / GAP
    return heads.effect(model, run.trainer.adapter, task["attribute"], unit)


def measured(task: dict[str, Any]) -> dict[str, Any]:
    """One slider: what is said of it, and what it does."""
    model = world(task["world"])
    begun = time.monotonic()
    if "factor" in task:
        run = rated_run(task, model)
    else:
        rank = AdapterSpec(rank=1, alpha=1.0) if task["case"] == "rank_1" else AdapterSpec()
        run = trained_run(task, model, spec_of(task["case"], task["seed"]), rank)
    last = run.trainer.readings[-1]
    drawn = run.drawn
    return task | {
        "verdict": judge(run.evidence()).value,
        "share": share_of(task, model, run),
        "learned": last.mean,
        "reach": last.reach,
        "strength": last.strength,
        "symmetric": last.symmetric,
        "shifted": last.shifted,
        "drawn": drawn and drawn.distance,
        "contrast": drawn and drawn.contrast,
        "steps": run.step,
        "rate": run.trainer.rate,
        "seconds": round(time.monotonic() - begun),
    }


def rated_run(task: dict[str, Any], model: Any) -> Run:
    """200 steps at some times the probe's rate."""
    adapter = ADAPTERS[task["adapter"]]
    spec = TrainSpec(steps=1, lr=0.0, seed=task["seed"])
    rate = trained_run(task, model, spec, adapter).trainer.rate * task["factor"]
    return trained_run(task, model, TrainSpec(steps=200, lr=min(rate, 10.0), any_rate=True, seed=task["seed"]), adapter)


def tasks(kind: str, seeds: int, worlds: list[str]) -> list[dict[str, Any]]:
    """All sliders of a kind of measurement; the first hold some of everything."""
    found = []
    if kind == "verdict":
        for seed, place in itertools.product(range(seeds), range(len(FITS) + len(BREAKS))):
            case = [*FITS, *BREAKS][place]
            for name in worlds:
                attribute = WORLDS[name][(seed + place) % len(WORLDS[name])]
                found.append({"world": name, "attribute": attribute, "case": case, "seed": seed + 100 * (place == 1)})
        return found
    for seed, adapter, factor, name in itertools.product(range(seeds), ADAPTERS, RATES, worlds):
        attribute = WORLDS[name][1]
        found.append({"world": name, "attribute": attribute, "case": "rate", "seed": seed, "adapter": adapter, "factor": factor})
    return found


def key(row: dict[str, Any]) -> str:
    return json.dumps([row.get(name) for name in ("world", "attribute", "case", "seed", "adapter", "factor")])


def verdict_report(rows: list[dict[str, Any]]) -> str:
    """Counts, and every verdict that is wrong."""
    lines = []
    for name in WORLDS:
        some = [row for row in rows if row["world"] == name and "factor" not in row]
        effect = [row for row in some if row["share"] >= EFFECT and row["case"] not in BREAKS]
        works = [row for row in some if row["verdict"] == Verdict.WORKS.value]
        wrong = [row for row in works if row["share"] < EFFECT]
        refused = [row for row in effect if row["verdict"] != Verdict.WORKS.value]
        lines.append(f"{name}: {len(some)} sliders, {len(works)} said to work, {len(wrong)} of these wrongly;")
        lines.append(f"  {len(effect)} with an effect, {len(refused)} of these refused.")
        for kind, bad in (("wrong works", wrong), ("refused", refused)):
            for row in bad:
                shown = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}
                lines.append(f"  {kind}: {json.dumps(shown)}")
    return "\n".join(lines)


def rate_report(rows: list[dict[str, Any]]) -> str:
    """For each adapter: what was learned at each rate over what was learned at the best one."""
    lines = [
        "| world | adapter | probe's rate | " + " | ".join(f"x {f:g}" for f in RATES) + " |",
        "|---" * (3 + len(RATES)) + "|",
    ]
    for name, adapter in itertools.product(WORLDS, ADAPTERS):
        some = {row["factor"]: row for row in rows if row.get("adapter") == adapter and row["world"] == name}
        if not some:
            continue
        best = max(row["learned"] for row in some.values())
        cells = [f"{some[f]['learned'] / best:.0%}" if f in some and best > 0 else "-" for f in RATES]
        rate = next(row["rate"] / factor for factor, row in some.items())
        lines.append(f"| {name} | {adapter} | {rate:.2g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["verdict", "rate"], default="verdict")
    parser.add_argument("--seeds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no slider after so many")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "verdicts.jsonl")
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    worlds = [name for name in WORLDS if name == "faces" or heads.WEIGHTS.is_file()]
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {key(row) for row in rows}
    begun = time.monotonic()
    for task in tasks(args.kind, args.seeds, worlds):
        if args.report or time.monotonic() - begun > args.seconds:
            break
        if key(task) in done:
            continue
        rows.append(measured(task))
        with args.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        sys.stderr.write(f"{key(task)} {rows[-1]['verdict']} {rows[-1]['share']:.2f}\n")
    print(verdict_report(rows) if args.kind == "verdict" else rate_report(rows))


if __name__ == "__main__":
    main()
