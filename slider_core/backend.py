"""The border to any diffusion model. The core knows this Protocol and nothing behind it.

Shape letters: B samples of a batch, C H W a latent, S strengths. `sigma_B` is the model's own noise level per sample.
Two backends exist: `tiny.TinyBackend` (embedded) and `comfy_host.ComfyBackend` (the model that ComfyUI has loaded).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .memory import Memory
from .targets import Target


@dataclass(frozen=True)
class Conditioning:
    """An encoded prompt. `value` belongs to the backend that made it."""

    text: str
    value: Any


class Backend(Protocol):
    """What training and sweeping need from a diffusion model."""

    name: str  # names the model in files and resume checks
    module: nn.Module  # the diffusion model: adapters attach to its layers, and its weights are only borrowed
    device: torch.device
    image_step: int  # image width and height must be multiples of this
    resolution: int  # the side the model likes best, pixels
    dtype: torch.dtype  # what the model computes in
    memory: Memory  # of `device`

    def encode_images(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Images in [0, 1], or clips (B, T, 3, H, W) -> latents in the space the model is trained in."""

    def encode_prompt(self, text: str) -> Conditioning: ...

    def prompt_to_device(self, value: Any) -> Any:
        """The `value` of a Conditioning that was kept on disk, as `encode_prompt` would have given it."""

    def encoder_marks(self) -> tuple[str, str]:
        """Short hashes of what encodes images and what encodes prompts: with another encoder, another mark."""

    def drawn_by(self) -> str:
        """A short hash of what draws a picture: the diffusion model and all that it carries."""

    def borrowed(self) -> AbstractContextManager[None]:
        """Inside, autograd can run through `module`; afterwards every weight, flag and hook is as it was."""

    def prepare(self, targets: Sequence[Target], latent_CHW: torch.Tensor, cond: Conditioning) -> None:
        """Before a run, inside `borrowed`: find out whether samples of one batch keep their own strength at `targets`, on a
        latent and a prompt as they will come. Where they do not, `predict` runs them one by one from now on."""

    def sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        """Noise levels for u in (0, 1): 0 the cleanest, 1 pure noise, spaced as the model's own schedule."""

    def even_sigmas(self, u_B: torch.Tensor) -> torch.Tensor:
        """The same without the shift that a flow model has of its own; where it has none, the same as `sigmas`."""

    def add_noise(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        """The model's forward process: the noised latent at sigma."""

    def target(self, latent_BCHW: torch.Tensor, noise_BCHW: torch.Tensor, sigma_B: torch.Tensor) -> torch.Tensor:
        """What `predict` should return for the noised latent, in the model's own prediction space (eps, v or flow)."""

    def predict(self, x_BCHW: torch.Tensor, sigma_B: torch.Tensor, cond: Sequence[Conditioning]) -> torch.Tensor:
        """The model's raw prediction, one conditioning per sample. Differentiable inside `borrowed`."""


def per_sample(value_B: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) -> (B, 1, ..., 1) on the device of `like` and with its number of dimensions."""
    return value_B.to(like.device).reshape(-1, *[1] * (like.ndim - 1))


def few_numbers(tensor: torch.Tensor) -> bytes:
    """Eight numbers of a tensor, spread over it; of a quantised one, eight of each tensor that it is made of."""
    if is_traceable_wrapper_subclass(tensor):
        return b"".join(few_numbers(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    some = tensor.detach().flatten()[:: max(1, tensor.numel() // 8)][:8]
    return some.float().cpu().numpy().tobytes()


def module_mark(module: nn.Module) -> str:
    """A short hash of some numbers of every weight: tells two checkpoints of one architecture apart."""
    return hashlib.sha256(b"".join(few_numbers(p) for p in module.parameters())).hexdigest()[:16]
