"""The proof of a file whose slider lies in a ControlNet: ComfyUI's patches of it, layer by layer, are the slider's changes."""

from __future__ import annotations

from pathlib import Path

import comfy.lora
import comfy.utils
import torch

from ..lora.combine import by_layer
from ..lora.slider_file import Slider
from .merged_slider import control_patches
from .proof import layer_deviation


def proven_in_control(path: Path, slider: Slider, eps: float) -> str:
    """Compare a file, as ComfyUI's patcher understands it, with the slider. A summary; SliderError when they differ. `eps`: the
    rounding of the file's number format. Changes that depend on the weights under them (DoRA, GLoRA) are left out."""
    layers = {}
    for name, weight in by_layer(slider.weights).items():
        if not weight.needs_base:
            layers[name] = weight
    patches = control_patches(layers, comfy.utils.load_torch_file(str(path), safe_load=True))
    worst = 0.0
    for name, weight in layers.items():
        expected = -weight.delta()
        change = patches.get(f"{name}.weight")
        if change is not None:
            change = comfy.lora.calculate_weight([(-1.0, change, 1.0, None, None)], torch.zeros_like(expected), name)
        worst = max(worst, layer_deviation(f'layer "{name}"', change, expected, eps))
    return f"Read back as ComfyUI's patches it is the same: {len(layers)} layers, apart by {worst:.1e} of their change at most."
