"""The learning rate: found by a probe of a few batches, and its course over the steps.

Two things bound it, and the probe measures both with no scale of its own, in units of what the pairs want:

    pull     at first all parameters go one way, each by about the rate: along the signs of a mean gradient
    noise    later most of a step is to and fro: every parameter up or down at random

The rate is the highest at which the one moves the model by PULL at most and the other by NOISE. One rule serves each algorithm,
rank and model, because what a unit of the rate moves is measured: along the gradient and at random 36 and 17, and 43 and 7, for a
LoRA of rank 4 on two models; 4 and 4, 12 and 3 at rank 1; 230 and 48, 270 and 19 at rank 32; 570 and 146, 1330 and 49 for full.

At the first step a LoRA's second factors are 0, so a random step is felt through one layer at a time. Once the layers act they
amplify each other's noise, and how much is known only then. On the built-in model a unit of the rate moves half as much after the
first steps as before them; on a one-step model it moved seven times as much, and its sliders unlearned what they had learned. So
on distilled models the noise is read once more after SETTLED steps, and the rate that was found may become lower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..backend import seeded
from ..config.checks import need
from ..config.hosts import advice
from ..config.training import Optimizer, Schedule, TrainSpec

BATCHES = 2  # whose gradients are averaged
PULL, NOISE = 0.2, 0.045  # of the wanted displacement, that a step of the rate makes at most
DRAWS = 2  # random directions over which the second is averaged
FIRST, MOST_TRIES, NEAR = 1e-3, 6, 3.0  # the rate that is tried first; tries count that come within this factor of their aim
UNKNOWN = 2e-3  # where nothing can be measured: the two sides do not differ
LEAST, MOST = 1e-7, 1.0
SETTLED = 10  # steps, or those of a longer warm-up
FAR_BEYOND = 10.0  # times the probe's rate: a hand-set one burns
FAR_BELOW = 20.0  # and below that it hardly learns
FLOOR = 0.05  # what is left of the rate at the end of a schedule


def summed_gradients(parameters: Sequence[nn.Parameter], leave: Callable[[int], object]) -> list[torch.Tensor]:
    """The sum of the gradients that `leave` leaves in the parameters for each of BATCHES batches, by number."""
    sums = [torch.zeros_like(p) for p in parameters]
    for number in range(BATCHES):
        leave(number)
        for total, p in zip(sums, parameters, strict=True):
            if p.grad is not None:
                total += p.grad
    return sums


@torch.no_grad()
def probed_rate(
    parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor], moved_share: Callable[[], float], seed: int = 0
) -> float:
    """The highest rate at which a step against the signs of `gradients` moves the model by PULL at most, and one in a random
    direction by NOISE. `moved_share`: the size of the displacement that the parameters as they are make, in units of what is
    wanted; not finite where that cannot be said.

    The parameters are the same afterwards, bit for bit. Cost: mostly four calls.
    """
    with _moving(parameters, moved_share) as moved:
        generator = seeded(seed, "learning rate")
        rate = _rate_at(NOISE, DRAWS, FIRST, lambda tried: moved(tried, _directions(parameters, generator)))
        along = [gradient.sign() for gradient in gradients]
        if rate is not None and not moved(rate, along) <= PULL:
            rate = _rate_at(PULL, 1, rate, lambda tried: moved(tried, along))
    return UNKNOWN if rate is None else float(f"{rate:.3g}")


@torch.no_grad()
def noise_rate(parameters: Sequence[nn.Parameter], moved_share: Callable[[], float], rate: float, seed: int = 0) -> float:
    """`rate`, or the lower one at which a step in a random direction moves the model by NOISE. `moved_share`: as in
    `probed_rate`, from the parameters as they are, which are the same afterwards. Cost: mostly two or three calls."""
    with _moving(parameters, moved_share) as moved:
        generator = seeded(seed, "noise")
        lower = _rate_at(NOISE, DRAWS, rate, lambda tried: moved(tried, _directions(parameters, generator)))
    return rate if lower is None else min(rate, float(f"{lower:.3g}"))


def settles(spec: TrainSpec, step: int) -> bool:
    """Whether a rate that was found is to be read once more at `step`."""
    return bool(spec.sampler_steps) and not spec.lr and step >= max(SETTLED, spec.warmup)


@contextmanager
def _moving(
    parameters: Sequence[nn.Parameter], moved_share: Callable[[], float]
) -> Iterator[Callable[[float, Sequence[torch.Tensor]], float]]:
    """A function that moves the parameters from where they are, so far against so many directions, and measures what that does.
    They are where they were afterwards, bit for bit."""
    before = [p.detach().clone() for p in parameters]

    def moved(rate: float, directions: Sequence[torch.Tensor]) -> float:
        for p, start, direction in zip(parameters, before, directions, strict=True):
            p.copy_(start - rate * direction)
        return moved_share()

    try:
        yield moved
    finally:
        for p, start in zip(parameters, before, strict=True):
            p.copy_(start)


def _rate_at(aim: float, draws: int, rate: float, moved: Callable[[float], float]) -> float | None:
    """The rate at which `moved` is `aim`, from `draws` tries near it; None where nothing is wanted, or nothing moves."""
    squares: list[float] = []  # of what a unit of the rate moves
    for _ in range(MOST_TRIES):
        share = moved(rate)
        if math.isnan(share) or share <= 0:
            return None
        if math.isinf(share):
            rate = max(LEAST, rate / 10)
            continue
        if 1 / NEAR <= share / aim <= NEAR:
            squares.append((share / rate) ** 2)
        unit = math.sqrt(sum(squares) / len(squares)) if squares else share / rate
        rate = min(MOST, max(LEAST, aim / unit))
        if len(squares) == draws:
            break
    return rate


def _directions(parameters: Sequence[nn.Parameter], generator: torch.Generator) -> list[torch.Tensor]:
    return [_signs(p, generator) for p in parameters]


def _signs(p: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """1 and -1 at random, the same on every device."""
    return (2.0 * torch.randint(2, p.shape, generator=generator) - 1).to(p)


def learning_rate(spec: TrainSpec, step: int, peak: float | None = None, fall: tuple[int, int] | None = None) -> float:
    """The rate of `step` (from 0): a linear warm-up to `peak` (the spec's own unless given), then the schedule over `spec.steps`.
    Without a number of steps it stays until the slider is ready and falls over the steps of `fall` (first, end).
    Schedule-Free needs no schedule."""
    rate = spec.lr if peak is None else peak
    rate *= min(1.0, (step + 1) / max(1, spec.warmup))
    if spec.schedule is Schedule.CONSTANT or spec.optimizer is Optimizer.SCHEDULE_FREE:
        return rate
    first, end = (0, spec.steps) if spec.steps else fall or (step, step + 1)
    way = min(1.0, max(0, step - first) / max(1, end - first))
    if spec.schedule is Schedule.LINEAR:
        return rate * (FLOOR + (1 - FLOOR) * (1 - way))
    return rate * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * way)) / 2)


def need_plausible(spec: TrainSpec, probed: float | None) -> None:
    """SliderError where the rate that was set is far beyond what the probe finds."""
    if probed is None or not spec.lr:
        return
    message = (
        f"The learning rate {spec.lr:g} is {spec.lr / probed:.0f} times what a probe of this model finds ({probed:.2g}), and "
        "will burn the slider: set it to 0, which takes the probe's. To train at it all the same: "
        + advice("any_rate in Slider Train Options.", "--any-rate.")
    )
    need(spec.any_rate or spec.lr <= FAR_BEYOND * probed, message, "training.rate_far_beyond")


def rate_note(spec: TrainSpec, probed: float | None, rate: float) -> str:
    """A sentence on the rate, for the status. `rate`: the one in force, which may have been lowered."""
    if probed is None:
        return ""
    if not spec.lr:
        eased = f", lowered to {rate:.2g} because the slider overshot" if rate < probed else ""
        return f" Learning rate {probed:.2g}, found by a probe{eased}."
    if spec.lr * FAR_BELOW < probed:
        return f" The learning rate {spec.lr:g} is far below the {probed:.2g} that a probe finds: it will learn slowly."
    return ""
