"""A slider's parameters for the layers of one model, and their state.

In: a model's layers and what is to be trained on them (AdapterSpec), or a slider's weights. Out: parameters for an optimizer,
their exact state for a run that continues, the weights for a file. How they act: strength.py. Nothing in the model is replaced
or copied: the parts are made on layers of the same shape.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..config.checks import SliderError, need, shown
from ..config.lora import AdapterSpec
from ..layers.layer import Aliases, Target, find_layer
from .algorithm import LayerWeight, Trainable
from .catalog import fresh, revived
from .keys import placed


class Adapter:
    """A slider's weights for the layers of one model. Made silent: until it is trained it changes nothing."""

    def __init__(self, module: nn.Module, parts: Mapping[Target, Trainable], device: torch.device, dropout: float = 0.0) -> None:
        self._parts = dict(parts)
        self.dropout = dropout
        self._bases: list[nn.Module] = []  # models whose weights `weights` reads, the innermost last
        for part in self._parts.values():
            part.to(device)
            for parameter in part.parameters():
                parameter.requires_grad_(True)
        self.read_base(module)

    @property
    def targets(self) -> tuple[Target, ...]:
        return tuple(self._parts)

    @property
    def paths(self) -> tuple[str, ...]:
        """The layers that it lies in, each once: a fused one may hold several targets."""
        return tuple(dict.fromkeys(target.path for target in self._parts))

    @classmethod
    @torch.inference_mode(False)  # parts made under ComfyUI's inference mode could not be trained
    def create(
        cls, module: nn.Module, targets: Sequence[Target], spec: AdapterSpec, seed: int = 0, device: torch.device | str = "cpu"
    ) -> Adapter:
        """A fresh adapter on `targets`, as `spec` asks for it."""
        return cls(module, fresh(module, targets, spec, seed), torch.device(device), spec.dropout)

    @classmethod
    @torch.inference_mode(False)
    def from_weights(
        cls,
        module: nn.Module,
        weights: Mapping[Target, LayerWeight],
        device: torch.device | str = "cpu",
        aliases: Aliases | None = None,
        dropout: float = 0.0,
    ) -> Adapter:
        """An adapter that holds a copy of `weights`. SliderError where a layer is missing or has another shape.

        A DoRA and a GLoRA read the base weights: they must be those of the model as it will be used.
        """
        with torch.no_grad():
            fitted = placed(weights, module, aliases)
        return cls(module, revived(module, fitted), torch.device(device), dropout)

    def part(self, target: Target) -> Trainable:
        return self._parts[target]

    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains: those of each target in order."""
        return [p for part in self._parts.values() for p in part.parameters()]

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Those parameters with the name of their target."""
        return [(str(target), p) for target, part in self._parts.items() for p in part.parameters()]

    def factors(self, inside: str) -> list[nn.Parameter]:
        """The parameters that act inside the module at path `inside`."""
        inner: list[nn.Parameter] = []
        for target, part in self._parts.items():
            if f"{target.path}.".startswith(f"{inside}."):
                inner += part.parameters()
        return inner

    @torch.no_grad()
    def read_base(self, module: nn.Module) -> None:
        """Take from the base weights what the file form needs of them (DoRA, GLoRA); done at the end of every attachment."""
        for target, part in self._parts.items():
            part.read_base(find_layer(module, target))

    @contextmanager
    def reading(self, module: nn.Module) -> Iterator[None]:
        """Within the block `weights` reads `module` itself, and once more when the block ends."""
        self._bases.append(module)
        try:
            yield
        finally:
            self._bases.remove(module)
            self.read_base(module)

    def weights(self) -> dict[Target, LayerWeight]:
        """A detached float32 CPU copy of every layer's change, in file form."""
        for module in self._bases[-1:]:
            self.read_base(module)
        return {target: part.serialized() for target, part in self._parts.items()}

    def state(self) -> dict[str, list[torch.Tensor]]:
        """A copy of the parameters as they are, by target: what a run needs to go on exactly."""
        state: dict[str, list[torch.Tensor]] = {}
        for target, part in self._parts.items():
            state[str(target)] = [p.detach().cpu().clone() for p in part.parameters()]
        return state

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Sequence[torch.Tensor]]) -> None:
        """Copy `state` in, all or none. SliderError where a layer is missing, unknown or has another shape."""
        names = set(map(str, self._parts))
        for name in state:
            message = f'The saved slider has a layer "{shown(name)}" that is none of those chosen here: train under a new name.'
            need(name in names, message, "resume.unknown_layer")
        for target, part in self._parts.items():
            shapes = [p.shape for p in part.parameters()]
            if str(target) not in state:
                raise SliderError(f'The saved slider lacks the layer "{target}": train under a new name.', "resume.no_layer")
            if [value.shape for value in state[str(target)]] != shapes:
                message = f'Layer "{target}" of the saved slider has other sizes, those of another model: train under a new name.'
                raise SliderError(message, "resume.layer_sizes")
        for target, part in self._parts.items():
            for p, value in zip(part.parameters(), state[str(target)], strict=True):
                p.copy_(value)

    def twin(self) -> Adapter:
        """Another adapter with the very same parts, which may act beside this one at a strength of its own."""
        return copy.copy(self)

    @torch.no_grad()
    @torch.inference_mode(False)
    def to(self, device: torch.device) -> None:
        """Move the parts there, unless they are there already."""
        if any(p.device != device for p in self.parameters()):
            for part in self._parts.values():
                part.to(device)

    @property
    def device(self) -> torch.device:
        """Where it lies; without parameters in main memory."""
        return next((p.device for part in self._parts.values() for p in part.parameters()), torch.device("cpu"))

    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.parameters())
