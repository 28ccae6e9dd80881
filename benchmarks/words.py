"""Sliders from words: ours against LECO and Concept Sliders on one base. docs/benchmarks-kinds.md quotes what this prints.

    python benchmarks/words.py                 # goes on where it was stopped; --jobs N processes

Every run of one attribute and seed has the same prompts, steps, latents per step, rank, layers, initial weights and base model.
The two of the field run as their authors have them, in this world's sizes: a latent is made anew for each step, from noise, with
the slider on, in a random number of the sampler's steps at guidance 3 away from the negative prompt; one sign only; plain squared
error of the prediction; constant rate, no clipping. LECO: guidance 1, nothing held. Concept Sliders: guidance 4, one of the
attributes to hold in each step. Each rule has the learning rate, of five, that did best on the eyes of another seed. All are
calibrated by the same rule and measured on held-out noise and captions.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import statistics
import sys
from pathlib import Path

from results import kept

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks")]
sys.path.append(str(ROOT))

import quality  # noqa: E402
import torch  # noqa: E402

from slider_core.backend import seeded  # noqa: E402
from slider_core.config.lora import AdapterSpec  # noqa: E402
from slider_core.config.training import TrainSpec  # noqa: E402
from slider_core.data.bucket_spec import TextSliderSpec  # noqa: E402
from slider_core.data.dataset import add_text_slider  # noqa: E402
from slider_core.encode.encoder import Sample  # noqa: E402
from slider_core.encode.text_latents import encode_all  # noqa: E402
from slider_core.layers.select import survey  # noqa: E402
from slider_core.lora.slider_adapter import Adapter  # noqa: E402
from slider_core.lora.strength import at_strength  # noqa: E402
from slider_core.train.calibration_search import calibrate  # noqa: E402
from slider_core.train.trainer import Trainer  # noqa: E402
from slider_core.with_tiny.faces import CONTINUOUS, PHRASES, UNIFORM_STD, measure  # noqa: E402
from slider_core.with_tiny.model import SIZE, TinyBackend  # noqa: E402
from slider_core.with_tiny.model_sweep import held_out_caption  # noqa: E402

TARGET = "a face with tan skin on a blue background"
ATTRIBUTES, STEPS, LATENTS = ("eyes", "size", "mouth"), 100, 4
TUNE_RATES, TUNE_ON, TUNE_SEED = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2), "eyes", 20
SAMPLER, AWAY, LECO_GUIDANCE, CONCEPT_GUIDANCE = 10, 3.0, 1.0, 4.0
RULES = ("words", "words, nothing held", "leco", "concept_sliders")
STRENGTHS = (-3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0)


def spec_of(attribute: str, seed: int, hold: bool) -> TextSliderSpec:
    """The prompts of an attribute; what is held is what can be said of the others."""
    plus, minus = PHRASES[attribute]
    others = tuple(p for name, phrases in PHRASES.items() if name != attribute for p in phrases) if hold else ()
    return TextSliderSpec(TARGET, f"{TARGET}, {plus}", f"{TARGET}, {minus}", others, seed=seed)


def fresh(model: TinyBackend, seed: int) -> Adapter:
    return Adapter.create(model.module, survey(model.module, AdapterSpec()).targets, AdapterSpec(), seed=seed)


def ours(model: TinyBackend, words: TextSliderSpec, rate: float, seed: int) -> Adapter:
    samples = encode_all(add_text_slider(words), model)
    trainer = Trainer(fresh(model, seed), samples, TrainSpec(steps=STEPS, lr=rate, batch=LATENTS, seed=seed))
    trainer.run(model, STEPS, read_every=10**6)
    return trainer.adapter


def partly_made(
    model: TinyBackend, noise: torch.Tensor, target: object, negative: object, steps: int
) -> tuple[torch.Tensor, ...]:
    """(x, sigma) after so many of the sampler's steps from `noise`, with whatever slider is attached."""
    sigmas, x = torch.linspace(1, 0, SAMPLER + 1), noise
    for now, following in itertools.pairwise(sigmas[: steps + 1]):
        with_text, without = (model.predict(x, now.expand(len(x)), [c] * len(x)) for c in (target, negative))
        x = x + (following - now) * (without + AWAY * (with_text - without))
    return x, sigmas[steps].expand(len(x))


