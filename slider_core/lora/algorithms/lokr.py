"""LoKr: D = scale * w1 (x) w2, a Kronecker product whose factors are whole or a product a b (Yeh et al. 2023, LyCORIS).

A Tucker core t2 stands between the two parts of the second factor. The rows of D are blocks: row i of w1 gives as many rows as w2
has, so an output slice is rows of w1, where it begins and ends with a block.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import torch
from torch import nn

from ...config.checks import SliderError
from ...config.lora import AdapterSpec, Algorithm
from ..algorithm import Kind, LayerWeight, OutputSlice, Shape
from ..algorithm_layer import shape_only
from ..algorithm_lycoris import LycorisWeight, quiet_lycoris
from .full import as_full

FACTORS = ("lokr_w1", "lokr_w2")


class LokrWeight(LycorisWeight):
    kind = Kind.LOKR
    algorithms: ClassVar[tuple[Algorithm, ...]] = (Algorithm.LOKR,)
    optional: ClassVar[tuple[str, ...]] = (
        "lokr_w1",
        "lokr_w1_a",
        "lokr_w1_b",
        "lokr_w2",
        "lokr_w2_a",
        "lokr_w2_b",
        "lokr_t2",
    )  # in LyCORIS' order
    ranked = ("lokr_w2_b", "lokr_w1_b")
    cores = ("lokr_t2",)
    row_tensors = ("lokr_w1", "lokr_w1_a")
    linear = ("lokr_w2",)
    module_class = "LokrModule"

    @classmethod
    def options(cls, spec: AdapterSpec) -> dict[str, Any]:
        sizes = {"factor": spec.factor, "full_matrix": spec.full_matrix, "decompose_both": spec.decompose_both}
        return super().options(spec) | sizes

    @classmethod
    def recognises(cls, names: set[str]) -> bool:
        return bool(names & {"lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a"})

    @classmethod
    def lacking(cls, names: set[str]) -> list[str]:
        """Each factor is given whole or in both parts."""
        return [factor for factor in FACTORS if factor not in names and not {f"{factor}_a", f"{factor}_b"} <= names]

    def for_comfyui(self) -> LayerWeight:
        """Its loader multiplies the factors as matrices unless they are those of a 2-D convolution."""
        second = self.tensors.get("lokr_w2")
        if second is None or second.ndim in (2, 4):
            return self
        return dataclasses.replace(self, tensors=self.tensors | {"lokr_w2": second.flatten(1)})

    def expected(self, rows: int, inner: int, kernel: Shape) -> dict[str, Shape]:
        """The first factor says how rows and inputs are divided; the second must have the rest."""
        t = self.tensors
        first = self.factor_shape("lokr_w1")
        block = rows // first[0]
        width = inner // first[1]
        if len(first) != 2 or block * first[0] != rows or width * first[1] != inner:
            return {}  # no shape fits
        shapes: dict[str, Shape] = {"lokr_w1": first}
        if "lokr_w1_b" in t:
            rank = t["lokr_w1_b"].shape[0]
            shapes |= {"lokr_w1_a": (first[0], rank), "lokr_w1_b": (rank, first[1])}
        if "lokr_w2" in t:
            return shapes | {"lokr_w2": (block, width, *kernel)}
        rank = t["lokr_w2_b"].shape[0]
        if self.has_core:
            return shapes | {"lokr_w2_a": (rank, block), "lokr_w2_b": (rank, width), "lokr_t2": (rank, rank, *kernel)}
        return shapes | {"lokr_w2_a": (block, rank), "lokr_w2_b": (rank, width * math.prod(kernel))}

    def factor_shape(self, name: str) -> Shape:
        t = self.tensors
        if name in t:
            return tuple(t[name].shape)
        if name == "lokr_w2" and self.has_core:
            return t["lokr_w2_a"].shape[1], t["lokr_w2_b"].shape[1], *t["lokr_t2"].shape[2:]
        return t[f"{name}_a"].shape[0], t[f"{name}_b"].shape[1]

    def layer_shape(self) -> Shape:
        first = self.factor_shape("lokr_w1")
        second = self.factor_shape("lokr_w2")
        return first[0] * second[0], first[1] * second[1], *second[2:]

    def update(self, base: torch.Tensor | None = None) -> torch.Tensor:  # noqa: ARG002
        from lycoris.functional import lokr

        return lokr.kron_weight(*self.factors(LokrWeight.optional)).reshape(self.shape()) * self.scale

    def flat(self) -> LayerWeight:
        tensors = dict(self.tensors)
        core = tensors.pop("lokr_t2")
        if math.prod(core.shape[2:]) > 1:
            return self
        tensors["lokr_w2_a"] = tensors["lokr_w2_a"].T @ core.flatten(1).to(tensors["lokr_w2_a"].dtype)
        return dataclasses.replace(self, tensors=tensors)

    def swapped(self) -> LayerWeight:
        """A LoKr whose blocks do not end in the middle becomes a plain difference."""
        return as_full(self).swapped() if self.factor_shape("lokr_w1")[0] % 2 else super().swapped()

    @property
    def row_step(self) -> int:
        return self.factor_shape("lokr_w2")[0]

    def whole(self, rows: OutputSlice | None) -> LayerWeight:
        """A LoKr whose blocks do not end where the slice does becomes a plain difference."""
        if rows:
            height = (self.base or rows[1:])[0]
            if rows[0] % self.row_step or height % self.row_step:
                return as_full(self).whole(rows)
        return super().whole(rows)

    def fill(self, module: Any, shape: Shape) -> None:
        for name in self.optional:
            module._parameters.pop(name, None)
        module.use_w1 = "lokr_w1" in self.tensors
        module.use_w2 = "lokr_w2" in self.tensors
        module.tucker = self.has_core
        module.lora_dim = self.size.rank
        module.scale = self.scale
        module.alpha = torch.tensor(self.size.alpha)
        tensors = dict(self.tensors)
        second = tensors.get("lokr_w2")
        if second is not None and second.ndim == 2 and len(shape) > 2:  # as ComfyUI wants it in a file
            tensors["lokr_w2"] = second.reshape(second.shape[0], -1, *shape[2:])
        for name, tensor in tensors.items():
            setattr(module, name, nn.Parameter(tensor.clone()))

    def for_lycoris(self, path: str) -> LayerWeight:
        """The same change as LyCORIS reads it, which works a LoKr's sizes out anew: a plain difference if it comes to others."""
        if self.base is None:
            message = f'The LoKr of "{path}" needs its base model to be written for LyCORIS: connect the model.'
            raise SliderError(message, "lora.needs_base")
        return self if self._read_by_lycoris(self.base) else as_full(self)

    def _read_by_lycoris(self, shape: Shape) -> bool:
        """Tried on a layer of that shape without memory."""
        from lycoris.modules.lokr import LokrModule

        tensors = self.tensors | {"alpha": torch.tensor(self.alpha or 1.0)}
        try:
            with torch.no_grad(), quiet_lycoris():
                arguments = [tensors.get(name) for name in LokrModule.weight_list]
                module = LokrModule.make_module_from_state_dict("", shape_only(shape), *arguments)
        except (RuntimeError, AttributeError):
            return False
        state = module.state_dict()
        return all(state[name].shape == tensor.shape for name, tensor in self.tensors.items())
