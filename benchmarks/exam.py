"""The objectives on every measurable world, attribute by attribute, and the exam: attributes that nothing was chosen on.

    python benchmarks/exam.py --worlds heads avatars --steps 150        # goes on where it was stopped
    python benchmarks/exam.py --report --out benchmarks/exam.jsonl      # the table of docs/benchmarks-worlds.md

EXAM names the attributes on which no rate, threshold or rule was ever chosen; the rest is for tuning. Every objective has the
same pairs, steps, samples, rank, layers and initial weights, its authors' own settings (quality.py) and the rate that the
product's probe finds for it (train/learning_rate.py): none has a rate that was tuned on one world. All are calibrated by the same
rule. Effects are shares of the images' own gap, leak is in standard deviations of the other attributes.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from results import keep, kept

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent), str(Path(__file__).parent / "worlds")]

import quality  # noqa: E402
import torch  # noqa: E402

from slider_core.config.checks import SliderError  # noqa: E402
from slider_core.config.lora import AdapterSpec  # noqa: E402
from slider_core.config.training import TrainSpec  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.lora.strength import attached  # noqa: E402
from slider_core.train.calibration import Calibration  # noqa: E402
from slider_core.train.drawn import Drawn  # noqa: E402
from slider_core.train.measurement import measure as calibrate  # noqa: E402
from slider_core.train.progress import Reading  # noqa: E402
from slider_core.train.progress_ready import LOWER  # noqa: E402
from slider_core.train.progress_verdict import Evidence, judge  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.with_tiny.faces import CONTINUOUS, UNIFORM_STD, measure  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402
from slider_core.with_tiny.model_sweep import Curve, held_out_caption  # noqa: E402

EXAM = {"faces": ("size",), "heads": ("turn",), "latent heads": ("hair",), "avatars": ("mouth", "eyes", "glasses", "hair")}
TUNING = {"faces": ("mouth", "eyes"), "heads": ("smile", "eye", "size"), "latent heads": ("smile", "eye"), "avatars": ()}
STRENGTHS = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # calibrated
EQUAL = (0.2, 0.4)  # shares of the gap at which leak is read
HELD_OUT, SAMPLER_STEPS, STEPS, PAIRS = 8, 10, 300, 6


def drawn_faces(
    model: TinyBackend, adapter: Adapter | None, strength: float, steps: int, seeds: Sequence[int] = range(HELD_OUT)
) -> torch.Tensor:
    """Faces of held-out noise and prompts, in so many sampler steps."""
    some = []
    for seed in seeds:
        cond = model.encode_prompt(held_out_caption(seed))
        some.append(model.sample(cond, 50_000 + seed, [strength], adapter, steps))
    return torch.cat(some)


def read_faces(images: torch.Tensor) -> torch.Tensor:
    """(N, len(CONTINUOUS)) what the faces show."""
    return torch.tensor([[getattr(face, name) for name in CONTINUOUS] for face in measure(images)])


class World:
    """A model whose pictures can be read: `names` are the columns of what is read, `gap` lies between the images of a pair."""

    names: Sequence[str]
    gap: float
    spread: float  # standard deviation of an attribute over the world
    seeds: Sequence[int] = range(HELD_OUT)  # whose noise and prompts are drawn

    def __init__(self, name: str) -> None:
        torch.set_num_threads(1)
        self.name = name
        self.spread = UNIFORM_STD
        if name == "faces":
            self.model: Any = quality.backend()
            self.names, self.gap = CONTINUOUS, quality.GAP
        elif name == "avatars":
            import avatars

            self.module: Any = avatars
            self.model = avatars.AvatarsBackend()
            self.names, self.gap, self.spread = avatars.ATTRIBUTES, 2.0, 1.0
        else:
            import heads

            self.module = heads
            self.names, self.gap = (*heads.ATTRIBUTES, *heads.OTHERS), 2 * heads.EXTREME
            if name == "latent heads":
                import latent_heads

                self.module = latent_heads
            self.model = heads.HeadsBackend() if name == "heads" else self.module.LatentHeadsBackend()

    def samples(self, attribute: str, seed: int) -> list[Sample]:
        if self.name == "faces":
            return quality.images(self.model, attribute, PAIRS, seed, unpaired=False)
        return self.module.pairs(self.model, attribute, PAIRS, seed)

    def drawn(self, adapter: Adapter | None, strength: float) -> torch.Tensor:
        """Pictures of held-out noise and prompts."""
        if self.name != "faces":
            return self.model.draw(adapter, strength, self.seeds, SAMPLER_STEPS)
        return drawn_faces(self.model, adapter, strength, SAMPLER_STEPS, self.seeds)

    def read(self, images: torch.Tensor) -> torch.Tensor:
        """(N, len(names)) what the pictures show."""
        if self.name == "faces":
            return read_faces(images)
        return self.model.read(images)

    def curve(self, adapter: Adapter, unit: float, strengths: Sequence[float] = STRENGTHS) -> Curve:
        """What is read at calibrated strengths."""
        bare = self.read(self.drawn(None, 0.0))
        mean: dict[str, list[float]] = {name: [] for name in self.names}
        leak: dict[str, list[float]] = {name: [] for name in self.names}
        for strength in strengths:
            read = self.read(self.drawn(adapter, strength * unit))
            drift = (read - bare).abs().nanmean(dim=0) / self.spread
            for column, name in enumerate(self.names):
                mean[name].append(float(read[:, column].nanmean()))
                others = [float(value) for place, value in enumerate(drift) if place != column]
                leak[name].append(statistics.mean(others))
        return Curve(tuple(strengths), mean, {}, leak)


def trained(world: World, samples: list[Sample], seed: int, steps: int, choices: dict[str, Any]) -> Trainer:
    """A rate that burns the slider is lowered, and its training begins anew."""
    adapter_spec = AdapterSpec()
    spec = TrainSpec(**({"steps": steps, "lr": 0.0, "seed": seed} | choices))
    while True:
        adapter = Adapter.create(world.model.module, survey(world.model.module, adapter_spec).targets, adapter_spec, seed=seed)
        trainer = Trainer(adapter, samples, spec)
        try:
            trainer.run(world.model, steps, read_every=10**6)
        except SliderError:
            sys.stderr.write(f"rate {trainer.rate:g} burns\n")
            spec = replace(spec, lr=trainer.rate / LOWER)
        else:
            return trainer


def measured(world: World, trainer: Trainer) -> tuple[Reading, Calibration, Drawn]:
    """As every training ends."""
    adapter = trainer.adapter
    with world.model.borrowed(), attached(adapter, world.model.module):
        reading = trainer.probe.read(world.model, adapter, trainer.step)
    few_steps = trainer.spec.sampler_steps or world.model.few_steps
    meter, symmetric = trainer.probe.meter, reading.symmetric or 0.0
    return reading, *calibrate(world.model, adapter, trainer.samples, meter, None, symmetric, few_steps)


def judged(world: World, trainer: Trainer, attribute: str) -> dict[str, Any]:
    """Measured, drawn and read."""
    adapter = trainer.adapter
    reading, calibration, shown = measured(world, trainer)
    unit = calibration.unit
    sides = calibration.plus is not None, calibration.minus is not None
    verdict = judge(Evidence([reading], adapter.finite(), trainer.wanted, sides, shown))
    curve = world.curve(adapter, unit)
    gap = world.gap
    return {
        "unit": unit,
        "shown": [shown.share, shown.length, shown.distance, shown.contrast],
        "end": calibration.plus.end / unit if calibration.plus else None,
        "verdict": verdict.value,
        "moved_error": trainer.probe.moved_error,
        "share": curve.effect(attribute) / gap,
        "largest": max(curve.effect(attribute, -s, s) for s in STRENGTHS if s > 0) / gap,
        "leak": {str(e): quality.leak_at(curve, attribute, e * gap) for e in EQUAL},
        "monotone": curve.monotone(attribute, -2.0, 2.0),
        "linearity": quality.linearity(curve, attribute, 2.0),
        "sides": _sides(curve, attribute),
        "curve": curve.mean[attribute],
        "leaks": curve.leak[attribute],
    }


def _sides(curve: Curve, attribute: str) -> float:
    """How much further one side moves at 1 than the other."""
    line = curve.mean[attribute]
    low, zero, high = (line[curve.strengths.index(s)] for s in (-1.0, 0.0, 1.0))
    return max(high - zero, zero - low) / max(1e-9, min(high - zero, zero - low))


def run(task: dict[str, Any], choices: dict[str, Any]) -> dict[str, Any]:
    """One slider."""
    world = World(task["world"])
    samples = world.samples(task["attribute"], task["seed"])
    start = time.monotonic()
    trainer = trained(world, samples, task["seed"], task["steps"], choices)
    seconds = time.monotonic() - start
    found = judged(world, trainer, task["attribute"])
    return task | found | {"rate": trainer.rate, "seconds": round(seconds, 1)}


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("world", "attribute", "objective", "seed", "steps"))


def mean(values: Sequence[float | None], style: str = ".3f") -> str:
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return "not reached"
    return f"{statistics.mean(known):{style}}" + (f" ({len(known)} of {len(values)})" if len(known) < len(values) else "")


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line per world, attribute and objective, means over the seeds."""
    heads = ("world", "attribute", "objective", "share at +-1", "by seed", "largest", *(f"leak at {e:.0%}" for e in EQUAL))
    heads = (*heads, "monotone +-2", "R2", "sides apart")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for place in dict.fromkeys((r["world"], r["attribute"], r["objective"]) for r in rows):
        some = [r for r in rows if (r["world"], r["attribute"], r["objective"]) == place]
        by_seed = ", ".join(f"{r['share']:.2f}" for r in some)
        cells = [*place, mean([r["share"] for r in some], ".2f"), by_seed, mean([r["largest"] for r in some], ".2f")]
        cells += [mean([r["leak"][str(e)] for r in some]) for e in EQUAL]
        cells.append(f"{sum(r['monotone'] for r in some)} of {len(some)}")
        cells += [mean([r["linearity"] for r in some]), f"{statistics.median(r['sides'] for r in some):.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", choices=list(EXAM), default=list(EXAM))
    parser.add_argument("--attributes", nargs="+", help="only these")
    parser.add_argument("--objectives", nargs="+", choices=list(quality.OBJECTIVES), default=list(quality.OBJECTIVES))
    parser.add_argument("--tuning", action="store_true", help="the attributes that are for tuning, not the exam's")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no training after so many")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "exam.jsonl")
    args = parser.parse_args()
    rows = kept(args.out)
    start = time.monotonic()
    chosen = TUNING if args.tuning else EXAM
    tasks = [
        {"world": world, "attribute": attribute, "objective": objective, "seed": seed, "steps": args.steps}
        for seed in range(args.seeds)
        for world in args.worlds
        for attribute in chosen[world]
        for objective in args.objectives
        if not args.attributes or attribute in args.attributes
    ]
    done = {key(row) for row in rows}
    for task in tasks:
        if args.report or time.monotonic() - start > args.seconds:
            break
        if key(task) in done:
            continue
        rows.append(run(task, quality.OBJECTIVES[task["objective"]]))
        keep(args.out, rows[-1])
        sys.stderr.write(f"{key(task)} share {rows[-1]['share']:.2f}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