def theirs(model: TinyBackend, words: TextSliderSpec, guidance: float, rate: float, seed: int) -> Adapter:
    """LECO's loop, which is Concept Sliders' too: the rule that stands at the head of this file."""
    adapter, draw = fresh(model, seed), seeded(seed, "theirs")
    told = [[model.encode_prompt(text) for text in prompts] for prompts in words.prompts]
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=rate)
    ones = [1.0] * LATENTS
    for _ in range(STEPS):
        target, positive, negative = told[int(torch.randint(len(told), (), generator=draw))]
        steps = int(torch.randint(1, SAMPLER, (), generator=draw))
        noise = torch.randn(LATENTS, 3, SIZE, SIZE, generator=draw)
        with torch.no_grad():
            with at_strength(adapter, model.module, ones):
                x, sigma = partly_made(model, noise, target, negative, steps)
            base, plus, minus = (model.predict(x, sigma, [c] * LATENTS) for c in (target, positive, negative))
        with at_strength(adapter, model.module, ones):
            loss = (model.predict(x, sigma, [target] * LATENTS) - base - guidance * (plus - minus)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return adapter


def trained(model: TinyBackend, rule: str, attribute: str, rate: float, seed: int) -> Adapter:
    if rule.startswith("words"):
        return ours(model, spec_of(attribute, seed, rule == "words"), rate, seed)
    concept = rule == "concept_sliders"
    return theirs(model, spec_of(attribute, seed, concept), CONCEPT_GUIDANCE if concept else LECO_GUIDANCE, rate, seed)


def run(task: dict) -> dict:
    """One slider, calibrated and measured."""
    model, attribute, seed = quality.backend(), task["attribute"], task["seed"]
    adapter = trained(model, task["rule"], attribute, task["lr"], seed)
    samples: list[Sample] = encode_all(
        add_text_slider(spec_of(attribute, 1000 + seed, False)), model
    )  # the same for all, and new
    found = calibrate(model, adapter, samples, seed)
    curve = quality.swept(model, adapter, STRENGTHS, found.unit)
    ends = [curve.strengths.index(s) for s in (-1.0, 1.0)]
    return task | {
        "unit": found.unit,
        "explained": [side.explained if side else 0.0 for side in (found.plus, found.minus)],
        "effect": curve.effect(attribute),
        "best": max(curve.effect(attribute, -s, s) for s in STRENGTHS if s > 0),
        "monotone1": curve.monotone(attribute),
        "monotone2": curve.monotone(attribute, -2.0, 2.0),
        "linearity": quality.linearity(curve, attribute, 2.0),
        "leak": {str(e): quality.leak_at(curve, attribute, e) for e in quality.EQUAL},
        "bias": quality.bias(curve, attribute),
        "flipped": 1 - min(curve.kept[kind][i] for kind in curve.kept for i in ends),
        "curve": curve.mean[attribute],
        "leak at 1": statistics.mean(curve.leak[attribute][i] for i in ends),
    }


def said(attribute: str) -> dict:
    """What the prompts themselves draw on the held-out noise: the effect between both, and the leak to the other attributes."""
    model = quality.backend()

    def drawn(phrase: str) -> list:
        captions = [", ".join(filter(None, (held_out_caption(n), phrase))) for n in range(quality.HELD_OUT)]
        told = enumerate(captions)
        images = [model.sample(model.encode_prompt(c), 50_000 + n, (0.0,), None, quality.SAMPLER_STEPS) for n, c in told]
        return measure(torch.cat(images))

    plus, minus, plain = (drawn(phrase) for phrase in (*PHRASES[attribute], ""))
    effect = statistics.mean(getattr(p, attribute) - getattr(m, attribute) for p, m in zip(plus, minus, strict=True))
    others = [a for a in CONTINUOUS if a != attribute]
    shifted = [
        abs(getattr(f, a) - getattr(b, a)) for side in (plus, minus) for f, b in zip(side, plain, strict=True) for a in others
    ]
    return {"attribute": attribute, "effect": effect, "leak": statistics.mean(shifted) / UNIFORM_STD}


def table(rows: list[dict], prompts: list[dict]) -> str:
    """Markdown: a line per attribute and rule, means over seeds, under what the prompts draw."""
    head = ("attribute", "rule", "effect at +-1", "largest effect", "monotone +-1, +-2", "R2 over +-2")
    head = (*head, *(f"leak at {e}" for e in quality.EQUAL), "bias", "explained", "flipped")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for prompt in prompts:
        some = [r for r in rows if r["attribute"] == prompt["attribute"]]
        if some:
            blank = " | |" + " |" * (len(quality.EQUAL) - 1)
            lines.append(
                f"| {prompt['attribute']} | the prompts | {prompt['effect']:.2f} | | | leak {prompt['leak']:.3f} | {blank} | | |"
            )
        for rule in RULES:
            if mine := [r for r in some if r["rule"] == rule]:
                lines.append(_line(rule, mine))
    return "\n".join(lines)


def _line(rule: str, mine: list[dict]) -> str:
    def mean(key: str) -> float:
        return statistics.mean(r[key] for r in mine)

    cells = [mine[0]["attribute"], rule, f"{mean('effect'):.2f}", f"{mean('best'):.2f}"]
    cells.append(f"{sum(r['monotone1'] for r in mine)}, {sum(r['monotone2'] for r in mine)} of {len(mine)}")
    cells.append(f"{mean('linearity'):.3f}")
    cells += [quality.mean([r["leak"][str(e)] for r in mine]) for e in quality.EQUAL]
    explained = statistics.mean(share for r in mine for share in r["explained"])
    cells += [f"{mean('bias'):.3f}", f"{explained:.0%}", f"{mean('flipped'):.1%}"]
    return "| " + " | ".join(cells) + " |"


def tuned(rows: list[dict], rule: str) -> float:
    """The rate of a rule: the largest calibrated effect less what leaks there, in world units."""
    some = [r for r in rows if r["rule"] == rule and r["seed"] == TUNE_SEED]
    return max(some, key=lambda r: r["effect"] - 2 * r["leak at 1"] * UNIFORM_STD)["lr"]


def key(task: dict) -> tuple:
    return task["rule"], task["attribute"], task["seed"], task["lr"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--attributes", nargs="+", default=list(ATTRIBUTES), choices=ATTRIBUTES)
    parser.add_argument("--rules", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "words.jsonl")
    args = parser.parse_args()
    args.out.parent.mkdir(exist_ok=True)
    rows = kept(args.out)
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool, args.out.open("a") as file:

        def measure(tasks: list[dict]) -> None:
            there = {key(row) for row in rows}
            for row in pool.imap_unordered(run, [t for t in tasks if key(t) not in there]):
                rows.append(row)
                file.write(json.dumps(row) + "\n")
                file.flush()

        measure([{"rule": r, "attribute": TUNE_ON, "seed": TUNE_SEED, "lr": lr} for r in args.rules for lr in TUNE_RATES])
        rates = {rule: tuned(rows, rule) for rule in args.rules}
        every = itertools.product(range(args.seeds), args.attributes, args.rules)
        wanted = [{"rule": r, "attribute": a, "seed": s, "lr": rates[r]} for s, a, r in every]
        measure(wanted)
    there = {key(task) for task in wanted}
    rows = [row for row in rows if key(row) in there]
    print("Learning rates:", rates)
    sys.stdout.write(table(rows, [said(a) for a in args.attributes]) + "\n")


if __name__ == "__main__":
    main()
