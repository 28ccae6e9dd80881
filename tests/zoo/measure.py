"""What is measured on a tiny architecture: exact gradients, checkpointed gradients, strengths in one batch.

Used by the host tests, which hold the figures to their limits, and by tools/make_architectures.py, which writes them down.
`core` gives a module of slider_core by name: the pack's own in a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from .model import Tiny, build_tiny, conditioning

Core = Callable[[str], ModuleType]
STEPS = (1e-1, 2e-2, 2e-3, 2e-4)  # of the finite differences: the first against rounding, the others against a kink nearby
DIRECTIONS = 3


@dataclass(frozen=True)
class Gradients:
    """Relative errors on one tiny model: `exact` against finite differences (worst direction), `checkpointed` against the
    plain gradient (worst factor), and how the model had to be treated."""

    targets: int
    exact: float
    checkpointed: float
    in_place: bool  # changes tensors that autograd has saved
    apart: bool  # samples of one batch keep their own strength
    blocks: int  # what checkpointing found
    once: int  # of them computed once after all: they keep values between runs
    idle: int  # of them not called through their forward
    only_lent: bool  # every weight lay where the loader put it while it was borrowed, and came back as the very object


@contextmanager
def float64_stays() -> Iterator[None]:
    """Casts to float32 inside the models leave float64 alone, and integers become float64: finite differences need digits."""
    cast, to, norm = torch.Tensor.float, torch.Tensor.to, torch.linalg.vector_norm

    def keep(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if tensor.is_floating_point() or tensor.is_complex():
            return tensor if tensor.dtype is torch.float64 else cast(tensor, *args, **kwargs)
        return tensor.double()

    def keep_to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if tensor.dtype is torch.float64:
            args = tuple(torch.float64 if a is torch.float32 else a for a in args)
            kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return to(tensor, *args, **kwargs)

    def wide_norm(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if tensor.dtype is torch.float64:
            kwargs.pop("dtype", None)
        return norm(tensor, *args, **kwargs)

    torch.Tensor.float, torch.Tensor.to, torch.linalg.vector_norm = keep, keep_to, wide_norm
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to, torch.linalg.vector_norm = cast, to, norm


def shaken(core: Core, module: torch.nn.Module, targets: Sequence[Any], dtype: torch.dtype, algorithm: str = "lora") -> Any:
    """An adapter of rank 2 whose factors are all random, so that every part of it acts."""
    spec = core("config.lora").AdapterSpec(rank=2, alpha=2.0, algorithm=algorithm)
    adapter = core("lora.slider_adapter").Adapter.create(module, targets, spec)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in adapter.parameters():
            p.data = p.data.to(dtype)
            noise = torch.randn(p.shape, generator=generator, dtype=dtype) * 0.3
            if p.ndim > 1:
                p.copy_(noise / p.shape[1] ** 0.5)
            else:  # a bias, or the norms of a DoRA
                p.mul_(1 + 0.3 * noise).add_(0.01 * noise)
    return adapter


class Trial:
    """A tiny model in float64, or another in float32, an adapter on it, and a loss of both signs in one batch."""

    def __init__(self, core: Core, entry: Tiny, preset: str = "auto", algorithm: str = "lora", patcher: Any = None) -> None:
        self.core, self.gradients, self.inplace = core, core("layers.checkpointing"), core("layers.autograd_inplace")
        dtype = torch.float64 if entry.wide and patcher is None else torch.float32
        self.backend = core("with_comfy.model_backend").ComfyBackend(patcher or build_tiny(entry, dtype), None, None)
        self.targets = core("layers.select").select(self.backend.module, preset)
        self.adapter = shaken(core, self.backend.module, self.targets, dtype, algorithm)
        self.adapter.to(device := self.backend.device)
        self.cond = [core("backend").Conditioning(str(i), conditioning(entry, i)) for i in range(2)]
        generator = torch.Generator().manual_seed(4)
        noise = (torch.randn(2, *entry.latent, generator=generator, dtype=dtype) for _ in range(2))
        self.x, self.weight = (some.to(device) for some in noise)
        sigmas = self.backend.sigmas
        self.backend.sigmas = lambda u: sigmas(u).to(dtype)  # for what the backend tries by itself, too
        self.sigma = self.backend.sigmas(torch.tensor([0.3, 0.7]))
        self.once = self.idle = 0

    def _twice(self, module: torch.nn.Module) -> Any:
        return self.gradients.checkpointed(module, self.adapter.factors, self.core("lora.strength").remember)

    def loss(self) -> torch.Tensor:
        with self.core("lora.strength").at_strength(self.adapter, self.backend.module, [1.0, -1.0]):
            out = self.backend.predict(self.x, self.sigma, self.cond)
        return (out * self.weight).double().sum() + out.double().square().mean()

    def gradient(self, checkpointing: bool, forgiving: bool = False) -> tuple[list[torch.Tensor], bool]:
        """The gradient of each factor, and whether the model needed forgiving; `forgiving` where that is known."""
        module, kind = self.backend.module, self.gradients._Block
        for forgiven in (False, True)[forgiving:]:
            try:
                with self._twice(module) if checkpointing else nullcontext():
                    with self.inplace.forgiving(forgiven):
                        found = torch.autograd.grad(self.loss(), self.adapter.parameters(), allow_unused=True)
                    blocks = [b for m in module.modules() if isinstance(b := m.__dict__.get("forward"), kind)]
                    self.once, self.idle = sum(b.safe is False for b in blocks), sum(b.safe is None for b in blocks)
            except RuntimeError as fault:
                if forgiven or not self.inplace.complains(fault):
                    raise
                continue
            parameters = self.adapter.parameters()
            return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)], forgiven
        raise AssertionError("unreachable")

    @torch.no_grad()
    def slope(self, direction: Sequence[torch.Tensor], h: float) -> float:
        """The loss's derivative along `direction` (of unit length), by five-point finite differences."""
        value, parameters = {}, self.adapter.parameters()
        before = [p.clone() for p in parameters]
        for step in (1, -1, 2, -2):
            for p, old, d in zip(parameters, before, direction, strict=True):
                p.copy_(old + step * h * d)
            value[step] = float(self.loss())
        for p, old in zip(parameters, before, strict=True):
            p.copy_(old)
        return (8 * (value[1] - value[-1]) - (value[2] - value[-2])) / (12 * h)

    def worst_slope(
        self,
        gradient: Sequence[torch.Tensor],
        steps: Sequence[float] = STEPS,
        least: float = 1e-3,
        enough: float = 0.0,
        directions: int = DIRECTIONS,
    ) -> float:
        """The largest error of the gradient against finite differences along random directions, relative to the slope there and
        that share of the gradient's length. Of the steps no other is tried once one agrees to `enough`."""
        length, errors = norm(gradient), []
        generator = torch.Generator().manual_seed(5)
        for _ in range(directions):
            direction = [torch.randn(g.shape, generator=generator, dtype=g.dtype).to(g.device) for g in gradient]
            size = norm(direction)
            direction = [d / size for d in direction]
            expected = float(sum((g * d).sum() for g, d in zip(gradient, direction, strict=True)))
            scale = abs(expected) + least * length
            tried = []
            for h in steps:
                tried.append(abs(self.slope(direction, h) - expected) / scale)
                if tried[-1] < enough:
                    break
            errors.append(min(tried))
        return max(errors, default=0.0)


