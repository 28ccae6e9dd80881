"""What every algorithm has: the change of one layer's weight as tensors (LayerWeight), and the same to be trained (Trainable).

The change at strength 1 is one matrix D (`delta`), and strength s means W + s D: that is what ComfyUI's loader does for every s,
DoRA included. scale = alpha / rank, or 1 without an alpha and where nothing has a rank. Each algorithm is a subclass in a file of
algorithms/, where its formula and its source stand. Tensors have the names that LyCORIS gave them.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar, TypeVar

import torch
from torch import nn
from torch.nn.functional import pad

from ..backend import per_sample
from ..config.checks import SliderError, need
from ..config.lora import AdapterSpec, Algorithm
from ..layers.layer import Target, without_ones

Shape = tuple[int, ...]
OutputSlice = tuple[int, int]  # (first row, row after the last) of a fused layer
Layer = Any  # a live Linear or convolution: torch's, or the host's own
Weight = TypeVar("Weight", bound="LayerWeight")
BIAS = "diff_b"  # what is added to the layer's bias at strength 1, beside a change of any kind


class Kind(str, Enum):
    """How a layer's change is made up in a file. rsLoRA and LoCon are `lora` there."""

    LORA = "lora"
    DORA = "dora"
    LOHA = "loha"
    LOKR = "lokr"
    FULL = "full"
    GLORA = "glora"
    VECTOR = "vector"


class Trainable(ABC):
    """One target's part of an adapter. Fresh, it changes nothing.

    `change` is exact for each row of a batch: y_r = f(x_r) + strength_r * change(x_r).
    """

    reads_output = False  # whether `change` needs `out`, as it is without any slider

    @abstractmethod
    def parameters(self) -> list[nn.Parameter]:
        """What an optimizer trains, always in the same order."""

    @abstractmethod
    def change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        """What the target's rows of `out` = layer(x) change by at strength 1."""

    def scaled_change(self, layer: Layer, x: torch.Tensor, out: torch.Tensor, strength_B: torch.Tensor) -> torch.Tensor:
        """`change` times each row's strength; `strength_B` has one for every row, or one for all."""
        change = self.change(layer, x, out)
        return change * per_sample(strength_B.to(change), change)

    def input_format(self, given: torch.dtype) -> torch.dtype:
        """The number format in which it wants x."""
        return given

    def read_base(self, layer: Layer) -> None:  # noqa: B027
        """Take from the base weight what `serialized` needs of it; to be done after every change of the parameters."""

    @abstractmethod
    def serialized(self) -> LayerWeight:
        """A detached float32 copy on the CPU."""

    @abstractmethod
    def to(self, device: torch.device) -> None: ...


@dataclass(frozen=True)
class Size:
    """Of one layer's LoRA-like update."""

    rank: int
    alpha: float


