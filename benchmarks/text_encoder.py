"""Is a slider in the text encoder alone better than one in the diffusion model? docs/objectives.md quotes what this prints.

    python benchmarks/text_encoder.py          # goes on where it was stopped

On the built-in model, whose text encoder is a table of words and one of places: both get low-rank changes (rank 4), and nothing
else does. The same prompts or the same six pairs, targets, steps, samples and optimizer as a slider in the diffusion model,
whose rate is that of words.py (prompts) or the probe's (images); the text encoder has the one of three that leaks least on
another seed. Drawn are six held-out noises and captions, at as many strengths as it takes to compare leak at equal effect.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import quality
import torch
from results import keep, kept
from torch import nn
from words import LATENTS, ROOT, spec_of

from slider_core.backend import Conditioning
from slider_core.config.lora import AdapterSpec
from slider_core.config.sweep import SweepSpec
from slider_core.config.training import TrainSpec
from slider_core.data.dataset import add_text_slider
from slider_core.encode.encoder import Sample
from slider_core.encode.text_latents import encode_all
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.objective.batch_plan import plan
from slider_core.objective.step_loss import StepTarget, step_target
from slider_core.train.trainer import Trainer
from slider_core.use.sweep import sweep
from slider_core.with_tiny.model import TEXT_LENGTH, TEXT_WIDTH, VOCABULARY, TinyBackend, tokenize
from slider_core.with_tiny.model_sweep import Curve, held_out_caption, measured_curve

HELD_OUT, RANK, STEPS, WORDS_RATE = 6, 4, {"prompts": 100, "images": 150}, 8e-3
RATES, TUNE_SEED = (3e-3, 1e-2, 3e-2), 20
EQUAL = (0.4, 0.8, 1.2)
OUT = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
STRENGTHS = (*(-s for s in reversed(OUT)), 0.0, *OUT)


class TextChange(nn.Module):
    """What strength 1 adds to the encoded words: (B, TEXT_LENGTH) ids -> (B, TEXT_LENGTH, TEXT_WIDTH)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        downs = [torch.randn(RANK, TEXT_WIDTH, generator=generator) / RANK**0.5 for _ in range(2)]
        self.down = nn.ParameterList(downs)
        self.up = nn.ParameterList([torch.zeros(rows, RANK) for rows in (len(VOCABULARY), TEXT_LENGTH)])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.up[0][ids] @ self.down[0] + self.up[1] @ self.down[1]


def encoded(model: TinyBackend, change: TextChange, texts: Sequence[str], strengths: Sequence[float]) -> torch.Tensor:
    ids = torch.tensor([tokenize(text) for text in texts])
    return model._text(ids) + torch.tensor(strengths)[:, None, None] * change(ids)


def loss(model: TinyBackend, change: TextChange, asked: StepTarget) -> torch.Tensor:
    """The product's own loss of a step, with the slider in the text."""
    context = encoded(model, change, [cond.text for cond in asked.at.cond], asked.strengths)
    error = model.module(asked.at.x, asked.at.sigma_B * 1000, context) - asked.prediction
    return ((asked.weight * error.square()).flatten(1).mean(dim=1) * asked.count_B).mean()


def in_text(model: TinyBackend, samples: list[Sample], spec: TrainSpec) -> TextChange:
    change, batches = TextChange(spec.seed), plan(samples, spec)
    optimizer = torch.optim.AdamW(change.parameters(), lr=spec.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, spec.steps)
    for step in range(spec.steps):
        optimizer.zero_grad()
        loss(model, change, step_target(model, batches.batch(step), spec)).backward()
        optimizer.step()
        schedule.step()
    return change


def in_model(model: TinyBackend, samples: list[Sample], spec: TrainSpec) -> Adapter:
    adapter = Adapter.create(model.module, survey(model.module, AdapterSpec()).targets, AdapterSpec(), seed=spec.seed)
    trainer = Trainer(adapter, samples, spec)
    trainer.run(model, spec.steps, read_every=10**6)
    return adapter


