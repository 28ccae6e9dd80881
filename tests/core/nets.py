"""A small net with every kind of layer that a slider meets, a slider on it, and what PEFT and LyCORIS make of that slider.

The oracles read a slider by other people's code: PEFT merges a layer itself, LyCORIS' wrapper loads the file we wrote. Both are
imported where they are used: they take longer than all the rest of the ring's collection.
"""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from slider_core.config.lora import AdapterSpec, Algorithm, FileFormat
from slider_core.layers.layer import Target
from slider_core.lora.info import SliderInfo
from slider_core.lora.slider_adapter import Adapter
from slider_core.lora.slider_file import Slider, save_slider
from slider_core.lora.strength import at_strength, attached

RANK, ALPHA, WIDE, SIDE = 2, 3.0, 16, 5
STRENGTHS = (-1.0, 0.0, 2.5)
CLOSE = {"rtol": 1e-4, "atol": 1e-4}  # the same formula, summed in another order


class Net(nn.Module):
    """Convolutions with and without a kernel, a Linear, one of q, k and v in a row, one without a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.conv3, self.conv1 = nn.Conv2d(4, WIDE, 3, padding=1), nn.Conv2d(WIDE, WIDE, 1)
        self.plain, self.fused = nn.Linear(WIDE, 24), nn.Linear(24, 3 * WIDE)
        self.bare = nn.Linear(WIDE, 10, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.conv1(torch.tanh(self.conv3(x)))).flatten(2).transpose(1, 2)
        q, k, v = self.fused(torch.tanh(self.plain(h))).chunk(3, dim=-1)
        return self.bare(torch.tanh(q) * torch.sigmoid(k) + v)


OTHERS = tuple(Target(path) for path in ("conv3", "conv1", "plain", "bare"))
PLACES = {
    "whole layers": (*OTHERS, Target("fused")),
    "one slice": (*OTHERS, Target("fused", (0, 2 * WIDE))),
    "two slices": (*OTHERS, Target("fused", (0, WIDE)), Target("fused", (2 * WIDE, 3 * WIDE))),
}


@dataclass(frozen=True)
class Variant:
    """A choice of an adapter, and by hand the (rank, alpha) of the layers where it is not the usual one."""

    spec: AdapterSpec
    sizes: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def size(self, path: str) -> tuple[int, float]:
        return self.sizes.get(path, (self.spec.rank, self.spec.alpha))


def variant(algorithm: str, sizes: Mapping[str, tuple[int, float]] | None = None, **options: object) -> Variant:
    return Variant(AdapterSpec(**({"rank": RANK, "alpha": ALPHA, "algorithm": algorithm} | options)), sizes or {})


_PATTERNS = {"rank_pattern": (("plain$", 4), ("conv", 1)), "alpha_pattern": (("^bare", 0.5),)}
_PATTERNED = {"plain": (4, ALPHA), "conv3": (1, ALPHA), "conv1": (1, ALPHA), "bare": (RANK, 0.5)}
VARIANTS = {
    **{algorithm.value: variant(algorithm.value) for algorithm in Algorithm},
    "lora, gaussian": variant("lora", init="gaussian"),
    "lora, orthogonal": variant("lora", init="orthogonal"),
    "lora, conv_rank 1": variant("lora", {"conv3": (1, 0.5)}, conv_rank=1, conv_alpha=0.5),
    "lora, conv_rank 0": variant("lora", conv_rank=0),
    "lora, patterns": variant("lora", _PATTERNED, **_PATTERNS),
    "rslora, patterns": variant("rslora", _PATTERNED, **_PATTERNS),
    "dora, patterns": variant("dora", _PATTERNED, **_PATTERNS),
    "lokr, patterns": variant("lokr", _PATTERNED, **_PATTERNS),
    "lokr, factor 2": variant("lokr", factor=2),
    "lokr, full_matrix": variant("lokr", full_matrix=True),
    "lokr, decompose_both": variant("lokr", rank=1, decompose_both=True),
    "locon, tucker": variant("locon", tucker=True),
    "loha, tucker": variant("loha", tucker=True),
    "lokr, tucker": variant("lokr", rank=1, tucker=True),
}
BY_PEFT = (Algorithm.LORA, Algorithm.RSLORA, Algorithm.DORA)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_net(seed: int = 5) -> Net:
    net = Net().requires_grad_(False)
    for number, p in enumerate(net.parameters()):
        p.copy_(0.4 * randn(*p.shape, seed=seed + number))
    return net


def images(count: int = len(STRENGTHS)) -> torch.Tensor:
    return randn(count, 4, SIDE, SIDE, seed=77)


def trained(adapter: Adapter, net: nn.Module) -> Adapter:
    """Random changes on top of the first values, in place of a training on `net`."""
    with torch.no_grad(), attached(adapter, net):
        for number, p in enumerate(adapter.parameters()):
            p.add_(0.15 * randn(*p.shape, seed=100 + number))
    return adapter


def slider_on(net: Net, chosen: Variant, place: str = "whole layers") -> Adapter:
    return trained(Adapter.create(net, PLACES[place], chosen.spec, seed=3), net)


def live(net: nn.Module, adapter: Adapter, x: torch.Tensor, strengths: Sequence[float] = STRENGTHS) -> torch.Tensor:
    with torch.no_grad(), at_strength(adapter, net, strengths):
        return net(x)


def gradients(net: nn.Module, adapter: Adapter, x: torch.Tensor) -> list[torch.Tensor | None]:
    for p in adapter.parameters():
        p.grad = None
    with at_strength(adapter, net, STRENGTHS):
        out = net(x)
    (out * randn(*out.shape, seed=8)).sum().backward()
    return [p.grad for p in adapter.parameters()]


def with_change(net: nn.Module, change: Mapping[str, torch.Tensor], strength: float) -> nn.Module:
    """The net with W + strength * D, by the names of its parameters."""
    shifted = copy.deepcopy(net)
    with torch.no_grad():
        for name, delta in change.items():
            shifted.get_parameter(name).add_(strength * delta)
    return shifted


def rows_by_hand(net: nn.Module, change: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Each image alone through the net at its strength."""
    return torch.cat([with_change(net, change, s)(image[None]) for s, image in zip(STRENGTHS, x, strict=True)])


