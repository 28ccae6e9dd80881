"""Does a slider learn more in as many steps by another optimizer, uneven rates, or noise and strengths drawn otherwise?

    python benchmarks/fewer_steps.py               # docs/benchmarks-ready.md quotes it; goes on where it was stopped
    python benchmarks/fewer_steps.py --report

Both measurable worlds' hardest attributes, six pairs, 120 steps of two pairs, otherwise the product's training:

    adamw        the product's optimizer at the probe's rate
    up x N       B, the second factor of a LoRA, at N times that rate (LoRA+, Hayou et al. 2024); `down / N`: A at an Nth;
                 `both x N`: both at N times; `late x N`: those of the later half of the layers at N times
    late N       the same, at the rate that the probe finds when it moves them by as much
    muon x N     torch.optim.Muon (Jordan et al. 2024) on each factor, at N times the rate, its steps as long as AdamW's
    soap         SOAP (Vyas et al. 2024) of pytorch-optimizer
    antithetic   the two pairs of a batch at opposite noises
    strengths    each pair at half or one and a half times its strength and change, drawn anew at every step

learned at 30, 60 and 120 steps, on noise that no step has; effect and leak as in frozen.py, at the strength 1 that the product
chooses. Leak of the other attributes there, over that effect, and at an equal effect.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import frozen
import stages
import torch
import verdicts
from results import keep, kept

from slider_core.backend import per_sample, seeded
from slider_core.config.training import TrainSpec
from slider_core.encode.noised import predict
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.objective import noising
from slider_core.objective.step_loss import StepTarget, step_target
from slider_core.train import progress, step_backward
from slider_core.train import trainer as loop
from slider_core.train.learning_rate import probed_rate
from slider_core.train.optimizers import BETAS
from slider_core.train.training_run import Run

TASKS = (("faces", "mouth"), ("heads", "smile"), ("faces", "eyes"), ("heads", "eye"), ("faces", "size"), ("heads", "size"))
VARIANTS = (
    "adamw",
    "up x 4",
    "up x 16",
    "down / 4",
    "both x 2",
    "both x 2.5",
    "both x 4",
    "late x 4",
    "late 4",
    "muon x 1",
    "muon x 3",
    "soap",
    "antithetic",
    "strengths",
)
STOPS = (30, 60, 120)


def timed(kind: type[torch.optim.Optimizer]) -> type[torch.optim.Optimizer]:
    """The optimizer, whose groups multiply the trainer's rate by their own `times`."""

    class Timed(kind):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["lr"] *= group["times"]
            return super().step(closure)

    return Timed


