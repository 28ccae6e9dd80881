"""Which objective makes the best slider from the same images? docs/benchmarks.md quotes the tables this prints.

    make bench-quality                     # some hours of one core, on two at a time; goes on where it was stopped
    python benchmarks/quality.py --only main --seeds 2

Every run of one attribute, seed and kind of images has the same pairs, steps, samples per step, rank, layers, initial weights and
base model. The field's objectives run as their authors have them: constant rate (Concept Sliders, SimpleTuner; SimpleTuner draws
logit-normal noise levels for flow models), cosine and min-SNR with gamma 1 (TrainTrain's presets), images not moved. Each has the
learning rate that did best on the attribute it was tuned on (`--only tune`). All are calibrated by the same rule, and measured on
held-out noise with captions of their own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from results import keep, kept

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT))

import torch  # noqa: E402

from slider_core.config.lora import AdapterSpec  # noqa: E402
from slider_core.config.sweep import SweepSpec  # noqa: E402
from slider_core.config.training import Objective, Schedule, Timesteps, TrainSpec, Weighting  # noqa: E402
from slider_core.encode.alignment import line_up  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.calibration import CalibrationInfo  # noqa: E402
from slider_core.lora.info import SliderInfo  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.train.calibration_search import calibrate  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.use.plot_curves import draw_curve  # noqa: E402
from slider_core.with_tiny.faces import SKINS, UNIFORM_STD, render, sample_faces  # noqa: E402
from slider_core.with_tiny.faces_pairs import EXTREME, make_pairs  # noqa: E402
from slider_core.with_tiny.model import TinyBackend  # noqa: E402
from slider_core.with_tiny.model_sweep import Curve, measured_sweep  # noqa: E402

GAP = 2 * EXTREME
ATTRIBUTES = ("mouth", "eyes", "size")
STEPS, CURVE_STEPS = 300, (50, 100, 300, 1000)
STRENGTHS = (-4.0, -3.0, -2.0, -1.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # calibrated
EQUAL = (0.4, 0.8, 1.2)  # effects at which leak is read
HELD_OUT, SAMPLER_STEPS = 10, 10
OWN, BEHIND = "tan", ("blue", "green")  # with neutral images: the skin of the pairs' faces; the backgrounds it is measured on
NEUTRAL_WEIGHTS = (None, 0.0, 1.0, 4.0)  # None: no neutral images, and as many steps of pairs as the others have
TUNE_RATES, TUNE_ON, TUNE_SEED = (1e-3, 2e-3, 4e-3, 8e-3), "mouth", 20
OBJECTIVES = {
    "denoise_rotating": {
        "objective": Objective.DENOISE_ROTATING,
        "timesteps": Timesteps.LOGIT_NORMAL,
        "schedule": Schedule.CONSTANT,
    },
    "denoise_paired": {"objective": Objective.DENOISE_PAIRED, "schedule": Schedule.CONSTANT},
    "teacher_difference": {
        "objective": Objective.TEACHER_DIFFERENCE,
        "weighting": Weighting.MIN_SNR,
        "snr_gamma": 1.0,
        "schedule": Schedule.COSINE,
    },
    "displacement": {"objective": Objective.DISPLACEMENT},
}


def backend() -> TinyBackend:
    torch.set_num_threads(1)
    return TinyBackend()


def images(model: TinyBackend, attribute: str, pairs: int, seed: int, unpaired: bool, neutral: int | None = None) -> list[Sample]:
    """Encoded renders. With `neutral`, the pairs are faces of one skin and the neutral images as many of the other skins."""
    faces = make_pairs(attribute, pairs, 100 + seed, unpaired)
    if neutral is not None:
        faces = [tuple(replace(face, skin=OWN) for face in pair) for pair in faces]
    sides = [[pair[side] for pair in faces] for side in (0, 1)]
    latents = [model.encode_images(render(side)) for side in sides]
    aligned = line_up(*latents)
    found = []
    for sign, side, latent in zip((1.0, -1.0), sides, latents, strict=True):
        for number, (face, one) in enumerate(zip(side, latent, strict=True)):
            found.append(Sample(one, model.encode_prompt(face.caption), sign, number, aligned=aligned))
    others = sample_faces(neutral, torch.Generator().manual_seed(3000 + seed)) if neutral else []
    skins = itertools.cycle(skin for skin in SKINS if skin != OWN)
    for face in (replace(face, skin=skin) for face, skin in zip(others, skins, strict=False)):
        one = model.encode_images(render([face]))[0]
        found.append(Sample(one, model.encode_prompt(face.caption), 0.0, None, aligned=False))
    return found


def trained(model: TinyBackend, samples: list[Sample], spec: TrainSpec) -> tuple[Trainer, float]:
    """(the trainer, seconds)."""
    adapter_spec = AdapterSpec()
    adapter = Adapter.create(model.module, survey(model.module, adapter_spec).targets, adapter_spec, seed=spec.seed)
    trainer, begun = Trainer(adapter, samples, spec), time.monotonic()
    trainer.run(model, spec.steps, read_every=10**6)
    return trainer, time.monotonic() - begun


def swept(model: TinyBackend, adapter: Adapter, strengths: tuple[float, ...], unit: float = 1.0) -> Curve:
    """Measured at calibrated strengths, on held-out noise and captions."""
    info = SliderInfo(calibration=CalibrationInfo(True, unit=unit))
    return measured_sweep(model, adapter, SweepSpec(strengths, tuple(range(HELD_OUT)), steps=SAMPLER_STEPS), info)[1]


def effects(model: TinyBackend, adapter: Adapter, unit: float, attribute: str) -> dict[str, float]:
    """Effect at +-1 on faces with each skin, over two backgrounds."""
    info, found = SliderInfo(calibration=CalibrationInfo(True, unit=unit)), {}
    for skin in SKINS:
        curves = []
        for behind in BEHIND:
            prompt = f"a face with {skin} skin on a {behind} background"
            spec = SweepSpec((-1.0, 0.0, 1.0), tuple(range(HELD_OUT)), prompt=prompt, steps=SAMPLER_STEPS)
            curves.append(measured_sweep(model, adapter, spec, info)[1])
        found[skin] = statistics.mean(curve.effect(attribute) for curve in curves)
    return found


def linearity(curve: Curve, attribute: str, reach: float) -> float:
    """R^2 of a straight line through the means over -reach .. reach."""
    points = [(s, v) for s, v in zip(curve.strengths, curve.mean[attribute], strict=True) if abs(s) <= reach and math.isfinite(v)]
    return statistics.correlation(*zip(*points, strict=True)) ** 2


def leak_at(curve: Curve, attribute: str, wanted: float) -> float | None:
    """Leak at the first strength on the way out where the effect between both sides is `wanted`; None when it is not reached."""
    before, lost = 0.0, 0.0
    for strength in (s for s in curve.strengths if s > 0):
        sides = [curve.strengths.index(sign * strength) for sign in (-1, 1)]
        effect = curve.effect(attribute, -strength, strength)
        leak = sum(curve.leak[attribute][i] for i in sides) / 2
        if effect >= wanted:
            return lost + (wanted - before) / (effect - before) * (leak - lost)
        if not effect > before:
            return None
        before, lost = effect, leak
    return None


def bias(curve: Curve, attribute: str) -> float:
    """Mean over the other attributes of how far their *mean* moves at +-1, in standard deviations, per unit of effect."""
    zero, ends = curve.strengths.index(0.0), [curve.strengths.index(s) for s in (-1.0, 1.0)]
    shifted = [abs(line[end] - line[zero]) for name, line in curve.mean.items() if name != attribute for end in ends]
    return statistics.mean(shifted) / UNIFORM_STD / max(1e-6, curve.effect(attribute))


def sides_apart(curve: Curve, attribute: str) -> float:
    """How much larger a share of its own gap (from the base to the images) one side covers at +-1 than the other."""
    line = curve.mean[attribute]
    low, zero, high = (line[curve.strengths.index(s)] for s in (-1.0, 0.0, 1.0))
    shares = ((high - zero) / (EXTREME - zero), (zero - low) / (zero + EXTREME))
    return max(shares) / max(1e-9, min(shares))


def run(task: dict) -> dict:
    """One trained slider, calibrated and measured."""
    model = backend()
    samples = images(model, task["attribute"], task["pairs"], task["seed"], task["unpaired"], task.get("neutral"))
    extra = {"neutral_weight": task["neutral_weight"]} if "neutral_weight" in task else {}
    spec = TrainSpec(steps=task["steps"], lr=task["lr"], seed=task["seed"], **OBJECTIVES[task["objective"]], **extra)
    trainer, seconds = trained(model, samples, spec)
    attribute = task["attribute"]
    found = dict(task) | {"seconds": round(seconds, 1), "aligned": samples[0].aligned}
    raw = swept(model, trainer.adapter, (-1.0, 0.0, 1.0))
    found["raw_effect"] = raw.effect(attribute)
    if task["kind"] == "steps":
        return found
    measured = calibrate(model, trainer.adapter, samples, task["seed"])
    repeats = (1000, 2000) if task["kind"] == "main" else ()
    again = [calibrate(model, trainer.adapter, samples, task["seed"] + n).unit for n in repeats]
    curve = swept(model, trainer.adapter, STRENGTHS, measured.unit)
    ends = [curve.strengths.index(s) for s in (-1.0, 1.0)]
    best = max(curve.effect(attribute, -s, s) for s in STRENGTHS if s > 0)
    if task["kind"] == "neutral":
        found["effects"] = effects(model, trainer.adapter, measured.unit, attribute)
    return found | {
        "unit": measured.unit,
        "units_again": again,
        "found_sides": [side is not None for side in (measured.plus, measured.minus)],
        "effect": curve.effect(attribute),
        "best": best,
        "monotone1": curve.monotone(attribute),
        "monotone2": curve.monotone(attribute, -2.0, 2.0),
        "linearity": linearity(curve, attribute, 2.0),
        "leak": {str(e): leak_at(curve, attribute, e) for e in EQUAL},
        "asymmetry": sides_apart(curve, attribute),
        "bias": bias(curve, attribute),
        "flipped": 1 - min(curve.kept[kind][i] for kind in curve.kept for i in ends),
        "curve": curve.mean[attribute],
        "leaks": curve.leak[attribute],
    }


def tasks(kind: str, seeds: int, rates: dict[str, float]) -> list[dict]:
    """What a kind of measurement consists of."""

    def task(objective: str, attribute: str, seed: int, **more: object) -> dict:
        plain = {"kind": kind, "objective": objective, "attribute": attribute, "seed": seed, "pairs": 6, "unpaired": False}
        return plain | {"steps": STEPS, "lr": rates.get(objective, TrainSpec.lr)} | more

    every = list(itertools.product(range(seeds), ATTRIBUTES))
    if kind == "tune":
        return [task(o, TUNE_ON, TUNE_SEED, lr=lr) for o in OBJECTIVES for lr in TUNE_RATES]
    if kind == "main":
        return [task(o, a, s) for s, a in every for o in OBJECTIVES]
    if kind == "four":
        return [task(o, a, s, pairs=4) for s, a in every for o in OBJECTIVES]
    if kind == "unpaired":
        apart = [o for o in OBJECTIVES if o != "teacher_difference"]  # which has no meaning without pairs
        return [task(o, a, s, pairs=p, unpaired=True) for p in (6, 4) for s, a in every for o in apart]
    if kind == "neutral":
        some = {w: {"neutral": 0, "steps": 200} if w is None else {"neutral": 12, "neutral_weight": w} for w in NEUTRAL_WEIGHTS}
        return [task("displacement", a, s, **more) for s, a in every for more in some.values()]
    return [
        task(o, a, s, steps=n)
        for n in CURVE_STEPS
        if n != STEPS
        for s, a in every[: 3 * (2 if n > STEPS else seeds)]
        for o in OBJECTIVES
    ]


def key(task: dict) -> str:
    names = ("kind", "objective", "attribute", "seed", "pairs", "unpaired", "steps", "lr", "neutral", "neutral_weight")
    return json.dumps([task.get(n) for n in names])


def mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return "not reached"
    return f"{sum(known) / len(known):.3f}" + (f" ({len(known)} of {len(values)})" if len(known) < len(values) else "")


def table(rows: list[dict]) -> str:
    """Markdown: a line per attribute and objective, means over seeds; then the means over the attributes."""
    head = ("attribute", "objective", "effect at +-1", "of gap", "largest effect", "monotone +-1, +-2", "R2 over +-2")
    head = (*head, *(f"leak at {e}" for e in EQUAL), "bias", "sides apart", "flipped", "s")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for attribute in (*ATTRIBUTES, "all"):
        for name in OBJECTIVES:
            some = [r for r in rows if r["objective"] == name and attribute in (r["attribute"], "all")]
            if not some:
                continue
            effect = statistics.mean(r["effect"] for r in some)
            cells = [attribute, name, f"{effect:.2f}", f"{effect / GAP:.0%}", f"{statistics.mean(r['best'] for r in some):.2f}"]
            cells.append(f"{sum(r['monotone1'] for r in some)}, {sum(r['monotone2'] for r in some)} of {len(some)}")
            cells.append(f"{statistics.mean(r['linearity'] for r in some):.3f}")
            cells += [mean([r["leak"][str(e)] for r in some]) for e in EQUAL]
            cells.append(mean([r["bias"] if r["effect"] > 0 else None for r in some]))
            apart = statistics.median(r["asymmetry"] for r in some)
            cells.append(f"{apart:.2f}" if apart < 10 else "one side moves the wrong way")
            cells.append(f"{statistics.mean(r['flipped'] for r in some):.1%}")
            cells.append(f"{statistics.mean(r['seconds'] for r in some):.0f}")
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def steps_table(rows: list[dict]) -> str:
    """Markdown: effect at the strength of training, by steps."""
    lines = [
        "| attribute | objective | " + " | ".join(f"{n} steps" for n in CURVE_STEPS) + " |",
        "|" + "---|" * (2 + len(CURVE_STEPS)),
    ]
    for attribute in ATTRIBUTES:
        for name in OBJECTIVES:
            cells = []
            for n in CURVE_STEPS:
                some = [r["raw_effect"] for r in rows if (r["attribute"], r["objective"], r["steps"]) == (attribute, name, n)]
                some = [effect for effect in some if math.isfinite(effect)]  # a face too large to be measured has none
                cells.append(f"{statistics.mean(some):+.2f} ({len(some)})" if some else "-")
            lines.append(f"| {attribute} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def units_table(rows: list[dict]) -> str:
    """Markdown: how far the units of one slider lie apart that two noises give, median over seeds and couples of three noises;
    in brackets in how many couples by less than 10 %."""
    lines = ["| objective | " + " | ".join(ATTRIBUTES) + " |", "|" + "---|" * (1 + len(ATTRIBUTES))]
    for name in OBJECTIVES:
        cells = []
        for attribute in ATTRIBUTES:
            some = [(r["unit"], *r["units_again"]) for r in rows if (r["objective"], r["attribute"]) == (name, attribute)]
            apart = [max(two) / min(two) - 1 for units in some for two in itertools.combinations(units, 2)]
            cells.append(f"{statistics.median(apart):.1%} ({sum(a < 0.1 for a in apart)} of {len(apart)})" if apart else "-")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def neutral_table(rows: list[dict]) -> str:
    """Markdown: what a slider does to faces like its pairs', and to faces like the neutral images."""
    heads = ("attribute", "neutral images", "effect on faces like the pairs'", "on the others", "share of it")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for attribute, weight in itertools.product(ATTRIBUTES, NEUTRAL_WEIGHTS):
        some = [r for r in rows if (r["attribute"], r.get("neutral_weight")) == (attribute, weight)]
        if some:
            what = "none, 200 steps" if weight is None else f"12, weight {weight:g}, 300 steps, every third neutral"
            own = statistics.mean(r["effects"][OWN] for r in some)
            others = statistics.mean(r["effects"][skin] for r in some for skin in SKINS if skin != OWN)
            lines.append(f"| {attribute} | {what} | {own:.2f} | {others:.2f} | {others / own:.0%} |")
    return "\n".join(lines)


