"""LoRA weights that PEFT makes, attached to live layers without changing one of them, with a strength per sample.

PEFT builds and initialises the factors on a skeleton of the targets (their shapes, no weights), so nothing in the model is
replaced or copied. `at(module, strength)` hooks each target for the length of a `with` block:

    y_r = f(x_r) + strength_r * scaling * B A x_r        scaling = alpha / rank

Which row is whose: rows.py. At strength 0, and at initialisation (B = 0), the output is the model's own. The hooks go when
the block ends, on error and cancel too.
Cost: two thin matrix products per target; no copy of a base weight, no gradient for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .config import AdapterSpec, SliderError
from .rows import Rows, attached
from .targets import Target, find_layer

NAME = "slider"  # PEFT's name for our adapter


@dataclass(frozen=True)
class LoraWeight:
    """One layer's factors: A (rank, in, ...), B (out, rank, ...); the update of the weight is strength * alpha / rank * B A.

    `rows` is the slice of the output that B covers, None for all of it; `height` the layer's whole output then.
    """

    A: torch.Tensor
    B: torch.Tensor
    alpha: float
    rows: tuple[int, int] | None = None
    height: int | None = None

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    def delta(self) -> torch.Tensor:
        """B A * alpha / rank in the shape of the (sliced) weight: the change at strength 1."""
        product = self.B.flatten(1).float() @ self.A.flatten(1).float()
        return (product * (self.alpha / self.rank)).reshape(self.B.shape[0], *self.A.shape[1:])


def check_fits(module: nn.Module, weights: Mapping[str, LoraWeight]) -> None:
    """SliderError unless every layer of a slider is in `module`, with the shape it was trained on."""
    for path, weight in weights.items():
        shape = find_layer(module, Target(path)).weight.shape
        if weight.A.shape[1:] != shape[1:] or (weight.height or weight.B.shape[0]) != shape[0]:
            raise SliderError(
                f'Layer "{path}" has shape {tuple(shape)} here, but the slider changes {tuple(weight.delta().shape)}: '
                "it was trained on another model."
            )


def _shape_only(layer: nn.Module, target: Target) -> nn.Module:
    """A layer of the same shape on the meta device, as tall as the target's rows."""
    rows = target.rows
    if not isinstance(layer, nn.Linear):
        if rows:
            raise SliderError(f'"{target.path}" is a convolution; rows are for fused Linear layers.')
        kind = next(k for k in (nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(layer, k))
        return kind(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,
            layer.stride,
            layer.padding,
            layer.dilation,
            device="meta",
        )
    if rows and not 0 <= rows[0] < rows[1] <= layer.out_features:
        raise SliderError(f"Rows {rows} of {target.path} lie outside its {layer.out_features} outputs.")
    return nn.Linear(layer.in_features, rows[1] - rows[0] if rows else layer.out_features, device="meta")


def _factors(
    skeleton: nn.ModuleDict,
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    seed: int,
    device: torch.device,
) -> nn.ModuleDict:
    """Let PEFT put LoRA factors on the skeleton, then give them memory and PEFT's own initial values."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import

    uniform = len(set(ranks.values())) == len(set(alphas.values())) == 1
    config = LoraConfig(
        r=next(iter(ranks.values())),
        lora_alpha=next(iter(alphas.values())),
        target_modules=list(skeleton),
        rank_pattern={} if uniform else dict(ranks),  # PEFT matches each pattern on each layer
        alpha_pattern={} if uniform else dict(alphas),
    )
    tuned = inject_adapter_in_model(config, skeleton, adapter_name=NAME, low_cpu_mem_usage=True)
    with torch.random.fork_rng(devices=[]):  # PEFT draws from the global generator: borrow it, seeded, and give it back
        torch.default_generator.manual_seed(seed)
        for layer in tuned.values():
            for part in (layer.lora_A, layer.lora_B):
                part.to_empty(device="cpu")
            layer.reset_lora_parameters(NAME, init_lora_weights=True)
            for part in (layer.lora_A, layer.lora_B):
                part.to(device=device, dtype=torch.float32)
    return tuned


class Adapter:
    """A slider's weights for the layers of one model. Made zero: until it is trained it changes nothing."""

    @torch.inference_mode(False)  # factors made under ComfyUI's inference mode could not be trained
    def __init__(
        self,
        module: nn.Module,
        targets: Sequence[Target],
        ranks: Mapping[str, int],
        alphas: Mapping[str, float],
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.targets = tuple(targets)
        self._rows: Rows | None = None  # the strengths in force, inside `at`
        self._module: nn.Module | None = None
        self._attached_to: list[nn.Module] = []
        self._key = {target.path: f"t{number}" for number, target in enumerate(self.targets)}
        self._height = {t.path: find_layer(module, t).weight.shape[0] for t in self.targets}
        skeleton = nn.ModuleDict({self._key[t.path]: _shape_only(find_layer(module, t), t) for t in self.targets})
        keyed = ({self._key[p]: v for p, v in values.items()} for values in (ranks, alphas))
        self._layers = _factors(skeleton, *keyed, seed=seed, device=torch.device(device))
        for parameter in self._layers.parameters():
            parameter.requires_grad_(False)
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    @classmethod
    def create(
        cls,
        module: nn.Module,
        targets: Sequence[Target],
        spec: AdapterSpec,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> Adapter:
        """A fresh adapter of `spec`'s rank and alpha on `targets`."""
        paths = [t.path for t in targets]
        return cls(module, targets, dict.fromkeys(paths, spec.rank), dict.fromkeys(paths, float(spec.alpha)), seed, device)

    @classmethod
    def from_weights(
        cls,
        module: nn.Module,
        weights: Mapping[str, LoraWeight],
        device: torch.device | str = "cpu",
    ) -> Adapter:
        """An adapter that holds a copy of `weights`. SliderError where a layer is missing or has another shape."""
        targets = [Target(path, w.rows) for path, w in weights.items()]
        ranks, alphas = {p: w.rank for p, w in weights.items()}, {p: float(w.alpha) for p, w in weights.items()}
        adapter = cls(module, targets, ranks, alphas, device=device)
        adapter.load(weights)
        return adapter

    def _pair(self, path: str) -> tuple[nn.Module, nn.Module, float]:
        layer: Any = self._layers[self._key[path]]
        return layer.lora_A[NAME], layer.lora_B[NAME], layer.scaling[NAME]

    def parameters(self) -> list[nn.Parameter]:
        """The factors, A then B of each target in order: what an optimizer trains."""
        return [part.weight for t in self.targets for part in self._pair(t.path)[:2]]

    def factors(self, inside: str) -> list[nn.Parameter]:
        """The parameters that act inside the module at path `inside`."""
        paths = [t.path for t in self.targets if t.path == inside or t.path.startswith(f"{inside}.")]
        return [part.weight for path in paths for part in self._pair(path)[:2]]

    def weights(self) -> dict[str, LoraWeight]:
        """A detached float32 CPU copy of every layer's factors, by module path."""
        found = {}
        for target in self.targets:
            down, up, scaling = self._pair(target.path)
            a, b = (part.weight.detach().float().cpu().clone() for part in (down, up))
            found[target.path] = LoraWeight(a, b, scaling * a.shape[0], target.rows, self._height[target.path])
        return found

    def check(self, weights: Mapping[str, LoraWeight]) -> None:
        """SliderError where a layer is missing in `weights` or has another shape."""
        for target in self.targets:
            down, up, _ = self._pair(target.path)
            if target.path not in weights:
                raise SliderError(f'The saved slider lacks the layer "{target.path}".')
            for part, value in ((down, weights[target.path].A), (up, weights[target.path].B)):
                if part.weight.shape != value.shape:
                    raise SliderError(
                        f'Layer "{target.path}" wants {tuple(part.weight.shape)} but has {tuple(value.shape)} in the slider: '
                        "it was trained on another model."
                    )

    @torch.no_grad()
    def load(self, weights: Mapping[str, LoraWeight]) -> None:
        """Copy `weights` in, all or none. SliderError where a layer is missing or has another shape."""
        self.check(weights)
        for target in self.targets:
            down, up, _ = self._pair(target.path)
            down.weight.copy_(weights[target.path].A)
            up.weight.copy_(weights[target.path].B)

    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.parameters())

    def _hook(self, target: Target) -> Callable[..., torch.Tensor | None]:
        down, up, scaling = self._pair(target.path)

        def add(_module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            strength = self._rows.for_layer(output.shape[0], target.path) if self._rows else None
            if strength is None:
                return None
            change = up(down(args[0].to(down.weight.dtype)))
            change = change * (strength.to(change) * scaling).reshape(-1, *[1] * (change.ndim - 1))
            change = change.to(output.dtype)
            if not target.rows:
                return output + change
            start, stop = target.rows
            return torch.cat((output[..., :start], output[..., start:stop] + change, output[..., stop:]), dim=-1)

        return add

    @contextmanager
    def attached(self, module: nn.Module) -> Iterator[None]:
        """Within the block the hooks are on `module` (the diffusion model), silent until `at` gives a strength."""
        if module in self._attached_to:
            yield
            return
        hooks = [(find_layer(module, target), self._hook(target)) for target in self.targets]
        with attached(module, lambda: self._rows, hooks):
            self._attached_to.append(module)
            try:
                yield
            finally:
                self._attached_to.remove(module)

    @contextmanager
    def _with_rows(self, module: nn.Module, rows: Rows) -> Iterator[None]:
        before, module_before = self._rows, self._module
        with self.attached(module):
            self._rows, self._module = rows, module
            try:
                yield
            finally:
                self._rows, self._module = before, module_before

    @contextmanager
    def at(self, module: nn.Module, strength: Sequence[float] | torch.Tensor) -> Iterator[None]:
        """Within the block, `module` (the diffusion model) runs with this slider, sample i at `strength[i]`.

        The model is called with whole copies of the batch, as ComfyUI does: rows = copies * len(strength).
        """
        with self._with_rows(module, Rows(strength)):
            yield

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """The strengths in force now, as a context that brings them back: for a part of the model that is computed again."""
        if self._rows is None or self._module is None:
            return nullcontext
        module, rows = self._module, self._rows.frozen()
        return lambda: self._with_rows(module, rows)