def curve_of(model: TinyBackend, slider: TextChange | Adapter) -> Curve:
    def drawn(strengths: Sequence[float], seed: int) -> torch.Tensor:
        text = held_out_caption(seed)
        if isinstance(slider, Adapter):
            return model.sample(model.encode_prompt(text), 50_000 + seed, strengths, slider, quality.SAMPLER_STEPS)
        with torch.no_grad():
            contexts = encoded(model, slider, [text] * len(strengths), strengths)
        rows = []
        for context in contexts:
            rows.append(model.sample(Conditioning(text, context[None]), 50_000 + seed, (0.0,), None, quality.SAMPLER_STEPS))
        return torch.cat(rows)

    result = sweep(SweepSpec(STRENGTHS, tuple(range(quality.HELD_OUT)), steps=quality.SAMPLER_STEPS), drawn)
    return measured_curve(result, result.images[:, result.spec.strengths.index(0.0)])


def run(model: TinyBackend, place: str, source: str, attribute: str, rate: float, seed: int) -> dict[str, Any]:
    if source == "prompts":
        samples = encode_all(add_text_slider(spec_of(attribute, seed, True)), model)
    else:
        samples = quality.images(model, attribute, 6, seed, unpaired=False)
    spec = TrainSpec(steps=STEPS[source], lr=rate, batch=LATENTS, seed=seed)
    start = time.process_time()
    slider = in_text(model, samples, spec) if place == "text encoder" else in_model(model, samples, spec)
    seconds = time.process_time() - start
    curve = curve_of(model, slider)
    leak = {str(e): quality.leak_at(curve, attribute, e) for e in EQUAL}
    row = {"place": place, "source": source, "attribute": attribute, "rate": rate, "seed": seed, "seconds": seconds, "leak": leak}
    row["parameters"] = sum(p.numel() for p in slider.parameters())
    row["largest"] = max(curve.effect(attribute, -s, s) for s in OUT)
    return row | {"effect": curve.effect(attribute), "monotone": curve.monotone(attribute, -2.0, 2.0)}


def report(rows: list[dict[str, Any]]) -> str:
    head = ("attribute", "from", "slider in", "effect as trained", "largest", *(f"leak at {e}" for e in EQUAL))
    head = (*head, "monotone +-2", "weights", "s")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for group in dict.fromkeys((row["attribute"], row["source"], row["place"]) for row in rows):
        some = [row for row in rows if (row["attribute"], row["source"], row["place"]) == group]
        cells = [*group, *(f"{statistics.mean(row[name] for row in some):.2f}" for name in ("effect", "largest"))]
        cells += [quality.mean([row["leak"][str(e)] for row in some]) for e in EQUAL]
        cells.append(f"{sum(row['monotone'] for row in some)} of {len(some)}")
        cells += [str(some[0]["parameters"]), f"{statistics.mean(row['seconds'] for row in some):.0f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--attributes", nargs="+", default=["eyes", "size"])
    args = parser.parse_args()
    out = ROOT / "build" / "text_encoder.jsonl"
    rows = kept(out)
    model = quality.backend()
    quality.HELD_OUT = HELD_OUT

    def row_of(place: str, source: str, attribute: str, rate: float, seed: int) -> dict[str, Any]:
        wanted = {"place": place, "source": source, "attribute": attribute, "rate": rate, "seed": seed}
        for row in rows:
            if wanted.items() <= row.items():
                return row
        rows.append(run(model, place, source, attribute, rate, seed))
        keep(out, rows[-1])
        sys.stderr.write(f"{rows[-1]}\n")
        return rows[-1]

    shown = []
    for source in STEPS:
        tried = {rate: row_of("text encoder", source, "eyes", rate, TUNE_SEED) for rate in RATES}
        best = min(tried, key=lambda rate: tried[rate]["leak"]["0.8"] or math.inf)
        rates = {"text encoder": best, "diffusion model": WORDS_RATE if source == "prompts" else 0.0}
        for seed, attribute, (place, rate) in itertools.product(range(args.seeds), args.attributes, rates.items()):
            shown.append(row_of(place, source, attribute, rate, seed))
        sys.stderr.write(f"{source}: rate of the text encoder {best}\n")
    print(report(sorted(shown, key=lambda row: (row["attribute"], row["source"], row["place"]))))


if __name__ == "__main__":
    main()
