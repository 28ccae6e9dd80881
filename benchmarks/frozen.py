"""Must the frozen model be asked anew at every step? What a slider is when its answer is kept, shared or done without.

    python benchmarks/frozen.py                # docs/benchmarks.md quotes it; goes on where it was stopped
    python benchmarks/frozen.py --report

Both measurable worlds, six pairs, 200 steps of two pairs at the probe's rate, otherwise the product's training:

    fresh     a new noise for every pair and step (the product's)
    kept N    N noises, levels and shifts for each pair, in turn: the frozen answer is computed at the first use of each
    levels N  a new noise every time, at the same levels as `kept N`
    shared    both signs at the same image of the pair: one frozen answer serves both. How much of the pair it still sees is
              taken from that one answer
    without   the same, and the mean of the two signs' own answers in place of the frozen one

asked   share of the frozen answers of `fresh` that are computed
learned on noise that no step has, at the slider's own strength and at the best
effect  from -1 to +1 in drawn pictures from held-out noise, share of the images' gap
leak    of the other attributes where the attribute has moved by 0.3 of the extreme on both sides, in the attribute's own units
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import stages
import torch
import verdicts
from results import keep, kept

from slider_core.backend import per_sample, seeded
from slider_core.config.training import TrainSpec
from slider_core.encode.noised import predict
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.strength import at_strength
from slider_core.objective import formulas, noising
from slider_core.objective.step_loss import StepTarget, masked_mean
from slider_core.train.trainer import Trainer

TASKS = (("faces", "mouth"), ("faces", "eyes"), ("faces", "size"), ("heads", "eye"), ("heads", "size"))
VARIANTS = ("fresh", "kept 16", "kept 32", "shared", "without", "levels 32")
STEPS = 200
STRENGTHS = (0.0, 0.5, 1.0, 1.5)


@dataclass
class Kept:
    """`count` noises for each pair, in turn, or new ones at as many levels; which of them were used."""

    count: int
    new: bool = False
    visits: dict[Any, int] = field(default_factory=dict)
    used: set[tuple[Any, int]] = field(default_factory=set)
    shifts: list[tuple[int, int]] = field(default_factory=list)

    def noise(self, batch: Any, spec: TrainSpec) -> tuple[torch.Tensor, torch.Tensor]:
        """In place of noising.draw_noise."""
        levels, noises, self.shifts = [], [], []
        for number in range(max(batch.noise) + 1):
            sample = batch.samples[batch.noise.index(number)]
            visit = self.visits.get(sample.pair, 0)
            self.visits[sample.pair] = visit + 1
            draw = visit if self.new else visit % self.count
            self.used.add((sample.pair, draw))
            generator = seeded(spec.seed, f"kept {sample.pair} {draw}")
            order = torch.randperm(self.count, generator=seeded(spec.seed, f"kept {sample.pair}"))
            level = (order[visit % self.count] + torch.rand((), generator=generator)) / self.count
            levels.append(level.clamp(noising.EDGE, 1 - noising.EDGE))
            noises.append(torch.randn(sample.latent.shape, generator=generator))
            down, right = (round(formulas.JITTER * side) for side in sample.latent.shape[-2:])
            move = (int(torch.randint(-most, most + 1, (), generator=generator)) for most in (down, right))
            self.shifts.append(tuple(move))
        rows = torch.tensor(batch.noise)
        return torch.stack(levels)[rows], torch.stack(noises)[rows]

    def shift(self, batch: Any, _spec: TrainSpec) -> list[tuple[int, int]]:
        """In place of noising.draw_shifts, which is asked after the noise."""
        return [self.shifts[number] for number in batch.noise]


def _at_one_image(batch: Any) -> Any:
    """Both rows of each pair at the same of its two images, as the noise level's digits have it."""
    half = len(batch.sigma_B) // 2
    sides = (batch.sigma_B[:half] * 1e5).long().tolist()
    return batch.rows([number + half * (side % 2) for number, side in enumerate(sides)] * 2)


def _seen(at: Any, batch: Any, base: torch.Tensor) -> torch.Tensor:
    """formulas.visible_share from the answer at one of the images: what it drifts to the other is open, on both sides alike."""
    half = len(base) // 2
    way = (batch.latent + batch.swapped().latent - 2 * at.latent)[:half].float()  # from this image to the other
    drift = ((base - at.right) / at.scale)[:half]
    share = (drift * way).flatten(1).sum(1) / way.square().flatten(1).sum(1).clamp_min(1e-12)
    return per_sample((1 - 2 * share).clamp(0, 1).repeat(2), base)