@dataclass(frozen=True)
class LayerWeight(ABC):
    """The change of one layer, or of an output slice of it. `base`: the shape of the layer's whole weight, where it is known."""

    tensors: dict[str, torch.Tensor]
    alpha: float | None = None
    base: Shape | None = None

    kind: ClassVar[Kind]
    algorithms: ClassVar[tuple[Algorithm, ...]]  # the choices of an AdapterSpec that are trained and saved this way
    needed: ClassVar[tuple[str, ...]] = ()  # tensors that a file must hold
    optional: ClassVar[tuple[str, ...]] = ()
    ranked: ClassVar[tuple[str, ...]] = ()  # the first of them that is there has as many rows as the rank
    cores: ClassVar[tuple[str, ...]] = ()  # Tucker cores, which have the kernel of a convolution
    vectors: ClassVar[tuple[str, ...]] = ()  # tensors that may have one dimension
    row_tensors: ClassVar[tuple[str, ...]] = ()  # their rows are the layer's; none where it changes all rows or none
    halved: ClassVar[tuple[str, ...]] = ()  # the tensors to turn for `swapped`, where they are not `row_tensors`
    linear: ClassVar[tuple[str, ...]] = ()  # where nothing has a rank: the tensors to multiply for a change that is larger
    needs_base: ClassVar[bool] = False  # whether D depends on the base weight

    # --- from and to files

    @classmethod
    def recognises(cls, names: set[str]) -> bool:
        """Whether a layer with tensors of these names is of this kind, whole or damaged."""
        return bool(names & set(cls.needed))

    @classmethod
    def lacking(cls, names: set[str]) -> list[str]:
        return [name for name in cls.needed if name not in names]

    @classmethod
    def unknown(cls, names: Iterable[str]) -> list[str]:
        """Names that have no meaning in this kind."""
        return sorted(set(names) - {*cls.needed, *cls.optional, BIAS})

    @classmethod
    def of_file(cls, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        """A file's tensors as this kind names them, where older programs named them otherwise."""
        return tensors

    def file_tensors(self) -> dict[str, torch.Tensor]:
        """What of it is written to a file."""
        return self.tensors

    def for_comfyui(self) -> LayerWeight:
        """The same change in shapes that ComfyUI's loader reads."""
        return self

    def for_lycoris(self, path: str) -> LayerWeight:  # noqa: ARG002
        """The same change as LyCORIS understands it. `path` is for the message where it needs the base model."""
        return self

    def flat(self) -> LayerWeight:
        """The same change without a core tensor of a kernel of one place, which a Linear takes."""
        return self

    @abstractmethod
    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
        """The shape of each tensor on a layer with a weight of shape (rows, inner, *kernel)."""

    def multiplies(self) -> bool:
        """Whether the factors multiply to a matrix at all."""
        for name, tensor in self.tensors.items():
            least = 2
            if name in self.vectors or name == BIAS:
                least = 1
            elif name in self.cores:
                least = 3
            if tensor.ndim < least or not tensor.numel():
                return False
        try:
            self.fitted(self.layer_shape(), "")
        except SliderError:
            return False
        return True

    def fitted(self, shape: Shape, where: str) -> dict[str, torch.Tensor]:
        """The tensors in the shapes that a layer of `shape` asks for. SliderError, which begins with `where`, where one has
        another."""
        expected = {BIAS: shape[:1]} | self.expected(shape[0], math.prod(shape[1:2]), shape[2:])
        return {name: self.fit(name, tensor, expected.get(name), shape, where) for name, tensor in self.tensors.items()}

    def fit(self, name: str, tensor: torch.Tensor, expected: Shape | None, shape: Shape, where: str) -> torch.Tensor:
        """A tensor that holds the same numbers in the same order as the expected one, flattened behind its rows at most. A Linear
        and a convolution of one place take each other's."""
        if expected and tensor.numel() == math.prod(expected):
            flat = (expected[0], math.prod(expected[1:]))
            if without_ones(tensor.shape) in (without_ones(expected), without_ones(flat)):
                return tensor.reshape(expected)
        message = f"{where} has shape {shape} here, and its {name} in the file {tuple(tensor.shape)}."
        raise SliderError(message, "lora.shape")

    # --- the change of the weight

    @property
    def rank(self) -> int | None:
        """The number that alpha is divided by; None where nothing has a rank."""
        for name in self.ranked:
            if name in self.tensors:
                return self.tensors[name].shape[0]
        return None

    @property
    def scale(self) -> float:
        if self.alpha is None or not self.rank:
            return 1.0
        return self.alpha / self.rank

    @property
    def size(self) -> Size:
        return Size(self.rank or 1, self.scale * (self.rank or 1))

    @property
    def is_dora(self) -> bool:
        return self.kind is Kind.DORA

    @property
    def changes_weight(self) -> bool:
        """Whether it changes more than a bias."""
        return any(name != BIAS for name in self.tensors)

    @property
    def has_core(self) -> bool:
        return any(name in self.tensors for name in self.cores)

    @abstractmethod
    def layer_shape(self) -> Shape:
        """(rows, inputs, *kernel) of the weight that is changed, as far as the tensors have it; or flat behind the rows."""

    def shape(self) -> tuple[int, int]:
        """(rows, numbers per row) of the change."""
        shape = self.layer_shape()
        return shape[0], math.prod(shape[1:])

    @abstractmethod
    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:
        """(rows, numbers per row) the change at strength 1, but for a dora_scale. `base`: the rows of the base weight."""

    def delta(self, base: torch.Tensor | None = None) -> torch.Tensor:
        """(rows, numbers per row) D, the change at strength 1. SliderError when it `needs_base` and there is none."""
        return self.update(base)

    def scaled(self: Weight, factor: float) -> Weight:
        """The same change times `factor`, that of the bias too."""
        weight = self.scaled_update(factor)
        if BIAS not in weight.tensors:
            return weight
        return dataclasses.replace(weight, tensors=weight.tensors | {BIAS: weight.tensors[BIAS] * factor})

    def scaled_update(self: Weight, factor: float) -> Weight:
        """With an update that is `factor` times as large."""
        if self.rank is not None:
            alpha = self.rank if self.alpha is None else self.alpha
            return dataclasses.replace(self, alpha=alpha * factor)
        tensors = dict(self.tensors)
        for name in self.linear:
            if name in tensors:
                tensors[name] = tensors[name] * factor
        return dataclasses.replace(self, tensors=tensors)

    def with_bias(self: Weight, bias: torch.Tensor, where: str = "") -> Weight:
        """With a change of the bias. SliderError where it has not a number for each row."""
        message = f"{where} holds a bias of shape {tuple(bias.shape)} beside {self.shape()[0]} rows; the file is damaged."
        need(tuple(bias.shape) == self.shape()[:1], message, "lora.factors")
        return dataclasses.replace(self, tensors=self.tensors | {BIAS: bias})

    def without_bias(self: Weight) -> Weight:
        return dataclasses.replace(self, tensors=self.others(BIAS))

    def others(self, *names: str) -> dict[str, torch.Tensor]:
        return {name: tensor for name, tensor in self.tensors.items() if name not in names}

    def to(self: Weight, to: torch.device | torch.dtype) -> Weight:
        return dataclasses.replace(self, tensors={name: tensor.to(to) for name, tensor in self.tensors.items()})

    def products(self) -> Sequence[tuple[str, str]]:
        """(up, down): the update is their sum of products, where it is that simple."""
        return ()

    # --- output slices

    @property
    def row_step(self) -> int:
        """A slice begins and ends at a multiple of it."""
        return 1

    @property
    def row_dim(self) -> int:
        """The dimension of `row_tensors` in which the rows lie."""
        return 0

    def whole(self, rows: OutputSlice | None) -> LayerWeight:
        """A slice's change as one of the full height, nothing outside its rows: what every loader reads."""
        if rows is None:
            return self
        height = (self.base or rows[1:])[0]
        step = self.row_step
        tensors = dict(self.tensors)
        for name in self.row_tensors:
            if name in tensors:
                widths = [0, 0] * (tensors[name].ndim - 1 - self.row_dim)
                tensors[name] = pad(tensors[name], [*widths, rows[0] // step, (height - rows[1]) // step])
        if BIAS in tensors:
            tensors[BIAS] = pad(self.tensors[BIAS], [rows[0], height - rows[1]])
        return dataclasses.replace(self, tensors=tensors)

    def sliced(self, rows: OutputSlice, slices: Sequence[OutputSlice] = (), path: str = "layer") -> LayerWeight:
        """The inverse of `whole`: the part in `rows`. SliderError when the change reaches outside all of the layer's `slices`."""
        advice = 'choose whole layers, by the preset "all" or patterns of your own'
        message = f'"{path}": a GLoRA changes all rows of its layer, and the chosen layers leave some alone: {advice}.'
        need(bool(self.row_tensors), message, "lora.slice")
        height = self.shape()[0]
        step = self.row_step
        inside = torch.zeros(height // step, dtype=torch.bool)
        for start, stop in (rows, *slices):
            need(stop <= height, f'"{path}" has {height} rows, and a slice ends at {stop}.', "lora.slice")
            message = f'"{path}": the LoKr moves blocks of {step} rows, which do not end at {start} and {stop}: {advice}.'
            need(start % step == 0 and stop % step == 0, message, "lora.slice")
            inside[start // step : stop // step] = True
        outside = (~inside).nonzero().flatten()
        tensors = dict(self.tensors)
        for name in tensors.keys() & set(self.row_tensors):
            ends = " and ".join(f"{start} to {stop}" for start, stop in slices or [rows])
            message = f'"{path}": the file changes rows outside {ends}, which the chosen layers leave alone: {advice}.'
            need(not tensors[name].index_select(self.row_dim, outside).any(), message, "lora.slice")
            tensors[name] = tensors[name].narrow(self.row_dim, rows[0] // step, (rows[1] - rows[0]) // step).clone()
        if BIAS in tensors:
            rest = tensors[BIAS].clone()
            for start, stop in (rows, *slices):
                rest[start:stop] = 0
            message = f'"{path}": the file changes the bias of rows that the chosen layers leave alone: {advice}.'
            need(not rest.any(), message, "lora.slice")
            tensors[BIAS] = tensors[BIAS][rows[0] : rows[1]].clone()
        return dataclasses.replace(self, tensors=tensors)

    def swapped(self) -> LayerWeight:
        """The change with its two halves of rows in each other's place: diffusers has scale and shift the other way round."""
        tensors = dict(self.tensors)
        for name in self.halved or self.row_tensors:
            if name in tensors:
                tensors[name] = tensors[name].roll(tensors[name].shape[self.row_dim] // 2, self.row_dim)
        if BIAS in tensors:
            tensors[BIAS] = tensors[BIAS].roll(len(tensors[BIAS]) // 2)
        return dataclasses.replace(self, tensors=tensors)

    # --- trained

    @classmethod
    @abstractmethod
    def fresh(cls, layer: Layer, target: Target, size: Size, spec: AdapterSpec) -> Trainable:
        """A new part for a target of `layer` that changes nothing yet. Draws from torch's global generator."""

    @abstractmethod
    def revived(self, layer: Layer, target: Target) -> Trainable:
        """A trainable part that holds a copy of this change."""
