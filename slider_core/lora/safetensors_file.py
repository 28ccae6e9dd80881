"""safetensors files as bytes: reading one, the hash of its tensors, another header before the same tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..config.checks import SliderError


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """(tensors, header) of a safetensors file. SliderError when it is damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is no dict)
            return state, dict(file.metadata() or {})
    except (SafetensorError, OSError) as fault:
        message = f"Slider file cannot be read: {path} ({fault}). It is damaged or no safetensors file."
        raise SliderError(message, "file.not_safetensors") from None


def _header_end(content: bytes) -> int:
    return 8 + int.from_bytes(content[:8], "little")


def data_hash(content: bytes) -> str:
    """SHA-256 of a safetensors file without its header, as kohya's sshs_model_hash: the same slider, the same hash."""
    return hashlib.sha256(memoryview(content)[_header_end(content) :]).hexdigest()


def tensor_hash(state: Mapping[str, torch.Tensor]) -> str:
    """The hash that a file of these tensors has."""
    return data_hash(save({key: value.contiguous() for key, value in state.items()}))


def with_header(content: bytes, header: Mapping[str, str]) -> bytes:
    """A safetensors file with this header, its tensors as they are."""
    end = _header_end(content)
    fields = json.loads(content[8:end]) | {"__metadata__": dict(header)}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    return b"".join((len(text).to_bytes(8, "little"), text, memoryview(content)[end:]))