@torch.no_grad()
def shared(backend: Any, batch: Any, share: torch.Tensor) -> Any:
    """displacement with one frozen answer for both signs."""
    at = _at_one_image(batch)
    half = predict(backend, at.rows(range(len(at.latent) // 2)))
    base = torch.cat((half, half))
    still_open = 1 - _seen(at, batch, base).pow(formulas.DECIDED)
    away = batch.latent - batch.swapped().latent
    return formulas.TrainingTarget(at, base + at.scale * share * formulas.HALF * still_open * away, base)


def without(_backend: Any, batch: Any, share: torch.Tensor) -> Any:
    """The same, asked of the slider's own mean: `_loss_without` adds that."""
    at = _at_one_image(batch)
    object.__setattr__(at, "pair", batch)
    away = batch.latent - batch.swapped().latent
    return formulas.TrainingTarget(at, at.scale * share * formulas.HALF * away)


def _loss_without(asked: StepTarget, backend: Any, adapter: Any) -> torch.Tensor:
    with at_strength(adapter, backend.module, asked.strengths, asked.dropping):
        answer = predict(backend, asked.at)
    plus, minus = answer.detach().chunk(2)
    base = ((plus + minus) / 2).repeat(2, *[1] * (answer.ndim - 1))
    still_open = 1 - _seen(asked.at, asked.at.pair, base).pow(formulas.DECIDED)
    error = answer - base - still_open * asked.prediction
    return masked_mean(asked.weight * error.square(), asked.at.masks)


@contextmanager
def variant(name: str) -> Iterator[Kept | None]:
    """The product's training with one thing changed."""
    displacement = formulas.Objective.DISPLACEMENT
    kind, _, count = name.partition(" ")
    if count:
        kept = Kept(int(count), kind == "levels")
        with patch.object(noising, "draw_noise", kept.noise), patch.object(noising, "draw_shifts", kept.shift):
            yield kept
    elif name == "shared":
        with patch.dict(formulas.FORMULAS, {displacement: formulas.Formula(shared, formulas.JITTER)}):
            yield None
    elif name == "without":
        within = patch.dict(formulas.FORMULAS, {displacement: formulas.Formula(without, formulas.JITTER)})
        rows = patch.object(StepTarget, "rows", lambda asked, _some: asked)  # the whole batch at once
        with within, rows, patch.object(StepTarget, "loss", _loss_without):
            yield None
    else:
        yield None


def measured(world: str, attribute: str, name: str, seed: int) -> dict[str, Any]:
    """One slider of a variant, at every strength."""
    model = verdicts.world(world)
    samples = stages.samples_of(model, world, attribute, "ends", seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    trainer = Trainer(adapter, samples, TrainSpec(steps=STEPS, lr=0.0, seed=seed))
    trainer.run(model, 1, read_every=10**6)  # the probe's rate is the same for all
    with variant(name) as kept:
        start = time.monotonic()
        trainer.run(model, STEPS - 1, read_every=10**6)
        seconds = time.monotonic() - start
    trainer.run(model, STEPS, read_every=10**6)
    asked = len(kept.used) / sum(kept.visits.values()) if kept else {"shared": 0.5, "without": 0.0}.get(name, 1.0)
    reading = trainer.readings[-1]
    found = {"world": world, "attribute": attribute, "variant": name, "seed": seed, "seconds": seconds, "asked": asked}
    found |= {"rate": trainer.rate, "learned": reading.mean, "best": reading.reach}
    return found | drawn(model, world, attribute, adapter)


def drawn(model: Any, world: str, attribute: str, adapter: Adapter, unit: float = 1.0) -> dict[str, dict[float, float]]:
    """In pictures from held-out noise, by strength in units: how far the attribute moves, as a share of the extreme, and the
    others."""
    values = {s: stages.values(model, world, adapter, s * unit) for size in STRENGTHS for s in {size, -size}}
    extreme = stages.FACE_EXTREME if world == "faces" else stages.EXTREME
    others = [other for other in values[0.0] if other != attribute]
    change = {s: stages._change(values[s][attribute], values[0.0][attribute]) / extreme for s in values}
    leak = {s: statistics.mean(stages._apart(values[s][n], values[0.0][n]) for n in others) for s in values}
    return {"change": change, "leak": leak}


def effect_and_leak(rows: list[dict[str, Any]]) -> tuple[str, str]:
    """Two cells: the mean effect at the slider's own strength, the mean leak at an equal one and of how many sliders."""
    effect = statistics.mean((row["change"]["1.0"] - row["change"]["-1.0"]) / 2 for row in rows)
    leaks = [leak for row in rows if (leak := leak_at_equal(row)) is not None]
    return f"{effect:.2f}", f"{statistics.mean(leaks):.3f} ({len(leaks)})" if leaks else "not reached"


def leak_at_equal(row: dict[str, Any]) -> float | None:
    """Where both sides together have moved by 2 EQUAL."""
    before = lost = 0.0
    for strength in STRENGTHS[1:]:
        sides = (str(strength), str(-strength))
        effect = row["change"][sides[0]] - row["change"][sides[1]]
        leak = sum(row["leak"][side] for side in sides) / 2
        if effect >= 2 * stages.EQUAL:
            return lost + (2 * stages.EQUAL - before) / (effect - before) * (leak - lost)
        if effect <= before:
            return None
        before, lost = effect, leak
    return None


def report(rows: list[dict[str, Any]]) -> str:
    lines = ["| world, attribute | variant | seeds | asked | learned | effect | leak at 0.3 |", "|---" * 7 + "|"]
    for world, attribute in TASKS:
        for name in VARIANTS:
            some = [row for row in rows if (row["world"], row["attribute"], row["variant"]) == (world, attribute, name)]
            if not some:
                continue
            asked, learned = (statistics.mean(row[key] for row in some) for key in ("asked", "learned"))
            cells = (f"{world}, {attribute}", name, len(some), f"{asked:.0%}", f"{learned:.1%}", *effect_and_leak(some))
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--only", nargs="+", default=[attribute for _, attribute in TASKS], help="attributes")
    parser.add_argument("--report", action="store_true", help="train nothing")
    out = verdicts.ROOT / "build" / "frozen.jsonl"
    args = parser.parse_args()
    rows = kept(out)
    done = {(row["world"], row["attribute"], row["variant"], row["seed"]) for row in rows}
    wanted = [
        (*task, name, seed) for seed in range(args.seeds) for task in TASKS if task[1] in args.only for name in args.variants
    ]
    for task in () if args.report else [one for one in wanted if one not in done]:
        start = time.monotonic()
        keep(out, measured(*task))
        sys.stderr.write(f"{task} {time.monotonic() - start:.0f} s\n")
    rows = kept(out)
    print(report(rows))


if __name__ == "__main__":
    main()
