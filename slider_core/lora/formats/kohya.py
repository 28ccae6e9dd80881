"""kohya's keys, which ai-toolkit and Concept Sliders write too: lora_unet_<path_with_underscores>.lora_down.weight."""

from __future__ import annotations

from ...config.lora import FileFormat
from ..file_format import Format


class Kohya(Format):
    name = FileFormat.KOHYA
    underscored = ("lora_unet_", "lora_transformer_", "lora_prior_unet_")
    lora = (".lora_down.weight", ".lora_up.weight")

    def stem(self, path: str) -> str:
        return f"lora_unet_{path.replace('.', '_')}"
