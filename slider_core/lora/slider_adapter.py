"""A slider's trainable parts attached to live layers without changing one of them, with a strength per sample.

PEFT and LyCORIS make the parts on layers of the same shape (algorithms.py), so nothing in the model is replaced or copied.
`at(module, strength)` hooks each target for the length of a `with` block:

    y_r = f(x_r) + strength_r * change(x_r)

Which row is whose: rows.py. At strength 0, and at initialisation, the output is the model's own. The hooks go when the block
ends, on error and cancel too. Cost: no copy of a base weight, no gradient for one.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import nn

from ..backend import seeded
from ..config.checks import SliderError
from ..config.lora import AdapterSpec
from ..layers.layer import Aliases, Target, find_layer
from ..layers.sample_rows import Rows, attached
from .algorithm import LayerWeight, Trainable
from .catalog import fresh, revived
from .keys import placed


def uncompiled() -> AbstractContextManager[None]:
    """Compiled code may have been made without our hooks, and torch does not look for new ones: run what it was made from."""
    compiling = "torch._dynamo" in sys.modules  # seconds to import, which is not ours to do
    stance = getattr(torch.compiler, "set_stance", None)  # torch 2.6
    return stance("force_eager") if compiling and stance else nullcontext()


def _dropped(x: torch.Tensor, share: float, seed: int, place: str) -> torch.Tensor:
    """`x` with a share of it silent, the same for all samples of a batch: a pair must not be told apart by it."""
    generator = seeded(seed, place, x.device)
    kept = torch.rand(x.shape[1:], generator=generator, device=x.device) >= share
    return x * (kept.to(x.dtype) / (1 - share))


def _part_of(output: torch.Tensor, target: Target) -> torch.Tensor:
    return output if target.rows is None else output[..., target.rows[0] : target.rows[1]]


_IN_FORCE: list[Adapter] = []  # adapters whose strengths act now, outermost first: several sliders on one model


class Adapter:
    """A slider's weights for the layers of one model. Made silent: until it is trained it changes nothing."""

    def __init__(self, module: nn.Module, parts: Mapping[Target, Trainable], device: torch.device, dropout: float = 0.0) -> None:
        self._parts, self.dropout = dict(parts), dropout
        self._rows: Rows | None = None  # the strengths in force, inside `at`
        self._dropping: tuple[int, str] | None = None  # seed and place of the dropout in force
        self._module: nn.Module | None = None
        self._attached_to: list[nn.Module] = []
        for part in self._parts.values():
            part.to(device)
            for parameter in part.parameters():
                parameter.requires_grad_(True)
        self.look(module)

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
        cls,
        module: nn.Module,
        targets: Sequence[Target],
        spec: AdapterSpec,
        seed: int = 0,
        device: torch.device | str = "cpu",
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
            mine = placed(weights, module, aliases)
        return cls(module, revived(module, mine), torch.device(device), dropout)

    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains: those of each target in order."""
        return [p for part in self._parts.values() for p in part.parameters()]

    def named_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """Those parameters with the name of their target."""
        return [(str(target), p) for target, part in self._parts.items() for p in part.parameters()]

    def factors(self, inside: str) -> list[nn.Parameter]:
        """The parameters that act inside the module at path `inside`."""
        parts = [part for t, part in self._parts.items() if t.path == inside or t.path.startswith(f"{inside}.")]
        return [p for part in parts for p in part.parameters()]

    @torch.no_grad()
    def look(self, module: nn.Module) -> None:
        """Take from the base weights what the file form needs of them (DoRA); done at the end of every attachment."""
        for target, part in self._parts.items():
            part.look(find_layer(module, target))

    def weights(self) -> dict[Target, LayerWeight]:
        """A detached float32 CPU copy of every layer's change, in file form."""
        for module in self._attached_to[-1:]:
            self.look(module)
        return {target: part.serialized() for target, part in self._parts.items()}

    def state(self) -> dict[str, list[torch.Tensor]]:
        """A copy of the parameters as they are, by target: what a run needs to go on exactly."""
        return {str(t): [p.detach().cpu().clone() for p in part.parameters()] for t, part in self._parts.items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Sequence[torch.Tensor]]) -> None:
        """Copy `state` in, all or none. SliderError where a layer is missing or has another shape."""
        for target, part in self._parts.items():
            shapes = [p.shape for p in part.parameters()]
            if str(target) not in state:
                raise SliderError(f'The saved slider lacks the layer "{target}".')
            if [value.shape for value in state[str(target)]] != shapes:
                raise SliderError(f'Layer "{target}" of the saved slider has other sizes: it was trained on another model.')
        for target, part in self._parts.items():
            for p, value in zip(part.parameters(), state[str(target)], strict=True):
                p.copy_(value)

    def twin(self) -> Adapter:
        """Another adapter with the very same parts, which may act beside this one at a strength of its own."""
        other = copy.copy(self)
        other._rows = other._module = other._dropping = None
        other._attached_to = []
        return other

    @torch.no_grad()
    @torch.inference_mode(False)
    def to(self, device: torch.device) -> None:
        """Move the parts there, unless they are there already."""
        if any(p.device != device for p in self.parameters()):
            for part in self._parts.values():
                part.to(device)

    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.parameters())

    def finite(self) -> bool:
        return all(bool(p.isfinite().all()) for p in self.parameters())

    def _hook(self, target: Target) -> Callable[..., torch.Tensor | None]:
        part = self._parts[target]

        def add(layer: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor | None:
            strength = self._rows.for_layer(output.shape[0], target.path) if self._rows else None
            if strength is None:
                return None
            x, mine = args[0], _part_of(output, target)
            if self._dropping and self.dropout:
                x = _dropped(x, self.dropout, self._dropping[0], f"{self._dropping[1]}/{target}")
            alone = len(layer._forward_hooks) == 1  # else another slider may have changed the output before us
            plain = mine if alone or not part.reads_output else _part_of(layer.forward(*args), target)
            change = part.change(layer, x, plain)
            change = (change * strength.to(change).reshape(-1, *[1] * (change.ndim - 1))).to(output.dtype)
            if target.rows is None:
                return output + change
            return torch.cat((output[..., : target.rows[0]], mine + change, output[..., target.rows[1] :]), dim=-1)

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
                self.look(module)

    @contextmanager
    def _with_rows(self, module: nn.Module, rows: Rows, dropping: tuple[int, str] | None) -> Iterator[None]:
        before = self._rows, self._module, self._dropping
        with self.attached(module):
            self._rows, self._module, self._dropping = rows, module, dropping
            _IN_FORCE.append(self)
            try:
                yield
            finally:
                _IN_FORCE.remove(self)
                self._rows, self._module, self._dropping = before

    @contextmanager
    def at(
        self,
        module: nn.Module,
        strength: Sequence[float] | torch.Tensor,
        dropping: tuple[int, str] | None = None,
        by_row: bool = False,
    ) -> Iterator[None]:
        """Within the block, `module` (the diffusion model) runs with this slider, sample i at `strength[i]`.

        The model is called with whole copies of the batch, as ComfyUI does: rows = copies * len(strength). `dropping` (seed,
        place of the run) switches the adapter's dropout on, always the same there. `by_row`: the strengths are those of one
        call's rows, whichever samples these are. A model that torch.compile has wrapped runs uncompiled.
        """
        with self._with_rows(module, Rows(strength, by_row), dropping), uncompiled():
            yield

    def some(self, samples: slice, count: int) -> Callable[[], AbstractContextManager[None]]:
        """The strengths in force now of a part of a batch of `count`, as a context: for a batch that is run in parts."""
        if self._rows is None or self._module is None:
            return nullcontext
        if len(self._rows.strength) != count:
            raise ValueError(f"{len(self._rows.strength)} strengths are in force for a batch of {count}")
        module, rows, dropping = self._module, self._rows.strength[samples], self._dropping
        return lambda: self._with_rows(module, Rows(rows), dropping)

    def _as_now(self) -> Callable[[], AbstractContextManager[None]]:
        if self._rows is None or self._module is None:
            return nullcontext
        module, rows, dropping = self._module, self._rows.frozen(), self._dropping
        return lambda: self._with_rows(module, rows, dropping)

    def remember(self) -> Callable[[], AbstractContextManager[None]]:
        """The strengths in force now, this adapter's and any other's, as a context that brings them back: for a part of the
        model that is computed again."""
        states = [adapter._as_now() for adapter in _IN_FORCE]

        @contextmanager
        def again() -> Iterator[None]:
            with ExitStack() as stack:
                for state in states:
                    stack.enter_context(state())
                yield

        return again
