"""Gradients through a model that was written for inference: blocks computed twice to save memory, in-place residuals survived.

`checkpointed(module, factors, remember)` drops what a block remembers and computes it again in the backward (Chen et al. 2016). torch's
own checkpointing keeps a block's inputs by reference, which a later `x += ...` changes: on Flux, Chroma, Hunyuan or LTX torch
2.13 gave gradients 1-19 % wrong without a word, and 2.14 refuses. Here a block works on copies of its inputs, both times, and
the second run is an ordinary autograd graph, in which torch refuses a changed tensor instead of using it.

`forgiving(on)` lets a model change tensors that autograd has saved: they are copied before the change. It costs time on
every operation, so it is off until torch complains; `complains` knows the complaint.
"""

from __future__ import annotations

import copy
import dataclasses
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from enum import Enum
from functools import partial
from typing import Any

import torch
from torch import nn

from .autograd_inplace import _WithoutOut
from .blocks import blocks

PLAIN = (torch.Tensor, bool, int, float, str, bytes, slice, type(None), torch.dtype, torch.device, Enum, nn.Module, dict)


# --- values in and out of a block


@dataclasses.dataclass(frozen=True)
class _Place:
    """Stands where tensor `number` was taken out."""

    number: int


def _attributes(value: Any) -> list[str]:
    """The attributes of a simple object (a dataclass, a holder of a tensor); none for plain data and for callables."""
    if isinstance(value, PLAIN) or callable(value):
        return []
    slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()) if hasattr(value, name))
    return [*getattr(value, "__dict__", {}), *slots]


