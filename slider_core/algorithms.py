"""The trainable parts of one layer's change: PEFT and LyCORIS make them and do their mathematics; here they meet a live layer.

Every algorithm gives `change(layer, x, out)`, what the layer's output changes by at strength 1, so that

    y_r = f(x_r) + strength_r * change(x_r)

is exact for each row of a batch. That holds for DoRA as well, in the sense in which ComfyUI's loader applies one: the weight at
strength s is W + s (W' - W) with W' = (W + update) m / |W + update|. Nothing changes at initialisation.
Cost: lora, rslora, locon, lokr, glora are thin products; dora takes the norm of every changed weight in every forward; loha and
full make a matrix as large as the weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import nn

from .config import AdapterSpec, Algorithm, Init, SliderError
from .names import scale_tensors
from .targets import Target, find_layer
from .weights import Kind, LayerWeight, base_rows, norm_ratio, quiet_lycoris, shape_only

NAME = "slider"  # PEFT's name for our adapter
PEFTS = (Algorithm.LORA, Algorithm.RSLORA, Algorithm.DORA)


class Trainable(Protocol):
    """One target's part of an adapter."""

    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains, always in the same order."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What the target's rows of `out` = layer(x) change by at strength 1."""

    def look(self, layer: nn.Module) -> None:
        """Take from the base weight what `at_rest` needs of it; to be done after every change of the parameters."""

    def at_rest(self) -> LayerWeight:
        """A detached float32 copy on the CPU."""

    def to(self, device: torch.device) -> None: ...


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().float().cpu().clone()


# --- PEFT: LoRA, rsLoRA, DoRA


class Lora:
    """PEFT's LoRA on one layer, rsLoRA by its scale."""

    def __init__(self, tuned: Any, base: tuple[int, ...]) -> None:
        self.down, self.up = tuned.lora_A[NAME], tuned.lora_B[NAME]
        self.scaling: float = tuned.scaling[NAME]
        self.base = base

    def parameters(self) -> list[nn.Parameter]:
        return [self.down.weight, self.up.weight]

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return self.up(self.down(x.to(self.down.weight.dtype))) * self.scaling

    def look(self, layer: nn.Module) -> None:
        """The factors say it all."""

    def at_rest(self) -> LayerWeight:
        tensors = {"lora_down.weight": _copy(self.down.weight), "lora_up.weight": _copy(self.up.weight)}
        return LayerWeight(Kind.LORA, tensors, self.scaling * self.down.weight.shape[0], self.base)

    def to(self, device: torch.device) -> None:
        for part in (self.down, self.up):
            part.to(device=device, dtype=torch.float32)


class Dora(Lora):
    """PEFT's DoRA: a LoRA and the norm of each row of the changed weight."""

    def __init__(self, tuned: Any, base: tuple[int, ...], rows: tuple[int, int] | None) -> None:
        super().__init__(tuned, base)
        self.magnitude = tuned.lora_magnitude_vector[NAME]
        self.rows = rows
        self.seen: dict[str, torch.Tensor] = {}
        self.seen_at: tuple[int, ...] = ()

    def start(self, layer: nn.Module) -> None:
        """The magnitude of the base weight: no change."""
        norm = base_rows(layer, self.rows).float().flatten(1).norm(dim=1)
        conv = layer.weight.ndim > 2
        self.magnitude.weight = nn.Parameter(norm.reshape(1, -1, *[1] * (layer.weight.ndim - 2)) if conv else norm)

    def parameters(self) -> list[nn.Parameter]:
        return [*super().parameters(), self.magnitude.weight]

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        dtype = self.down.weight.dtype
        bias = layer.bias
        if bias is not None:
            bias = (bias[self.rows[0] : self.rows[1]] if self.rows else bias).to(device=x.device, dtype=dtype)
        base = SimpleNamespace(weight=base_rows(layer, self.rows).to(device=x.device, dtype=dtype), bias=bias)
        return self.magnitude(
            x.to(dtype), lora_A=self.down, lora_B=self.up, scaling=self.scaling, base_layer=base, base_result=out.to(dtype)
        )

    def _versions(self) -> tuple[int, ...]:
        return tuple(p._version for p in self.parameters())

    def look(self, layer: nn.Module) -> None:
        if self.seen_at == self._versions():
            return
        magnitude = _copy(self.magnitude.weight)
        magnitude = magnitude.transpose(0, 1) if magnitude.ndim > 1 else magnitude.unsqueeze(1)
        self.seen = scale_tensors(magnitude, super().at_rest(), layer, self.rows)
        self.seen_at = self._versions()

    def at_rest(self) -> LayerWeight:
        if self.seen_at != self._versions():
            raise RuntimeError("a DoRA was asked for its file form without a look at its base weight")
        plain = super().at_rest()
        return LayerWeight(plain.kind, plain.tensors | self.seen, plain.alpha, plain.base)

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.magnitude.to(device=device, dtype=torch.float32)


