"""LoRA weights that PEFT makes, attached to live layers without changing one of them, with a strength per sample.

PEFT builds and initialises the factors on a skeleton of the targets (their shapes, no weights), so nothing in the model is
replaced or copied. `at(module, strength)` hooks each target for the length of a `with` block:

    y_r = f(x_r) + strength_r * scaling * B A x_r        scaling = alpha / rank

Rows follow ComfyUI's rule: a model call holds whole copies of the batch, so row r belongs to sample r % S; a layer that
sees a multiple of the rows (frames folded into the batch) repeats each row's strength. At strength 0, and at
initialisation (B = 0), the output is the model's own. The hooks go when the block ends, on error and cancel too.
Cost: two thin matrix products per target; no copy of a base weight, no gradient for one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .config import AdapterSpec, SliderError
from .targets import Target

NAME = "slider"  # PEFT's name for our adapter
SAMPLES = "slider_samples"  # transformer_options key: which samples a model call holds, when a batch is run in parts


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


def find_layer(module: nn.Module, target: Target) -> nn.Module:
    try:
        layer = module.get_submodule(target.path)
    except AttributeError:
        layer = None
    if not isinstance(layer, (nn.Linear, nn.Conv2d)):
        raise SliderError(f'The slider needs a layer "{target.path}", which this model lacks: it is for another model.')
    return layer


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
    if isinstance(layer, nn.Conv2d):
        if rows:
            raise SliderError(f'"{target.path}" is a convolution; rows are for fused Linear layers.')
        return nn.Conv2d(
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

    def _hook(self, target: Target, rows: _Rows) -> Any:
        down, up, scaling = self._pair(target.path)

        def add(_module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
            change = up(down(args[0].to(down.weight.dtype)))
            strength = rows.for_layer(change.shape[0], target.path).to(change)
            change = change * (strength * scaling).reshape(-1, *[1] * (change.ndim - 1))
            if target.rows:
                start, stop = target.rows
                change = nn.functional.pad(change, (start, output.shape[-1] - stop))
            return output + change.to(output.dtype)

        return add

    @contextmanager
    def at(self, module: nn.Module, strength: Sequence[float] | torch.Tensor) -> Iterator[None]:
        """Within the block, `module` (the diffusion model) runs with this slider, sample i at `strength[i]`.

        The model is called with whole copies of the batch, as ComfyUI does: rows = copies * len(strength).
        """
        rows = _Rows(torch.as_tensor(strength, dtype=torch.float32).reshape(-1))
        with ExitStack() as hooks:
            entry = module.register_forward_pre_hook(rows.see, prepend=True, with_kwargs=True)
            hooks.callback(entry.remove)
            for target in self.targets:
                hooks.callback(find_layer(module, target).register_forward_hook(self._hook(target, rows)).remove)
            yield


class _Rows:
    """The strength of each row of the model call that is running."""

    def __init__(self, strength: torch.Tensor) -> None:
        self.strength = strength
        self.row = strength

    def see(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        picked = (kwargs.get("transformer_options") or {}).get(SAMPLES)
        strength = self.strength if picked is None else self.strength[list(picked)]
        count = args[0].shape[0]
        if count % len(strength):
            raise SliderError(f"The model was called with {count} rows, which is no multiple of the {len(strength)} strengths.")
        self.row = strength.repeat(count // len(strength))

    def for_layer(self, count: int, path: str) -> torch.Tensor:
        if count == len(self.row):
            return self.row
        if torch.all(self.row == self.row[0]):
            return self.row[:1]
        if count % len(self.row):
            raise SliderError(f'Layer "{path}" sees {count} rows for {len(self.row)} samples: run one strength at a time.')
        return self.row.repeat_interleave(math.ceil(count / len(self.row)))