def _replace(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """`value` with every `kind` in its tuples, lists and simple objects changed. Dicts (the host's options) are not entered."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (tuple, list)):
        parts = [_replace(v, kind, change) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    parts = {name: _replace(getattr(value, name), kind, change) for name in _attributes(value)}
    if all(part is getattr(value, name) for name, part in parts.items()):
        return value
    fresh = copy.copy(value)
    for name, part in parts.items():
        object.__setattr__(fresh, name, part)  # a frozen dataclass too
    return fresh


def _take_out(value: Any) -> tuple[Any, list[torch.Tensor]]:
    """`value` with a place for every tensor, and the tensors."""
    taken: list[torch.Tensor] = []

    def take(tensor: torch.Tensor) -> _Place:
        taken.append(tensor)
        return _Place(len(taken) - 1)

    return _replace(value, torch.Tensor, take), taken


def _put_in(value: Any, tensors: Sequence[torch.Tensor]) -> Any:
    return _replace(value, _Place, lambda place: tensors[place.number])


def _transparent(value: Any) -> bool:
    """Whether `value` holds nothing that could remember one run of a block until the next: no objects but plain data."""
    if isinstance(value, (tuple, list)):
        return all(_transparent(v) for v in value)
    if isinstance(value, (*PLAIN, type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
        return True
    if isinstance(value, _Place):
        return True
    parts = [getattr(value, name) for name in _attributes(value)]
    return bool(parts) and not any(isinstance(part, dict) for part in parts) and all(_transparent(part) for part in parts)


def _boxes(value: Any) -> Any:
    """The dicts and lists of `value` copied, what they hold shared."""
    if type(value) is dict:
        return {k: _boxes(v) for k, v in value.items()}
    return [_boxes(v) for v in value] if type(value) is list else value


def _held(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in the dicts and lists of `value`."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _held(part)


def _copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A block may change what it is given in place; the rest of the model must not see that twice."""
    return [t.clone() if t.is_floating_point() else t for t in tensors]


# --- a block that is computed twice


Block = Callable[[], AbstractContextManager[None]]
Factors = Callable[[str], Sequence[nn.Parameter]]  # of what acts inside the module at a path: Adapter.factors
Remember = Callable[[nn.Module], Block]  # what is in force on a model now, as a context that brings it back: strength.remember


class _Call:
    """One call of a block: what it was given beside tensors, and what it gave back."""

    def __init__(self, forward: Callable[..., Any], as_it_was: Block, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.forward, self.as_it_was = forward, as_it_was
        self.without_out = _WithoutOut if _WithoutOut.depth else nullcontext
        self.names = list(kwargs)
        self.given, tensors = _take_out((*args, *kwargs.values()))
        self.tensors = [t.clone() if t.is_inference() else t for t in tensors]
        self.later = [_boxes(v) if type(v) is dict else v for v in self.given]  # options as they are now: the model changes them
        self.returned: Any = None
        self.values: list[Any] = []

    def run(self, tensors: Sequence[torch.Tensor], again: bool = False) -> tuple[torch.Tensor, ...]:
        """The block on copies of `tensors`; its output tensors."""
        self.values = values = _put_in(list(self.later if again else self.given), _copies(tensors))
        split = len(values) - len(self.names)
        named = dict(zip(self.names, values[split:], strict=True))
        with self.as_it_was(), self.without_out() if again else nullcontext():
            self.returned, out = _take_out(self.forward(*values[:split], **named))
        return tuple(out)


class _Twice(torch.autograd.Function):
    """Forward: the block without a graph. Backward: the block again with one, and the gradient through it."""

    @staticmethod
    def forward(ctx: Any, call: _Call, factors: Sequence[nn.Parameter], *_known: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # `_known` are the call's tensors and the factors: named here so that autograd knows of them
        ctx.call, ctx.factors = call, factors
        ctx.save_for_backward(*call.tensors)
        ctx.set_materialize_grads(False)
        out = tuple(t.clone() if t._is_view() else t for t in call.run(call.tensors))
        call.tensors, call.values = [], []  # autograd has them, and lets go of them one by one
        return out

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        needed = ctx.needs_input_grad[2:]
        with torch.enable_grad():
            leaves = [t.detach().requires_grad_(need) for t, need in zip(ctx.saved_tensors, needed, strict=False)]
            out = ctx.call.run(leaves, again=True)
            pairs = [(o, g) for o, g in zip(out, grads, strict=True) if o.requires_grad and g is not None]
            wanted = [t for t in (*leaves, *ctx.factors) if t.requires_grad]
            found = torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True) if pairs else ()
        given = iter(found or [None] * len(wanted))
        return None, None, *(next(given) if t.requires_grad else None for t in (*leaves, *ctx.factors))


def _by_other_ways(part: nn.Module, call: _Call, factors: Sequence[nn.Parameter]) -> bool:
    """Whether something trained comes into the block or leaves it otherwise than by its tensors, its factors, its output.

    Then a second run could not pass the gradient on. Found out by a trial run with a graph.
    """
    lengths = [len(v) for v in call.given if isinstance(v, list)]
    with torch.enable_grad():
        leaves = [t.detach().requires_grad_(t.is_floating_point()) for t in call.tensors]
        own = {id(t) for t in (*leaves, *factors)}
        stack = [t.grad_fn for t in call.run(leaves, again=True)]
    handed_on = [t for value in call.values if isinstance(value, dict) for t in _held(value)]
    kept = [v for inner in part.modules() for v in inner.__dict__.values() if isinstance(v, torch.Tensor)]
    if (
        not _transparent(call.returned)
        or isinstance(call.returned, dict)
        or any(t.grad_fn is not None for t in (*handed_on, *kept))
        or lengths != [len(v) for v in call.values if isinstance(v, list)]
    ):
        return True
    seen = set()
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable") and id(node.variable) not in own:
            return True
        stack += [parent for parent, _ in node.next_functions]
    return False


class _Block:
    """Takes the place of a block's forward while gradients are recorded.

    `safe` is found out at the first call: a block that is given an object of unknown kind (it may keep values between runs),
    or which something trained enters or leaves by another way than its inputs and its output, is run once, as ever.
    """

    def __init__(self, part: nn.Module, factors: Sequence[nn.Parameter], remember: Callable[[], Block]) -> None:
        self.part, self.forward, self.factors, self.remember = part, part.forward, factors, remember
        self.safe: bool | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled() or self.safe is False:
            return self.forward(*args, **kwargs)
        if self.safe is None:
            self.safe = self._try_out(args, kwargs)
        if not self.safe:
            return self.forward(*args, **kwargs)
        call = self._call(args, kwargs)
        out = _Twice.apply(call, self.factors, *call.tensors, *self.factors)
        return _put_in(call.returned, out)

    def _try_out(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        try:
            plain = _transparent((args, list(kwargs.values())))
            return plain and not _by_other_ways(self.part, self._call(args, kwargs), self.factors)
        except RecursionError:  # objects that point at each other
            return False

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Call:
        return _Call(self.forward, self.remember(), args, kwargs)


@contextmanager
def checkpointed(module: nn.Module, factors: Factors, remember: Remember) -> Iterator[None]:
    """Within the block, `module` keeps of each of its `blocks` only the inputs, and computes the rest again in the backward.

    Gradients and outputs are those of the plain model; peak memory falls to the inputs of all blocks and the inside of one; a
    step costs one forward more. Nothing in a block may be random. The forwards of the blocks are back afterwards, on error
    and cancel too.
    """
    path_of = {id(part): path for path, part in module.named_modules()}
    with ExitStack() as restore:
        for part in blocks(module):
            before = part.__dict__.get("forward")
            part.__dict__["forward"] = _Block(part, factors(path_of[id(part)]), partial(remember, module))
            restore.callback(_put_back, part, before)
        yield


def _put_back(part: nn.Module, before: Any) -> None:
    if before is None:
        del part.__dict__["forward"]
    else:
        part.__dict__["forward"] = before