class Muon(timed(torch.optim.Muon)):  # type: ignore[misc]
    """On the factors as matrices: a convolution's too."""

    def __init__(self, parameters: list[torch.nn.Parameter], times: float) -> None:
        matrices = [torch.nn.Parameter(p.detach().flatten(1)) for p in parameters]
        super().__init__([{"params": matrices, "times": times}], lr=0.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self.param_groups[0]["params"] = list(parameters)

    def step(self, closure: Any = None) -> Any:
        parameters = [p for p in self.param_groups[0]["params"] if p.grad is not None]
        whole = [(p.data, p.grad) for p in parameters]
        for p, (values, gradient) in zip(parameters, whole, strict=True):
            p.grad = None
            p.data, p.grad = values.flatten(1), gradient.flatten(1)
        super().step(closure)
        for p, (values, gradient) in zip(parameters, whole, strict=True):
            p.grad = None
            p.data, p.grad = values, gradient


def optimizer(name: str) -> Callable[[TrainSpec, list[torch.nn.Parameter]], torch.optim.Optimizer]:
    """In place of the trainer's make_optimizer. The factors come as A, B, A, B."""
    kind, times = name.split()[0], float(name.split()[-1])

    def make(_spec: TrainSpec, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        if kind == "muon":
            return Muon(parameters, times)
        if kind == "soap":
            from pytorch_optimizer import SOAP

            return SOAP(parameters, lr=1.0, betas=BETAS, weight_decay=0.0)
        down, up = {"down": (1 / times, 1.0), "both": (times, times)}.get(kind, (1.0, times))
        # a group for each, in their order: by that the trainer puts them on a device
        factors = [(down, up)[number % 2] for number in range(len(parameters))]
        if kind == "late":
            factors = late(parameters, times)
        groups = [{"params": [p], "times": factor} for p, factor in zip(parameters, factors, strict=True)]
        return timed(torch.optim.AdamW)(groups, lr=0.0, betas=BETAS, weight_decay=0.0)

    return make


def late(parameters: Sequence[torch.nn.Parameter], times: float) -> list[float]:
    """Factors of the rate: 1 for the earlier half of the layers."""
    half = len(parameters) // 2
    return [1.0] * half + [times] * (len(parameters) - half)


def probe_of_late(times: float) -> Callable[..., float]:
    """In place of progress.probed_rate: each parameter is moved by as much as its factor says."""

    def probed(parameters: list[torch.nn.Parameter], gradients: Any, moved_share: Callable[[], float], seed: int = 0) -> float:
        before = [p.detach().clone() for p in parameters]

        def moved() -> float:
            for p, start, factor in zip(parameters, before, late(parameters, times), strict=True):
                p.copy_(start + factor * (p - start))
            return moved_share()

        return probed_rate(parameters, gradients, moved, seed)

    return probed


def antithetic(batch: Any, spec: TrainSpec) -> tuple[torch.Tensor, torch.Tensor]:
    """In place of noising.draw_noise: every second pair has the noise of the one before it, with the other sign."""
    levels, noise = frozen_draw(batch, spec)
    number = torch.tensor(batch.noise)
    first = {n: noise[batch.noise.index(n)] for n in set(batch.noise)}
    rows = [-first[n - 1] if n % 2 and n - 1 in first else first[n] for n in number.tolist()]
    return levels, torch.stack(rows)


frozen_draw = noising.draw_noise


def several_strengths(backend: Any, drawn: Any, spec: TrainSpec) -> StepTarget:
    """In place of step_target: a pair's strengths and the change that is asked of it times 0.5 or 1.5."""
    asked = step_target(backend, drawn, spec)
    with torch.no_grad():
        base = predict(backend, asked.at)
    times = 0.5 + torch.randint(2, (max(drawn.noise) + 1,), generator=seeded(spec.seed, f"times {drawn.step}"))
    times_B = times[torch.tensor(drawn.noise)]
    strengths = [strength * factor for strength, factor in zip(asked.strengths, times_B.tolist(), strict=True)]
    prediction = base + per_sample(times_B, base) * (asked.prediction - base)
    return StepTarget(asked.at, prediction, asked.weight, strengths, asked.dropping, asked.count_B)


@contextmanager
def variant(name: str) -> Iterator[None]:
    if name == "antithetic":
        changed = patch.object(noising, "draw_noise", antithetic)
    elif name == "strengths":
        changed = patch.object(step_backward, "step_target", several_strengths)
    else:
        number = f"{name} 1" if name in ("adamw", "soap") else name
        changed = patch.object(loop, "make_optimizer", optimizer(number))
    of_late = name.startswith("late") and " x " not in name
    probe = patch.object(progress, "probed_rate", probe_of_late(float(name.split()[-1]))) if of_late else nullcontext()
    with changed, probe:
        yield


def measured(world: str, attribute: str, name: str, seed: int) -> dict[str, Any]:
    """One slider of a variant."""
    model = verdicts.world(world)
    samples = stages.samples_of(model, world, attribute, "ends", seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    learned: dict[int, float] = {}
    with variant(name):
        trainer = loop.Trainer(adapter, samples, TrainSpec(steps=STOPS[-1], lr=0.0, seed=seed))
        start = time.process_time()
        for stop in STOPS:
            trainer.run(model, stop, read_every=10**6)
            learned[stop] = trainer.readings[-1].mean
        seconds = time.process_time() - start
    run = Run("slider", {}, trainer, verdicts.LORA)
    run.calibrate(model)
    unit = run.measured[1].unit if run.measured else 1.0
    found = {"world": world, "attribute": attribute, "variant": name, "seed": seed, "seconds": seconds, "learned": learned}
    found |= {"rate": trainer.rate, "best": trainer.readings[-1].reach, "unit": unit}
    return found | frozen.drawn(model, world, attribute, adapter, unit)


def _leak_over_effect(row: dict[str, Any]) -> float:
    change, leak = ({float(k): v for k, v in row[name].items()} for name in ("change", "leak"))
    return (leak[1.0] + leak[-1.0]) / max(0.01, change[1.0] - change[-1.0])


def report(rows: list[dict[str, Any]]) -> str:
    heads = "world, attribute | variant | seeds | learned at 30, 60, 120 | at the best strength | effect | leak over effect"
    lines = [f"| {heads} | leak at 0.3 |", "|---" * 8 + "|"]
    for world, attribute in TASKS:
        for name in VARIANTS:
            some = [row for row in rows if (row["world"], row["attribute"], row["variant"]) == (world, attribute, name)]
            if not some:
                continue
            learned = ", ".join(f"{statistics.mean(row['learned'][str(stop)] for row in some):.1%}" for stop in STOPS)
            best = statistics.mean(row["best"] for row in some)
            leak = statistics.mean(_leak_over_effect(row) for row in some)
            effect, equal = frozen.effect_and_leak(some)
            cells = (f"{world}, {attribute}", name, len(some), learned, f"{best:.1%}", effect, f"{leak:.3f}", equal)
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--only", nargs="+", default=["mouth", "smile"], help="attributes")
    parser.add_argument("--report", action="store_true", help="train nothing")
    out = verdicts.ROOT / "build" / "fewer_steps.jsonl"
    args = parser.parse_args()
    rows = kept(out)
    done = {(row["world"], row["attribute"], row["variant"], row["seed"]) for row in rows}
    wanted = [(*task, name, seed) for seed in args.seeds for name in args.variants for task in TASKS if task[1] in args.only]
    for task in () if args.report else [one for one in wanted if one not in done]:
        keep(out, measured(*task))
        sys.stderr.write(f"{task}\n")
    rows = kept(out)
    print(report(rows))


if __name__ == "__main__":
    main()