def _alone(layer: nn.Module, rows: tuple[int, int] | None) -> nn.Module:
    """The layer, or its slice, as a model of its own."""
    layer = copy.deepcopy(layer)
    if rows:
        cut = nn.Linear(layer.in_features, rows[1] - rows[0], bias=layer.bias is not None)
        cut.weight = nn.Parameter(layer.weight[rows[0] : rows[1]].clone(), requires_grad=False)
        cut.bias = None if layer.bias is None else nn.Parameter(layer.bias[rows[0] : rows[1]].clone(), requires_grad=False)
        layer = cut
    return nn.Sequential(OrderedDict(layer=layer))


def change_by_peft(net: nn.Module, adapter: Adapter, chosen: Variant) -> dict[str, torch.Tensor]:
    """D = W' - W of every layer, W' as PEFT merges it, layer by layer and slice by slice."""
    from peft import LoraConfig, get_peft_model

    found: dict[str, torch.Tensor] = {}
    values = iter(adapter.parameters())
    for target in adapter.targets:
        alone = _alone(net.get_submodule(target.path), target.rows)
        rank, alpha = chosen.size(target.path)
        rslora, dora = (chosen.spec.algorithm is kind for kind in (Algorithm.RSLORA, Algorithm.DORA))
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["layer"], use_rslora=rslora, use_dora=dora)
        model = get_peft_model(copy.deepcopy(alone), config)
        lora = model.base_model.model.layer
        with torch.no_grad():
            lora.lora_A["default"].weight.copy_(next(values))
            lora.lora_B["default"].weight.copy_(next(values))
            if dora:
                lora.lora_magnitude_vector["default"].weight.copy_(next(values))
        delta = (model.merge_and_unload().layer.weight - alone.layer.weight).detach()
        whole = found.setdefault(f"{target.path}.weight", torch.zeros_like(net.get_submodule(target.path).weight))
        whole[slice(*target.rows) if target.rows else slice(None)] += delta
    assert next(values, None) is None, "PEFT knows every parameter"
    return found


def saved(folder: Path, adapter: Adapter, form: FileFormat, **options: object) -> Path:
    path = folder / ("slider" if form is FileFormat.PEFT else "slider.safetensors")
    save_slider(path, Slider(adapter.weights(), SliderInfo(architecture="Flux")), form=form, **options)
    return path


def lycoris_network(net: nn.Module, path: Path) -> object:
    """LyCORIS' own reading of a file, as a network on `net`."""
    from lycoris.wrapper import create_lycoris_from_weights

    with torch.no_grad():
        return create_lycoris_from_weights(1.0, str(path), net)[0]


def answers(layer: nn.Module, shape: torch.Size) -> tuple[torch.Tensor, torch.Tensor]:
    """(weight, bias) of a layer by what it does with nothing and with each input alone."""
    if len(shape) == 2:
        bias = layer(torch.zeros(1, shape[1]))[0]
        return (layer(torch.eye(shape[1])) - bias).T, bias
    impulse = torch.zeros(shape[1], shape[1], *shape[2:])
    middle = tuple(size // 2 for size in shape[2:])
    impulse[(torch.arange(shape[1]), torch.arange(shape[1]), *middle)] = 1.0
    none = layer(torch.zeros_like(impulse[:1]))[0]
    return (layer(impulse) - none).transpose(0, 1).flip(2, 3), none[(slice(None), *middle)]


@torch.no_grad()
def change_by_lycoris(net: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """D of every layer as its forward has it under LyCORIS' wrapper (whose own merge takes a LoHa's and LoKr's scale twice)."""
    net = copy.deepcopy(net)
    layers = {name: layer for name, layer in net.named_modules() if hasattr(layer, "weight")}
    before = {name: (layer.weight.shape, answers(layer, layer.weight.shape)) for name, layer in layers.items()}
    network, found = lycoris_network(net, path), {}
    assert len(network.loras) == len({key.split(".")[0] for key in load_file(path)}), "LyCORIS reads every layer"
    network.apply_to()
    for name, (shape, (weight, bias)) in before.items():
        after = answers(layers[name], shape)
        found |= {f"{name}.weight": after[0] - weight, f"{name}.bias": after[1] - bias}
    return {name: delta for name, delta in found.items() if bool(delta.any())}


def change_by_others(net: nn.Module, adapter: Adapter, chosen: Variant, folder: Path) -> dict[str, torch.Tensor]:
    """The change at strength 1 by code that is not ours."""
    if chosen.spec.algorithm in BY_PEFT:
        return change_by_peft(net, adapter, chosen)
    return change_by_lycoris(net, saved(folder, adapter, FileFormat.LYCORIS))
