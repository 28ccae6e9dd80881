"""kohya's keys, which ai-toolkit and Concept Sliders write too: lora_unet_<path_with_underscores>.lora_down.weight.

sd-scripts trains SD 1.x and 2.x on diffusers' UNet and names their layers by its paths; those of every other model by the paths
of the released checkpoint, which are ComfyUI's.
"""

from __future__ import annotations

import re

from ...config.checks import SliderError
from ...config.lora import FileFormat
from ...layers.layer import Aliases
from ..combine import by_layer
from ..diffusers_layers import UNETS_1, unet_names
from ..file_format import Format, State, Weights

LDM = re.compile(r"(input_blocks|middle_block|output_blocks)\.")


class Kohya(Format):
    name = FileFormat.KOHYA
    underscored = ("lora_unet_", "lora_transformer_", "lora_prior_unet_")
    lora = (".lora_down.weight", ".lora_up.weight")

    def stem(self, path: str) -> str:
        return f"lora_unet_{path.replace('.', '_')}"

    def write(self, weights: Weights, aliases: Aliases | None = None, architecture: str = "") -> State:
        layers = by_layer(weights)
        unet = any(LDM.match(path) for path in layers)
        if not unet or (architecture and architecture not in UNETS_1):
            return self.named(layers, {})
        if aliases is None or not architecture:
            message = "The layers of an SD 1.x or 2.x UNet are named by ComfyUI's table: connect the model, or choose native."
            raise SliderError(message, "format.no_aliases")
        return self.named(layers, unet_names(aliases))
