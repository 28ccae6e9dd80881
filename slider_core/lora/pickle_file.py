"""Tensors out of a `.pt` file. Nothing in it is run: anything but tensors is refused."""

from __future__ import annotations

from pathlib import Path

import torch

from ..config.checks import SliderError, need

PICKLES = (".pt", ".pth", ".ckpt", ".bin")  # read with weights_only alone


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """Named tensors. SliderError when the file is damaged or holds more."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # a damaged pickle can fail in nearly any way
        reason = str(fault).splitlines()[0][:160] if str(fault) else type(fault).__name__
        message = f"Slider file cannot be read: {path} ({reason}). It is damaged, or holds more than tensors."
        raise SliderError(message, "file.pickle") from None
    named = isinstance(state, dict) and all(isinstance(key, str) for key in state)
    tensors = named and all(isinstance(value, torch.Tensor) for value in state.values())
    need(tensors, f"{path} holds more than named tensors: no LoRA file. Convert it to safetensors.", "file.not_tensors")
    return {key: _plain(tensor, f"{path}: {key}") for key, tensor in state.items()}


def _plain(tensor: torch.Tensor, where: str) -> torch.Tensor:
    plain = not (tensor.is_meta or tensor.is_nested or tensor.is_quantized) and tensor.layout is torch.strided
    need(plain, f"{where} is no plain tensor; convert the file to safetensors.", "file.odd_tensor")
    size = tensor.numel() * tensor.element_size()
    message = f"{where} claims {tuple(tensor.shape)} numbers and holds fewer; the file is damaged."
    need(size <= tensor.untyped_storage().nbytes(), message, "file.odd_tensor")
    return tensor.contiguous()