def norm(tensors: Sequence[torch.Tensor]) -> float:
    return float(torch.cat([t.flatten() for t in tensors]).norm())


def measure_gradients(
    core: Core,
    entry: Tiny,
    preset: str = "auto",
    algorithm: str = "lora",
    enough: float = 0.0,
    directions: int = DIRECTIONS,
) -> Gradients:
    """Build, borrow and differentiate one tiny model. Without directions nothing is held against finite differences."""
    trial = Trial(core, entry, preset, algorithm)
    before = trial.backend.module.state_dict(keep_vars=True)
    with float64_stays() if entry.wide else nullcontext(), trial.backend.borrowed(), torch.enable_grad():
        trial.backend.prepare([t.path for t in trial.targets], trial.x[0], trial.cond[0])
        plain, in_place = trial.gradient(False)
        lent = memory_of(trial.backend.module.state_dict(keep_vars=True)) == memory_of(before)
        twice, _ = trial.gradient(True, in_place)
        length = norm(plain)
        worst = trial.worst_slope(plain, enough=enough, directions=directions)
    apart = [float((a - b).norm() / (a.norm() + 1e-9 * length)) for a, b in zip(plain, twice, strict=True)]
    blocks = len(core("layers.blocks").blocks(trial.backend.module))
    after = trial.backend.module.state_dict(keep_vars=True)
    only_lent = lent and all(after[name] is tensor for name, tensor in before.items())
    together = not trial.backend.one_by_one
    return Gradients(len(trial.targets), worst, max(apart), in_place, together, blocks, trial.once, trial.idle, only_lent)


def memory_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, int]]:
    return {name: (tensor.untyped_storage().data_ptr(), tensor.data_ptr()) for name, tensor in state.items()}


def empty_latent(entry: Tiny) -> Any:
    """What an Empty Latent node would give: one tensor, or video and sound together."""
    from comfy.nested_tensor import NestedTensor

    shapes = entry.cond.get("latent_shapes")
    return NestedTensor([torch.zeros(shape) for shape in shapes]) if shapes else torch.zeros(1, *entry.latent)


@torch.inference_mode()
def strengths_deviate(
    core: Core,
    entry: Tiny,
    cfg: float,
    preset: str = "auto",
    algorithm: str = "lora",
    tokens: int | None = None,
    patcher: Any = None,
) -> float:
    """Largest relative difference between one sampling call at three strengths and three calls at one, through the sampler."""
    patcher = patcher or build_tiny(entry)
    module = patcher.model.diffusion_model
    adapter = shaken(core, module, core("layers.select").select(module, preset), torch.float32, algorithm)
    latent = {"samples": empty_latent(entry)}
    strengths = (-1.0, 0.0, 0.5)
    prompts = conditioning(entry, 0), conditioning(entry, 1, tokens)
    backend = core("with_comfy.model_backend").ComfyBackend(patcher)
    sampling = core("use.sampling").Sampling(*prompts, latent, seed=7, steps=1, cfg=cfg, denoise=0.5)

    def sample(some: Sequence[float]) -> torch.Tensor:
        return core("with_comfy.sampling").sample_latents(backend, adapter, sampling, some).latents

    together = sample(strengths)
    # no equality by falling back: one call where the entry says that samples keep apart
    found = core("with_comfy.sampling").runs_together(backend, adapter, latent["samples"][0], prompts[0], len(strengths))
    if preset == "auto" and found is not (entry.batched and not entry.video):
        raise AssertionError(f"strengths run {'together' if found else 'one by one'}")
    alone = torch.cat([sample([s]) for s in strengths])
    if bool((alone[0] - alone[-1]).abs().max() == 0):
        raise AssertionError("the adapter does nothing")
    return float(((together - alone).flatten(1).norm(dim=1) / alone.flatten(1).norm(dim=1)).max())
