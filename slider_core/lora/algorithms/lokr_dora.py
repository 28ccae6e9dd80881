"""DoRA on the update of a LoHa or a LoKr, as LyCORIS trains it with dora_wd: read, merged and written, not trained."""

from __future__ import annotations

from typing import ClassVar

from ...config.checks import SliderError
from ...config.lora import Algorithm
from ...layers.layer import Target
from ..algorithm import Layer, Trainable
from .dora import SCALE, ScaledRows
from .loha import LohaWeight
from .lokr import LokrWeight


class DoraLohaWeight(ScaledRows, LohaWeight):
    algorithms: ClassVar[tuple[Algorithm, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = (*LohaWeight.optional, SCALE)

    def revived(self, layer: Layer, target: Target) -> Trainable:  # noqa: ARG002
        raise _merged_only(self.kind.value, target)


class DoraLokrWeight(ScaledRows, LokrWeight):
    algorithms: ClassVar[tuple[Algorithm, ...]] = ()
    optional: ClassVar[tuple[str, ...]] = (*LokrWeight.optional, SCALE)

    def revived(self, layer: Layer, target: Target) -> Trainable:  # noqa: ARG002
        raise _merged_only(self.kind.value, target)


def _merged_only(kind: str, target: Target) -> SliderError:
    message = f'"{target}": a DoRA on a {kind} cannot be trained or run live: set mode to merge.'
    return SliderError(message, "dora.merge_only")
