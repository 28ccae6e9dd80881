"""Short hashes of what a MODEL or CLIP of ComfyUI is: its own weights, and the LoRAs that it carries."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import torch

from ..backend import few_numbers
from ..lora.formats.native import PREFIX
from .autograd_through import bypass_loras

# What files of text encoders may lack, and ComfyUI then leaves as the memory was (its own loader lists the first two as no
# fault): other numbers after every start. No training reads them: text alone is encoded, without the projection.
_MAY_BE_UNSET = re.compile(r"\.(?:logit_scale$|text_projection\.|visual\.|vision_|multi_modal_projector\.|lm_head\.)")


def base_fingerprint(patcher: Any) -> str:
    """A hash of a loaded MODEL's own weights, without the LoRAs that may be merged into them."""
    digest = hashlib.sha256()
    for name, parameter in patcher.model.diffusion_model.named_parameters():
        digest.update(few_numbers(_unpatched(patcher, PREFIX + name, parameter)))
    return digest.hexdigest()[:8]


def carried_fingerprint(patcher: Any) -> str:
    """How many layers the LoRAs of a loaded MODEL change, merged or bypassed, and a hash of them; empty without any."""
    digest = hashlib.sha256()
    count = _hash_patches(digest, patcher)
    for hook in bypass_loras(patcher.model.diffusion_model):
        _hash_change(digest, f"bypass {hook.multiplier}", hook.adapter)
        count += 1
    return f"LoRA on {count} layers {digest.hexdigest()[:8]}" if count else ""


def patched_fingerprint(patcher: Any) -> str:
    """A hash of a text encoder and of the LoRAs on it, whether they are merged into its weights at the moment or not."""
    digest = hashlib.sha256()
    for name, parameter in patcher.model.named_parameters():
        if _MAY_BE_UNSET.search(name):
            continue
        digest.update(few_numbers(_unpatched(patcher, name, parameter)))
    _hash_patches(digest, patcher)
    return digest.hexdigest()[:16]


def _unpatched(patcher: Any, name: str, parameter: torch.Tensor) -> torch.Tensor:
    """The weight as it was before ComfyUI merged a LoRA into it."""
    return patcher.backup[name].weight if name in patcher.backup else parameter


def _hash_patches(digest: Any, patcher: Any) -> int:
    """Feed a model's patches into a hash, by the names of the weights; how many weights have any."""
    patches = {str(name): changes for name, changes in patcher.patches.items() if changes}
    for name in sorted(patches):
        for strength, change, *_ in patches[name]:
            _hash_change(digest, f"{name} {strength}", change)
    return len(patches)


def _hash_change(digest: Any, name: str, change: Any) -> None:
    """Feed one layer's patch into a hash: an adapter of ComfyUI with its weights, or tensors in a tuple."""
    digest.update(name.encode())
    weights = getattr(change, "weights", change if isinstance(change, (tuple, list)) else ())
    for part in weights:
        tensors = part if isinstance(part, (tuple, list)) else [part]
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor):
                digest.update(few_numbers(tensor))