@dataclass(frozen=True)
class Size:
    """Of one layer's LoRA-like update."""

    rank: int
    alpha: float


def _tuned(skeleton: nn.ModuleDict, sizes: Mapping[str, Size], algorithm: Algorithm) -> nn.ModuleDict:
    """PEFT's LoRA layers on layers of that shape, still without memory."""
    from peft import LoraConfig, inject_adapter_in_model  # seconds to import

    first = next(iter(sizes.values()))
    uniform = len(set(sizes.values())) == 1
    config = LoraConfig(
        r=first.rank,
        lora_alpha=first.alpha,
        target_modules=list(skeleton),
        rank_pattern={} if uniform else {k: s.rank for k, s in sizes.items()},  # PEFT matches each pattern on each layer
        alpha_pattern={} if uniform else {k: s.alpha for k, s in sizes.items()},
        use_rslora=algorithm is Algorithm.RSLORA,
        use_dora=algorithm is Algorithm.DORA,
    )
    return inject_adapter_in_model(config, skeleton, adapter_name=NAME, low_cpu_mem_usage=True)


def _initialise(layer: Any, init: Init) -> None:
    """Memory and PEFT's own first values. On convolutions its orthogonal start is not defined: Kaiming there."""
    for part in (layer.lora_A[NAME], layer.lora_B[NAME]):
        part.to_empty(device="cpu")
    if init is Init.ORTHOGONAL and isinstance(layer.lora_A[NAME], nn.Linear):
        layer.orthogonal_init(NAME)
    else:
        layer.reset_lora_parameters(NAME, "gaussian" if init is Init.GAUSSIAN else True)


def _with_peft(
    module: nn.Module, targets: Sequence[Target], sizes: Mapping[Target, Size], algorithm: Algorithm, init: Init
) -> dict[Target, Lora]:
    key = {target: f"t{number}" for number, target in enumerate(targets)}
    skeleton = nn.ModuleDict({key[t]: shape_only(_shape(module, t), find_layer(module, t)) for t in targets})
    tuned = _tuned(skeleton, {key[t]: sizes[t] for t in targets}, algorithm)
    made: dict[Target, Lora] = {}
    for target in targets:
        layer, base = tuned[key[target]], find_layer(module, target)
        _initialise(layer, init)
        shape = tuple(base.weight.shape)
        if algorithm is Algorithm.DORA:
            made[target] = Dora(layer, shape, target.rows)
            made[target].start(base)
        else:
            made[target] = Lora(layer, shape)
    return made


# --- LyCORIS: LoCon, LoHa, LoKr, full, GLoRA


class Lycoris:
    """A LyCORIS module on one layer."""

    def __init__(self, made: Any, kind: Kind, target: Target, base: tuple[int, ...]) -> None:
        self.made, self.kind, self.rows, self.base = made, kind, target.rows, base
        self.seen: dict[str, torch.Tensor] = {}
        made.org_module, made.org_forward = [], None  # the skeleton that it was made on

    def parameters(self) -> list[nn.Parameter]:
        return list(self.made.parameters())

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        # LoHa makes a matrix of the weight's size and multiplies in the model's own number format, as the layer does
        return self.made.bypass_forward_diff(x if self.kind is Kind.LOHA else x.to(self.parameters()[0].dtype))

    def look(self, layer: nn.Module) -> None:
        """The factors say it all."""

    def at_rest(self) -> LayerWeight:
        tensors = {name: _copy(value) for name, value in self.made.custom_state_dict().items()}
        alpha = float(tensors.pop("alpha"))
        return LayerWeight(self.kind, tensors, alpha, self.base)

    def to(self, device: torch.device) -> None:
        self.made.to(device=device, dtype=torch.float32)


