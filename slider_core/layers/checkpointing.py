"""Gradient checkpointing for a model that was written for inference, in-place residuals included.

`checkpointed` drops what a block remembers and computes it again in the backward (Chen et al. 2016). torch's own
checkpointing keeps a block's inputs by reference, which a later `x += ...` changes: on Flux, Chroma, Hunyuan or LTX torch 2.13
gave gradients 1-19 % wrong without a message, and 2.14 refuses. Here a block works on copies of its inputs, both times, and the
second run is an ordinary autograd graph, in which torch refuses a changed tensor instead of using it.

In-place changes inside a block are autograd_inplace.py's.
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
from torch.autograd.graph import get_gradient_edge

from .autograd_inplace import WithoutOut
from .block_inputs import BlockInputs
from .blocks import blocks

PLAIN = (torch.Tensor, bool, int, float, str, bytes, slice, type(None), torch.dtype, torch.device, Enum, nn.Module, dict)
EDGES = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 7)  # from which grad() takes them
CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.MethodType)


@dataclasses.dataclass(frozen=True)
class _Place:
    """Stands where tensor `number` was taken out."""

    number: int


def _attributes(value: Any) -> dict[str, Any]:
    """The attributes of a simple object (a dataclass, a holder of a tensor); none for plain data and for callables."""
    if isinstance(value, PLAIN) or callable(value):
        return {}
    attributes = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        for name in getattr(kind, "__slots__", ()):
            if hasattr(value, name):
                attributes[name] = getattr(value, name)
    return attributes


def _replace(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """`value` with every `kind` in its tuples, lists and simple objects changed. Dicts (the host's options) are not entered."""
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, (tuple, list)):
        items = [_replace(item, kind, change) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    changed = {}
    for name, part in _attributes(value).items():
        replaced = _replace(part, kind, change)
        if replaced is not part:
            changed[name] = replaced
    if not changed:
        return value
    fresh = copy.copy(value)
    for name, part in changed.items():
        object.__setattr__(fresh, name, part)  # a frozen dataclass too
    return fresh


def _take_out(value: Any) -> tuple[Any, list[torch.Tensor]]:
    """`value` with a place for every tensor, and the tensors."""
    tensors: list[torch.Tensor] = []

    def take(tensor: torch.Tensor) -> _Place:
        tensors.append(tensor)
        return _Place(len(tensors) - 1)

    return _replace(value, torch.Tensor, take), tensors


def _put_in(value: Any, tensors: Sequence[torch.Tensor]) -> Any:
    return _replace(value, _Place, lambda place: tensors[place.number])


def _transparent(value: Any) -> bool:
    """Whether `value` holds nothing that could remember one run of a block until the next: no objects but plain data."""
    if isinstance(value, (tuple, list)):
        return all(map(_transparent, value))
    if isinstance(value, (*PLAIN, *CODE, _Place)):
        return True
    parts = _attributes(value).values()
    return len(parts) > 0 and all(_transparent(part) and not isinstance(part, dict) for part in parts)


def _copied_containers(value: Any) -> Any:
    """The dicts and lists of `value` copied, what they hold shared."""
    if type(value) is dict:
        return {key: _copied_containers(item) for key, item in value.items()}
    if type(value) is list:
        return list(map(_copied_containers, value))
    return value


def _tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in the dicts and lists of `value`."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        for item in items:
            yield from _tensors_in(item)


def _copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """A block may change its inputs in place; the rest of the model must not see that twice."""
    return [tensor.clone() if tensor.is_floating_point() else tensor for tensor in tensors]


State = Callable[[], AbstractContextManager[None]]  # a context in which what was in force is in force again
Factors = Callable[[str], Sequence[nn.Parameter]]  # of what acts inside the module at a path: Adapter.factors
Remember = Callable[[nn.Module], State]  # what is in force on a model now: strength.remember


class _Call:
    """One call of a block: its arguments with the tensors taken out, and its output likewise. `inputs`: where they wait."""

    def __init__(
        self, forward: Callable[..., Any], state: State, inputs: BlockInputs, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> None:
        self.forward = forward
        self.state = state
        self.inputs = inputs
        self.without_out = WithoutOut if WithoutOut.depth else nullcontext
        self.names = list(kwargs)
        self.arguments, tensors = _take_out((*args, *kwargs.values()))
        self.tensors = [tensor.clone() if tensor.is_inference() else tensor for tensor in tensors]
        # options as they are now: the model changes them between the two runs
        self.arguments_again = [_copied_containers(v) if type(v) is dict else v for v in self.arguments]
        self.output: Any = None
        self.values: list[Any] = []

    def run(self, tensors: Sequence[torch.Tensor], again: bool = False) -> tuple[torch.Tensor, ...]:
        """The block on copies of `tensors`; its output tensors."""
        arguments = self.arguments_again if again else self.arguments
        values = _put_in(list(arguments), _copies(tensors))
        self.values = values
        split = len(values) - len(self.names)
        named = dict(zip(self.names, values[split:], strict=True))
        without_out = self.without_out() if again else nullcontext()
        with self.state(), without_out:
            self.output, out = _take_out(self.forward(*values[:split], **named))
        return tuple(out)


def _ends(outputs: Sequence[torch.Tensor], grads: Sequence[torch.Tensor | None]) -> tuple[list[Any], list[torch.Tensor]]:
    """Where the backward through a block begins, and the gradients there. A place in the graph is enough; the output's numbers
    need not live for it."""
    ends, given = [], []
    for output, grad in zip(outputs, grads, strict=True):
        if output.requires_grad and grad is not None:
            ends.append(get_gradient_edge(output) if EDGES else output)
            given.append(grad)
    return ends, given


class _ComputedTwice(torch.autograd.Function):
    """Forward: the block without a graph. Backward: the block again with one, and the gradient through it."""

    @staticmethod
    def forward(ctx: Any, call: _Call, factors: Sequence[nn.Parameter], *_inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        # `_inputs` are the call's tensors and the factors: arguments, so that autograd asks for their gradients
        ctx.call = call
        ctx.factors = factors
        ctx.devices = [tensor.device for tensor in call.tensors]
        ctx.set_materialize_grads(False)
        out = tuple(tensor.clone() if tensor._is_view() else tensor for tensor in call.run(call.tensors))
        needed = zip(call.tensors, ctx.needs_input_grad[2:], strict=False)
        ctx.save_for_backward(*(call.inputs.put(tensor) if grad else tensor for tensor, grad in needed))
        call.tensors = []  # autograd has them, and lets go of them one by one
        call.values = []
        return out

    @staticmethod
    def backward(ctx: Any, *output_grads: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        with torch.enable_grad():
            leaves = []
            for tensor, device, needed in zip(ctx.saved_tensors, ctx.devices, ctx.needs_input_grad[2:], strict=False):
                back = ctx.call.inputs.get(tensor, device) if needed else tensor
                leaves.append(back.detach().requires_grad_(needed))
            ends, grads = _ends(ctx.call.run(leaves, again=True), output_grads)
            ctx.call.values = []
            inputs = [*leaves, *ctx.factors]
            differentiable = [tensor for tensor in inputs if tensor.requires_grad]
            found: Sequence[torch.Tensor | None] = [None] * len(differentiable)
            if ends:
                found = torch.autograd.grad(ends, differentiable, grads, allow_unused=True)
        # the node of this block lives until the whole backward ends, and what the second run made must not
        ctx.call.output = None
        remaining = iter(found)
        return None, None, *(next(remaining) if tensor.requires_grad else None for tensor in inputs)


def _has_hidden_path(part: nn.Module, call: _Call, factors: Sequence[nn.Parameter]) -> bool:
    """Whether something trained comes into the block or leaves it by another path than its tensors, its factors, its output.

    Then a second run could not pass the gradient on. Found by a trial run with a graph.
    """
    lengths = _list_lengths(call.arguments)
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in call.tensors]
        outputs = call.run(leaves, again=True)
    if not _transparent(call.output) or isinstance(call.output, dict):
        return True
    if lengths != _list_lengths(call.values):
        return True
    for options in call.values:
        if isinstance(options, dict) and any(map(_is_computed, _tensors_in(options))):
            return True
    for module in part.modules():
        if any(map(_is_computed, vars(module).values())):
            return True
    return _depends_on_others(outputs, [*leaves, *factors])


def _list_lengths(values: Sequence[Any]) -> list[int]:
    return [len(value) for value in values if isinstance(value, list)]


def _is_computed(value: Any) -> bool:
    """Whether it is a tensor with a graph behind it."""
    return isinstance(value, torch.Tensor) and value.grad_fn is not None


def _depends_on_others(outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> bool:
    """Whether the graph of the outputs reaches a leaf that is none of the inputs."""
    allowed = set(map(id, inputs))
    visited = set()
    nodes = [output.grad_fn for output in outputs]
    while nodes:
        node = nodes.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        if hasattr(node, "variable") and id(node.variable) not in allowed:
            return True
        nodes += [parent for parent, _ in node.next_functions]
    return False


class _Block:
    """Takes the place of a block's forward while gradients are recorded.

    `safe` is found at the first call: a block with an argument of unknown kind (it may keep values between runs), or which
    something trained enters or leaves by another path than its inputs and its output, is run once, as without checkpointing.
    """

    def __init__(
        self, part: nn.Module, factors: Sequence[nn.Parameter], remember: Callable[[], State], inputs: BlockInputs
    ) -> None:
        self.part = part
        self.inputs = inputs
        self.forward = part.forward
        self.factors = factors
        self.remember = remember
        self.safe: bool | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        if self.safe is None:
            self.safe = self._is_safe(args, kwargs)
        if not self.safe:
            return self.forward(*args, **kwargs)
        call = self._call(args, kwargs)
        out = _ComputedTwice.apply(call, self.factors, *call.tensors, *self.factors)
        return _put_in(call.output, out)

    def _is_safe(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
        try:
            if not _transparent((args, list(kwargs.values()))):
                return False
            return not _has_hidden_path(self.part, self._call(args, kwargs), self.factors)
        except RecursionError:  # objects that point at each other
            return False

    def _call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> _Call:
        return _Call(self.forward, self.remember(), self.inputs, args, kwargs)


@contextmanager
def checkpointed(module: nn.Module, factors: Factors, remember: Remember, inputs: BlockInputs | None = None) -> Iterator[None]:
    """Within the block, `module` keeps of each of its `blocks` only the inputs, where `inputs` has them, and computes the rest
    again in the backward.

    Gradients and outputs are those of the plain model; peak memory falls to the inputs of all blocks and the inside of one; a
    step costs one forward more. Nothing in a block may be random. The forwards of the blocks are back afterwards, on error
    and cancel too.
    """
    path_of = {part: path for path, part in module.named_modules()}
    inputs = inputs or BlockInputs()
    with ExitStack() as restore:
        for part in blocks(module):
            before = part.__dict__.get("forward")
            part.__dict__["forward"] = _Block(part, factors(path_of[part]), partial(remember, module), inputs)
            restore.callback(_put_back, part, before)
        yield


def _put_back(part: nn.Module, before: Any) -> None:
    if before is None:
        del part.__dict__["forward"]
    else:
        part.__dict__["forward"] = before