def figure(rows: list[dict], out: Path) -> None:
    """The measured attribute against calibrated strength, a panel per attribute, a line per objective (means over seeds)."""
    from PIL import Image

    shown = [i for i, s in enumerate(STRENGTHS) if abs(s) <= 3 and abs(s) != 0.25]
    panels = []
    for attribute in ATTRIBUTES:
        lines = {}
        for name in OBJECTIVES:
            curves = [r["curve"] for r in rows if r["objective"] == name and r["attribute"] == attribute]
            if curves:
                lines[name.replace("denoise_", "").replace("teacher_difference", "teacher")] = [
                    statistics.mean([c[i] for c in curves if math.isfinite(c[i])] or [math.nan]) for i in shown
                ]
        panels.append(
            draw_curve([STRENGTHS[i] for i in shown], lines, f"{attribute}: measured against calibrated strength", "world units")
        )
    whole = Image.new("RGB", (panels[0].width, sum(p.height for p in panels)), (250, 250, 250))
    for number, panel in enumerate(panels):
        whole.paste(panel, (0, number * panel.height))
    whole.save(out, optimize=True)


def tuned(rows: list[dict]) -> dict[str, float]:
    """The rate of each objective: the largest calibrated effect less what leaks there, in world units."""
    found = {}
    for name in OBJECTIVES:
        some = [r for r in rows if r["kind"] == "tune" and r["objective"] == name]
        if some:
            ends = [STRENGTHS.index(s) for s in (-1.0, 1.0)]
            found[name] = max(some, key=lambda r: r["effect"] - sum(r["leaks"][i] for i in ends) * UNIFORM_STD)["lr"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ["tune", "main", "steps", "four", "unpaired", "neutral"]
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2)))
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "quality.jsonl", help="what was measured; a run goes on from it"
    )
    parser.add_argument(
        "--rates", nargs=len(OBJECTIVES), type=float, help=f"not tuned ones, in the order {', '.join(OBJECTIVES)}"
    )
    parser.add_argument("--figure", type=Path, default=ROOT / "build" / "quality.png")
    args = parser.parse_args()
    given = dict(zip(OBJECTIVES, args.rates or (), strict=bool(args.rates)))
    rows = kept(args.out)
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for kind in kinds:
            if kind not in args.only:
                continue
            done = {key(row) for row in rows}
            left = [task for task in tasks(kind, args.seeds, given or tuned(rows)) if key(task) not in done]
            for row in pool.imap_unordered(run, left):
                rows.append(row)
                keep(args.out, row)
                sys.stderr.write(f"{key(row)} effect {row.get('effect', row['raw_effect']):.2f}\n")
    by = {kind: [r for r in rows if r["kind"] == kind] for kind in kinds}
    print("Learning rates:", given or tuned(rows))
    for title, some in (
        ("6 aligned pairs", by["main"]),
        ("4 aligned pairs", by["four"]),
        *((f"{n} + {n} images that do not line up", [r for r in by["unpaired"] if r["pairs"] == n]) for n in (6, 4)),
    ):
        if some:
            print(f"\n{title}\n\n{table(some)}")
    if by["steps"]:
        print(f"\nEffect at the strength of training\n\n{steps_table(by['steps'] + by['main'])}")
    if by["neutral"]:
        print(f"\nNeutral images\n\n{neutral_table(by['neutral'])}")
    again = [r for r in by["main"] if r["units_again"]]
    if again:
        print(f"\nThe calibrated unit on other noise\n\n{units_table(again)}")
    if by["main"]:
        figure(by["main"], args.figure)


if __name__ == "__main__":
    main()
