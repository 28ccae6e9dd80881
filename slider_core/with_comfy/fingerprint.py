"""Short hashes of what a MODEL or CLIP of ComfyUI is: its own weights, and the LoRAs that it carries."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from ..backend import few_numbers
from .autograd_through import bypass_loras

PLACE = "diffusion_model."


def base_fingerprint(patcher: Any) -> str:
    """A mark of a loaded MODEL's own weights, without the LoRAs that may be merged into them."""
    named = patcher.model.diffusion_model.named_parameters()
    own = (patcher.backup[PLACE + name].weight if PLACE + name in patcher.backup else p for name, p in named)
    return hashlib.sha256(b"".join(few_numbers(p) for p in own)).hexdigest()[:8]


def carried_fingerprint(patcher: Any) -> str:
    """How many layers the LoRAs of a loaded MODEL change, merged or bypassed, and a mark of them; empty without any."""
    patches = {str(name): patches for name, patches in patcher.patches.items() if patches}
    bypassed, digest = list(bypass_loras(patcher.model.diffusion_model)), hashlib.sha256()
    for name in sorted(patches):
        for strength, change, *_ in patches[name]:
            _hash_change(digest, f"{name} {strength}", change)
    for hook in bypassed:
        _hash_change(digest, f"bypass {hook.multiplier}", hook.adapter)
    count = len(patches) + len(bypassed)
    return f"LoRA on {count} layers {digest.hexdigest()[:8]}" if count else ""


def patched_fingerprint(patcher: Any) -> str:
    """A mark of a model and of the LoRAs on it, whether they are merged into its weights at the moment or not."""
    digest = hashlib.sha256()
    for name, p in patcher.model.named_parameters():
        own = patcher.backup[name].weight if name in patcher.backup else p
        digest.update(few_numbers(own))
    for name, patches in sorted(patcher.patches.items(), key=lambda item: str(item[0])):
        for strength, change, *_ in patches:
            _hash_change(digest, f"{name} {strength}", change)
    return digest.hexdigest()[:16]


def _hash_change(digest: Any, words: str, change: Any) -> None:
    """Feed one layer's patch into a hash: an adapter of ComfyUI with its weights, or tensors in a tuple."""
    weights = getattr(change, "weights", change if isinstance(change, (tuple, list)) else ())
    tensors = [
        t for part in weights for t in (part if isinstance(part, (tuple, list)) else [part]) if isinstance(t, torch.Tensor)
    ]
    digest.update(words.encode() + b"".join(few_numbers(t) for t in tensors))
