"""What the programs that a file is for, and ComfyUI's loaders, cannot do with it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..config.lora import FileFormat
from ..layers.layer import Aliases
from .algorithm import Kind, LayerWeight
from .algorithms.dora import SCALE
from .combine import by_layer
from .file_format import Weights

# what sd-scripts has no place for in a UNet: it looks for layers inside transformers and residual blocks
OUTSIDE = re.compile(r"(time_embed|label_emb|out|input_blocks\.0)\.")
UNET = re.compile(r"(input_blocks|middle_block|output_blocks)\.")


def loader_notes(weights: Weights, form: FileFormat, aliases: Aliases | None = None) -> list[str]:
    """A sentence for each. `aliases`: other programs' names of the model's layers."""
    layers = by_layer(weights)
    dora = any(weight.is_dora for weight in layers.values())
    if form in (FileFormat.LYCORIS, FileFormat.PEFT):
        notes = [f"This file is for {form.value}: Load LoRA leaves out what it cannot read. Save as native for ComfyUI."]
        if dora:
            rule = "scales a DoRA anew at each strength: right at +1 alone, wrong at -1 by more than its effect"
            notes.append(f"{form.value} {rule}. Save as native for both signs.")
        return notes
    notes = _bypass_notes(layers, form, dora, aliases)
    if form is FileFormat.KOHYA:
        outside = [path for path in layers if OUTSIDE.match(path)]
        if outside and any(UNET.match(path) for path in layers):
            notes.append(f"sd-scripts leaves out {len(outside)} of {len(layers)} layers: it has no place for {outside[0]}.")
        if dora:
            notes.append("sd-scripts leaves the scale of a DoRA out: it is no slider there.")
    return notes


def _bypass_notes(layers: Mapping[str, LayerWeight], form: FileFormat, dora: bool, aliases: Aliases | None) -> list[str]:
    """What ComfyUI's bypass loader gets wrong, where its Load LoRA is right."""
    faults = []
    if dora or any(SCALE in weight.tensors for weight in layers.values()):
        faults.append("leaves a DoRA's scale out")
    if any(weight.kind is Kind.GLORA for weight in layers.values()):
        faults.append("cannot run a GLoRA")
    fused = {target.path for target in (aliases or {}).values() if target.rows}
    if form is FileFormat.DIFFUSERS and fused & layers.keys():
        faults.append("skips slices of fused layers")
    if any(weight.tensors["lokr_w2"].ndim in (3, 5) for weight in layers.values() if "lokr_w2" in weight.tensors):
        faults.append("cannot run a LoKr on 1-D and 3-D convolutions")
    return [f"ComfyUI's bypass loader {fault}: use Load LoRA." for fault in faults]
