"""LyCORIS' own keys, as its wrapper writes them and `create_lycoris_from_weights` reads them: lycoris_<path_with_underscores>.

A LoKr that LyCORIS could not size by itself is a plain difference. What is called dora_scale there is a DoRA's magnitude.
"""

from __future__ import annotations

from ...config.lora import FileFormat
from ..algorithm import Kind, LayerWeight
from ..algorithms.dora import ScaledRows
from ..algorithms.lora import DOWN, UP
from ..catalog import tensor_names
from ..file_format import Format, need_weights_alone


class Lycoris(Format):
    name = FileFormat.LYCORIS
    underscored = ("lycoris_",)
    lora = (".lora_down.weight", ".lora_up.weight")
    endings = {".alpha": "alpha"} | {f".{name}": name for name in tensor_names() if name not in (DOWN, UP)}

    def stem(self, path: str) -> str:
        return f"lycoris_{path.replace('.', '_')}"

    def converted(self, weight: LayerWeight, path: str) -> LayerWeight:
        if weight.kind is not Kind.FULL:
            need_weights_alone(weight, path, "LyCORIS")
        return weight.for_lycoris(path)

    def understood(self, weight: LayerWeight) -> LayerWeight:
        return weight.from_lycoris() if isinstance(weight, ScaledRows) else weight
