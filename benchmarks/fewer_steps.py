"""Does a slider learn more in as many steps by another optimizer, uneven rates, or noise and strengths drawn otherwise?

    python benchmarks/fewer_steps.py               # docs/benchmarks-step.md quotes it; goes on where it was stopped
    python benchmarks/fewer_steps.py --report

Both measurable worlds' hardest attributes, six pairs, 120 steps of two pairs, otherwise the product's training:

    adamw        the product's optimizer at the probe's rate
    up x N       B, the second factor of a LoRA, at N times that rate (LoRA+, Hayou et al. 2024); `down / N`: A at an Nth;
                 `both x N`: both at N times; `late x N`: those of the later half of the layers at N times
    muon x N     torch.optim.Muon (Jordan et al. 2024) on each factor, at N times the rate, its steps as long as AdamW's
    soap         SOAP (Vyas et al. 2024) of pytorch-optimizer
    antithetic   the two pairs of a batch at opposite noises
    strengths    each pair at half or one and a half times its strength and change, drawn anew at every step

learned at 30, 60 and 120 steps, on noise that no step has; effect as in frozen.py; leak of the other attributes at the slider's
own strength, over that effect.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import frozen
import stages
import torch
import verdicts
from results import keep, kept

from slider_core.backend import per_sample, seeded
from slider_core.config.training import Timesteps, TrainSpec
from slider_core.encode.noised import predict
from slider_core.layers.select import survey
from slider_core.lora.slider_adapter import Adapter
from slider_core.objective import noising
from slider_core.objective.step_loss import StepTarget, step_target
from slider_core.train import step_backward
from slider_core.train import trainer as loop
from slider_core.train.optimizers import BETAS

TASKS = (("faces", "mouth"), ("heads", "smile"), ("faces", "eyes"), ("heads", "eye"), ("faces", "size"), ("heads", "size"))
VARIANTS = (
    "adamw",
    "up x 4",
    "up x 16",
    "down / 4",
    "both x 2",
    "both x 4",
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
            half = len(parameters) // 2
            factors = [1.0] * half + [times] * (len(parameters) - half)
        groups = [{"params": [p], "times": factor} for p, factor in zip(parameters, factors, strict=True)]
        return timed(torch.optim.AdamW)(groups, lr=0.0, betas=BETAS, weight_decay=0.0)

    return make


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
    with changed:
        yield


def measured(world: str, attribute: str, name: str, seed: int) -> dict[str, Any]:
    """One slider of a variant. On the heads nothing is moved about, and levels lie in the middle."""
    model = verdicts.world(world)
    samples = stages.samples_of(model, world, attribute, "ends", seed)
    adapter = Adapter.create(model.module, survey(model.module, verdicts.LORA).targets, verdicts.LORA, seed=seed)
    choices = {"jitter": 0.0, "timesteps": Timesteps.LOGIT_NORMAL} if world == "heads" else {}
    learned: dict[int, float] = {}
    with variant(name):
        trainer = loop.Trainer(adapter, samples, TrainSpec(steps=STOPS[-1], lr=0.0, seed=seed, **choices))
        start = time.process_time()
        for stop in STOPS:
            trainer.run(model, stop, read_every=10**6)
            learned[stop] = trainer.readings[-1].mean
        seconds = time.process_time() - start
    found = {"world": world, "attribute": attribute, "variant": name, "seed": seed, "seconds": seconds, "learned": learned}
    return found | {"rate": trainer.rate, "best": trainer.readings[-1].reach} | frozen.drawn(model, world, attribute, adapter)


def _leak_over_effect(row: dict[str, Any]) -> float:
    change, leak = ({float(k): v for k, v in row[name].items()} for name in ("change", "leak"))
    return (leak[1.0] + leak[-1.0]) / max(0.01, change[1.0] - change[-1.0])


def report(rows: list[dict[str, Any]]) -> str:
    lines = ["| world, attribute | variant | seeds | learned at 30, 60, 120 | at the best strength | effect | leak over effect |"]
    lines.append("|---" * 7 + "|")
    for world, attribute in TASKS:
        for name in VARIANTS:
            some = [row for row in rows if (row["world"], row["attribute"], row["variant"]) == (world, attribute, name)]
            if not some:
                continue
            learned = ", ".join(f"{statistics.mean(row['learned'][str(stop)] for row in some):.1%}" for stop in STOPS)
            best = statistics.mean(row["best"] for row in some)
            leak = statistics.mean(_leak_over_effect(row) for row in some)
            effect, _ = frozen.effect_and_leak(some)
            cells = (f"{world}, {attribute}", name, len(some), learned, f"{best:.1%}", effect, f"{leak:.2f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    parser.add_argument("--only", nargs="+", default=["mouth", "smile"], help="attributes")
    parser.add_argument("--report", action="store_true", help="train nothing")
    out = verdicts.ROOT / "build" / "fewer_steps.jsonl"
    args = parser.parse_args()
    rows = kept(out)
    done = {(row["world"], row["attribute"], row["variant"], row["seed"]) for row in rows}
    wanted = [
        (*task, name, seed) for seed in range(args.seeds) for name in args.variants for task in TASKS if task[1] in args.only
    ]
    for task in () if args.report else [one for one in wanted if one not in done]:
        keep(out, measured(*task))
        sys.stderr.write(f"{task}\n")
    rows = kept(out)
    print(report(rows))


if __name__ == "__main__":
    main()
