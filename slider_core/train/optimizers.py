"""The optimizers, and the average of the weights where that is read in place of the weights themselves.

What `lr` means, and how much each remembers (times the size of the adapter):

    adamw          the step of a weight, about; 2                    torch
    adafactor      the same: rates are absolute, as LoRA trainers set them (a factor that begins at zero has no size that
                   a relative rate could go by); no momentum; next to nothing      torch 2.5; Shazeer and Stern 2018
    prodigy        a factor on the rate it finds by itself, so 1; 4    prodigyopt; Mishchenko and Defazio 2023
    adamw8bit      as adamw, its memory in 8 bits for factors of 4096 numbers and more; 1/2     bitsandbytes
    schedule_free  as adamw, of weights that are averaged as they go; no schedule; 2    schedulefree; Defazio et al. 2024

The last three are packages of their own, imported on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn

from ..config.checks import SliderError, need
from ..config.training import Optimizer, TrainSpec
from .interrupts import uninterrupted

BETAS = (0.9, 0.99)
PACKAGES = {Optimizer.PRODIGY: "prodigyopt", Optimizer.ADAMW8BIT: "bitsandbytes", Optimizer.SCHEDULE_FREE: "schedulefree"}
SIZES = {Optimizer.ADAFACTOR: 0, Optimizer.PRODIGY: 4, Optimizer.ADAMW8BIT: 1}  # in sizes of the adapter; else 2


def _package(kind: Optimizer) -> Any:
    name = PACKAGES[kind]
    try:
        return import_module(name)
    except Exception as fault:  # a package of compiled code fails in ways of its own
        reason = " ".join(f"does not load ({fault})".split())
        if isinstance(fault, ModuleNotFoundError) and fault.name == name:
            reason = "is not installed"
        message = f"The optimizer {kind.value} needs the package {name}, which {reason}: pip install {name}"
        raise SliderError(message, "optimizer.package") from None


def make_optimizer(spec: TrainSpec, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of `spec` on `parameters`. SliderError that names the pip command when its package is missing."""
    kind = spec.optimizer
    plain: dict[str, Any] = {"lr": spec.lr, "weight_decay": spec.weight_decay}
    if kind is Optimizer.ADAFACTOR:
        message = f"The optimizer adafactor needs torch 2.5 or newer, this is {torch.__version__}: choose adamw."
        need(hasattr(torch.optim, "Adafactor"), message, "optimizer.torch")
        return torch.optim.Adafactor(parameters, eps=(None, 1.0), **plain)
    if kind is Optimizer.PRODIGY:
        # what its authors recommend for diffusion models
        return _package(kind).Prodigy(parameters, betas=BETAS, use_bias_correction=True, safeguard_warmup=True, **plain)
    if kind is Optimizer.ADAMW8BIT:
        return _package(kind).optim.AdamW8bit(parameters, betas=BETAS, **plain)
    if kind is Optimizer.SCHEDULE_FREE:
        return _package(kind).AdamWScheduleFree(parameters, betas=BETAS, **plain)
    return torch.optim.AdamW(parameters, betas=BETAS, **plain)


@torch.inference_mode(False)
def moments_of(spec: TrainSpec, parameter: nn.Parameter) -> dict[str, Any]:
    """What the optimizer of `spec` keeps of a parameter of that shape after a step: found by a step on a copy."""
    copy = nn.Parameter(parameter.detach().clone())
    copy.grad = torch.full_like(copy, 1e-3)
    optimizer: Any = make_optimizer(spec, [copy])
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()
    optimizer.step()
    return dict(optimizer.state[copy])


def optimizer_sizes(spec: TrainSpec) -> int:
    """What the optimizer and the average keep, in sizes of the adapter, rounded up."""
    average = 0
    if spec.optimizer is Optimizer.SCHEDULE_FREE:
        average = 1
    if spec.ema > 0:
        average = 2
    return SIZES.get(spec.optimizer, 2) + average


class Average:
    """Keeps apart the weights that are trained and those that are read, where these are an average of them.

    The parameters hold what is read - by the probe, a preview, a file - but within `trained()`. The average is Schedule-Free's
    own, or an EMA: after step n it goes (1 - decay) / (1 - decay^n) of the way to the weights, so that the silent beginning
    counts for nothing. Without either, nothing is copied.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], optimizer: Any) -> None:
        self._parameters = list(parameters)
        self._optimizer = optimizer  # a torch.optim.Optimizer; Schedule-Free's has more methods
        self._free = callable(getattr(optimizer, "eval", None))
        self.ema: list[torch.Tensor] | None = None
        self.raw: list[torch.Tensor] | None = None  # the weights that are trained, while the parameters hold the average
        if self._free:
            self._optimizer.train()

    @contextmanager
    def trained(self) -> Iterator[None]:
        """Within the block the parameters hold the weights that are trained, bit for bit."""
        try:
            with uninterrupted():
                self._hide()
            yield
        finally:
            self.settle()

    def settle(self) -> None:
        """Let the parameters hold what is read, where an interrupt at the edge of a step has left the others in them."""
        with uninterrupted():
            if self.raw is None:
                self._show()

    @torch.no_grad()
    def follow(self, decay: float, step: int) -> None:
        """Take in what the step, the `step`-th, has made of the weights. Call it within `trained()`."""
        if type(self._optimizer).__module__.partition(".")[0] in PACKAGES.values():
            for p in self._parameters:
                p.mul_(1)  # some write past torch, which counts the changes of a tensor
        if not decay:
            self.ema = None
        elif self.ema is None:
            self.ema = self._copies()
        else:
            for mean, p in zip(self.ema, self._parameters, strict=True):
                mean.lerp_(p, (1 - decay) / (1 - decay**step))

    def load(self, ema: Sequence[torch.Tensor] | None) -> None:
        """Go on from the weights that the parameters and the optimizer were just given, and this average of them."""
        self.raw = None
        self.ema = None if ema is None else [t.to(p, copy=True) for t, p in zip(ema, self._parameters, strict=True)]
        if self._free:
            for group in self._optimizer.param_groups:
                group["train_mode"] = True
        self._show()

    def as_trained(self, state: dict[str, list[torch.Tensor]]) -> dict[str, list[torch.Tensor]]:
        """An adapter's state as it is trained, out of that which holds what is read."""
        if self.raw is None:
            return state
        trained = iter(self.raw)
        return {layer: [next(trained).cpu().clone() for _ in some] for layer, some in state.items()}

    def place(self, parameters: Sequence[nn.Parameter]) -> None:
        """Follow parameters that have moved to another device."""
        self._parameters = list(parameters)
        for tensors in (self.ema, self.raw):
            if tensors is not None:
                tensors[:] = [t.to(p.device) for t, p in zip(tensors, parameters, strict=True)]

    def end(self) -> None:
        """No EMA from here on: the weights that are trained are read."""
        self._hide()
        self.ema = None
        self._show()

    def _copies(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self._parameters]

    @torch.inference_mode(False)
    @torch.no_grad()
    def _show(self) -> None:
        if self._free:
            self.raw = self._copies()
            self._optimizer.eval()
        elif self.ema is not None:
            self.raw = self._copies()
            self._put(self.ema)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _hide(self) -> None:
        if self.raw is None:
            return
        if self._free:
            self._optimizer.train()  # there and back again is not the same bits
        self._put(self.raw)
        self.raw = None

    def _put(self, values: Sequence[torch.Tensor]) -> None:
        for p, value in zip(self._parameters, values, strict=True):
            p.copy_(value)
