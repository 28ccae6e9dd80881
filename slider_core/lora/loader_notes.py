"""What ComfyUI's loaders cannot do with a file."""

from __future__ import annotations

from ..config.lora import FileFormat
from ..layers.layer import Aliases
from .algorithm import Kind
from .combine import by_layer
from .file_format import Weights


def loader_notes(weights: Weights, form: FileFormat, aliases: Aliases | None = None) -> list[str]:
    """A sentence for each. `aliases`: other programs' names of the model's layers."""
    if form in (FileFormat.LYCORIS, FileFormat.PEFT):
        return [f"This file is for {form.value}: Load LoRA leaves out what it cannot read. Save as native for ComfyUI."]
    layers = by_layer(weights)
    kinds = {weight.kind for weight in layers.values()}
    faults = []
    if Kind.DORA in kinds:
        faults.append("leaves a DoRA's scale out")
    if Kind.GLORA in kinds:
        faults.append("cannot run a GLoRA")
    fused = {target.path for target in (aliases or {}).values() if target.rows}
    if form is FileFormat.DIFFUSERS and fused & layers.keys():
        faults.append("skips slices of fused layers")
    if any(weight.tensors["lokr_w2"].ndim in (3, 5) for weight in layers.values() if "lokr_w2" in weight.tensors):
        faults.append("cannot run a LoKr on 1-D and 3-D convolutions")
    return [f"ComfyUI's bypass loader {fault}: use Load LoRA." for fault in faults]
