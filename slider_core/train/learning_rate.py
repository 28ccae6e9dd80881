"""The learning rate: found by a probe of a few batches, and its course over the steps.

The probe has no scale of its own: against the sign of the mean gradient, which is about where Adam's first step goes, every
parameter is moved by a rate, and the rate is the one at which that moves the model's answer by SHARE of what the pairs want. One
rule serves each algorithm, rank and model, because what a unit of the rate moves is measured (27 to 50 times what is wanted for
a LoRA of rank 4, 12 at rank 1, 230 to 290 at rank 32, over 1000 for full).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from ..config.checks import need
from ..config.training import Optimizer, Schedule, TrainSpec

BATCHES = 6  # whose gradients are averaged
SHARE = 0.08  # of the wanted displacement, that one step at the rate makes
FIRST, MOST_TRIES, NEAR = 1e-3, 6, 1.5  # the rate that is tried first; a try ends the probe that is within this factor
UNKNOWN = 2e-3  # where nothing can be measured: the two sides do not differ
LEAST, MOST = 1e-7, 1.0
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
def probed_rate(parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor], moved_share: Callable[[], float]) -> float:
    """The rate at which a step against the signs of `gradients` moves the model by SHARE. `moved_share`: the size of the
    displacement that the parameters as they are make, in units of what is wanted; not finite where that cannot be said.

    The parameters are the same afterwards, bit for bit. Cost: at most MOST_TRIES calls, mostly two.
    """
    before = [p.detach().clone() for p in parameters]
    signs = [gradient.sign() for gradient in gradients]
    rate = FIRST
    try:
        for _ in range(MOST_TRIES):
            for p, start, sign in zip(parameters, before, signs, strict=True):
                p.copy_(start - rate * sign)
            share = moved_share()
            if math.isnan(share) or share <= 0:
                return UNKNOWN  # nothing is wanted, or nothing moves
            if math.isinf(share):
                rate /= 10
                continue
            tried = rate
            rate = min(MOST, max(LEAST, rate * SHARE / share))
            if max(rate / tried, tried / rate) <= NEAR:
                break
    finally:
        for p, start in zip(parameters, before, strict=True):
            p.copy_(start)
    return float(f"{rate:.3g}")


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
        "will burn the slider: set it to 0, which takes the probe's. To train at it all the same: any_rate (--any-rate)."
    )
    need(spec.any_rate or spec.lr <= FAR_BEYOND * probed, message, "training.rate_far_beyond")


def rate_note(spec: TrainSpec, probed: float | None, rate: float | None = None) -> str:
    """A sentence on the rate, for the status. `rate`: where a rate that was found has been lowered to."""
    if probed is None:
        return ""
    if not spec.lr:
        eased = f", lowered to {rate:.2g} because the slider overshot" if rate and rate < probed else ""
        return f" Learning rate {probed:.2g}, found by a probe{eased}."
    if spec.lr * FAR_BELOW < probed:
        return f" The learning rate {spec.lr:g} is far below the {probed:.2g} that a probe finds: it will learn slowly."
    return ""