class Glora(Lycoris):
    """W a1 a2 + b1 b2: the layer itself runs on the first part. A slice rests as the LoRA of twice the rank that it is."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        def without_bias(z: torch.Tensor) -> torch.Tensor:
            y = layer.forward(z.to(x.dtype))
            if layer.bias is not None:
                y = y - layer.bias.to(y).reshape(-1, *[1] * (layer.weight.ndim - 2))
            return (y[..., self.rows[0] : self.rows[1]] if self.rows else y).to(z.dtype)

        self.made.org_forward = without_bias
        try:
            return self.made.bypass_forward_diff(x.to(self.parameters()[0].dtype))
        finally:
            self.made.org_forward = None

    def look(self, layer: nn.Module) -> None:
        if self.rows:
            a1 = _copy(self.made.a1.weight)
            self.seen = {"up": base_rows(layer, self.rows).float().cpu() @ a1}

    def at_rest(self) -> LayerWeight:
        plain = super().at_rest()
        if not self.rows:
            return plain
        t = plain.tensors
        up = torch.cat([self.seen["up"], t["b1.weight"]], dim=1) * plain.scale
        down = torch.cat([t["a2.weight"], t["b2.weight"]])
        return LayerWeight(Kind.LORA, {"lora_down.weight": down, "lora_up.weight": up}, float(len(down)), self.base)


class Full(Lycoris):
    """The whole difference of a weight, and of the bias where there is one."""

    def change(self, layer: nn.Module, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        bias = None if self.made.bias is None else self.made.bias.to(x)
        return self.made.op(x, self.made.weight.to(x), bias, **self.made.kw_dict)

    def at_rest(self) -> LayerWeight:
        names = {"diff": self.made.weight, "diff_b": self.made.bias}
        return LayerWeight(self.kind, {name: _copy(p) for name, p in names.items() if p is not None}, None, self.base)


_OURS: dict[Kind, type[Lycoris]] = {Kind.FULL: Full, Kind.GLORA: Glora}
_KIND = {
    Algorithm.LOCON: Kind.LORA,
    Algorithm.LOHA: Kind.LOHA,
    Algorithm.LOKR: Kind.LOKR,
    Algorithm.FULL: Kind.FULL,
    Algorithm.GLORA: Kind.GLORA,
}


def _module(kind: Kind, layer: nn.Module, shape: Sequence[int], size: Size, **options: Any) -> Any:
    """LyCORIS' own module for a layer like `layer`, of `shape`, with its own first values."""
    from lycoris.modules import FullModule, GLoRAModule, LoConModule, LohaModule, LokrModule

    kinds = {
        Kind.LORA: LoConModule,
        Kind.LOHA: LohaModule,
        Kind.LOKR: LokrModule,
        Kind.FULL: FullModule,
        Kind.GLORA: GLoRAModule,
    }
    skeleton = shape_only(shape, layer).to_empty(device="cpu")
    if options.get("use_tucker") and len(shape) != 4:
        options = options | {"use_tucker": False}  # ComfyUI reads the core of a 2-D kernel only
    with quiet_lycoris():
        made = kinds[kind]("slider", skeleton, 1.0, size.rank, size.alpha, **options)
    if kind is Kind.FULL:
        made._org_weight, made.org_bias = [], None  # LyCORIS keeps a copy of the weight it was made on
    for name in ("lora_down", "lora_mid", "b2"):  # LyCORIS leaves the dilation out
        window = getattr(made, name, None)
        if isinstance(window, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and any(k > 1 for k in window.kernel_size):
            window.dilation = layer.dilation
    return made


def _with_lycoris(
    module: nn.Module, targets: Sequence[Target], sizes: Mapping[Target, Size], spec: AdapterSpec
) -> dict[Target, Lycoris]:
    kind = _KIND[spec.algorithm]
    options: dict[str, Any] = {"use_tucker": spec.tucker}
    if spec.algorithm is Algorithm.LOKR:
        options |= {"factor": spec.factor, "full_matrix": spec.full_matrix, "decompose_both": spec.decompose_both}
    made: dict[Target, Lycoris] = {}
    for target in targets:
        layer = find_layer(module, target)
        part = _module(kind, layer, _shape(module, target), sizes[target], **options)
        made[target] = _OURS.get(kind, Lycoris)(part, kind, target, tuple(layer.weight.shape))
    return made


# --- both ways


def _shape(module: nn.Module, target: Target) -> tuple[int, ...]:
    """The shape of the rows of the weight that a target covers. SliderError when it has no such rows."""
    layer, rows = find_layer(module, target), target.rows
    shape = tuple(layer.weight.shape)
    if not rows:
        return shape
    if not isinstance(layer, nn.Linear):
        raise SliderError(f'"{target.path}" is a convolution; rows are for fused Linear layers.')
    if not 0 <= rows[0] < rows[1] <= shape[0]:
        raise SliderError(f"Rows {rows} of {target.path} lie outside its {shape[0]} outputs.")
    return rows[1] - rows[0], *shape[1:]


def _large_kernel(layer: nn.Module) -> bool:
    return any(k > 1 for k in layer.weight.shape[2:])


@contextmanager
def _drawing(seed: int) -> Iterator[None]:
    """PEFT and LyCORIS draw from the global generator: borrow it, seeded, and give it back."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def fresh(module: nn.Module, targets: Sequence[Target], spec: AdapterSpec, seed: int) -> dict[Target, Trainable]:
    """New trainable parts that change nothing yet. Convolutions with a conv_rank of 0 are left out."""
    sizes = {t: Size(*spec.size(t.path, _large_kernel(find_layer(module, t)))) for t in targets}
    kept = [t for t in targets if sizes[t].rank]
    if not kept:
        raise SliderError("A conv_rank of 0 leaves no layer to train.")
    with _drawing(seed):
        if spec.algorithm in PEFTS:
            return dict(_with_peft(module, kept, sizes, spec.algorithm, spec.init))
        return dict(_with_lycoris(module, kept, sizes, spec))


def _fill(part: Trainable, values: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        for p, value in zip(part.parameters(), values, strict=True):
            p.copy_(value.reshape(p.shape))


def _revive_peft(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> dict[Target, Trainable]:
    parts: dict[Target, Trainable] = {}
    for algorithm, dora in ((Algorithm.LORA, False), (Algorithm.DORA, True)):
        some = {t: w for t, w in weights.items() if w.is_dora is dora}
        if not some:
            continue
        sizes = {t: Size(w.rank or 1, w.scale * (w.rank or 1)) for t, w in some.items()}
        made = _with_peft(module, list(some), sizes, algorithm, Init.KAIMING)
        for target, weight in some.items():
            values = [weight.tensors["lora_down.weight"], weight.tensors["lora_up.weight"]]
            if dora:
                values.append(_magnitude(weight, find_layer(module, target), target.rows))
            _fill(made[target], values)
        parts |= made
    return parts


def _magnitude(weight: LayerWeight, layer: nn.Module, rows: tuple[int, int] | None) -> torch.Tensor:
    """PEFT's magnitude out of ComfyUI's dora_scale, on this layer."""
    scale = weight.tensors["dora_scale"]
    if scale.shape[0] != weight.shape()[0]:
        raise SliderError("This DoRA scales columns, as the first ones did; load it with ComfyUI's LoRA loader.")
    return scale.flatten() * norm_ratio(weight, layer, rows)


def _revive_lycoris(layer: nn.Module, target: Target, weight: LayerWeight, shape: Sequence[int]) -> Lycoris:
    """LyCORIS' module with these tensors in it, whatever sizes it would have chosen itself."""
    t = weight.tensors
    tucker = any(name in t for name in ("lora_mid.weight", "hada_t1", "lokr_t2"))
    made = _module(weight.kind, layer, shape, Size(weight.rank or 1, weight.scale * (weight.rank or 1)), use_tucker=tucker)
    if weight.kind is Kind.FULL:
        made.weight = nn.Parameter(t["diff"].reshape(tuple(shape)).clone())
        made.bias = nn.Parameter(t["diff_b"].clone()) if "diff_b" in t else None
        return Full(made, weight.kind, target, tuple(layer.weight.shape))
    if weight.kind is Kind.LOKR:
        for name in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"):
            made._parameters.pop(name, None)
        made.use_w1, made.use_w2, made.tucker = "lokr_w1" in t, "lokr_w2" in t, "lokr_t2" in t
        made.lora_dim, made.scale = weight.rank or 1, weight.scale
        made.alpha = torch.tensor(weight.scale * made.lora_dim)
    for name, value in t.items():
        owner, _, leaf = name.rpartition(".")
        part = made.get_submodule(owner)
        before = getattr(part, leaf, None)
        if name == "lokr_w2" and value.ndim == 2 and len(shape) > 2:  # as ComfyUI wants it in a file
            value = value.reshape(value.shape[0], -1, *shape[2:])
        setattr(part, leaf, nn.Parameter((value if before is None else value.reshape(before.shape)).clone()))
    return _OURS.get(weight.kind, Lycoris)(made, weight.kind, target, tuple(layer.weight.shape))


def revived(module: nn.Module, weights: Mapping[Target, LayerWeight]) -> dict[Target, Trainable]:
    """Trainable parts that hold a copy of `weights`, which fit `module` (names.placed)."""
    with _drawing(0):
        plain = {t: w for t, w in weights.items() if w.kind is Kind.LORA and "lora_mid.weight" not in w.tensors}
        parts = _revive_peft(module, plain)
        for target, weight in weights.items():
            if target not in plain:
                parts[target] = _revive_lycoris(find_layer(module, target), target, weight, _shape(module, target))
    return {target: parts[target] for target in weights}
