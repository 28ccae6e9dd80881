"""The zoo: every diffusion architecture of ComfyUI, at full size without weights, and tiny with random ones.

A `Full` is one class of comfy.supported_models with the configuration of its released checkpoint, built on the `meta` device
by ComfyUI itself. A `Tiny` is the same class a ten-thousandth of its size, built in memory, with what a graph would give it.
Entries live in the files beside this one, by kind. Nothing here imports slider_core: tests bring the pack's.
"""

from __future__ import annotations

import functools
import inspect
import math
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch


@dataclass(frozen=True)
class Full:
    """`name` is a class in comfy.supported_models; `family` its row in layers/architectures_*.py; `targets` how many
    layers that row names; `forbidden` layers that are in the model and must never be chosen."""

    name: str
    family: str
    targets: int
    config: Mapping[str, Any]
    forbidden: tuple[str, ...]
    variant: str = ""
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # some fused targets and the rows that may move
    detected: str = ""  # the class ComfyUI's detection finds in these shapes, where it is not `name`; "-" where it needs metadata
    state: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # tensors that get_model wants to see

    @property
    def title(self) -> str:
        return f"{self.name} {self.variant}".strip()


@dataclass(frozen=True)
class Tiny:
    """`latent` is the shape of one sample in latent space (C, H, W) or (C, T, H, W); `text` the shape of the prompt's
    encoding (tokens, width); `cond` further entries of a ComfyUI conditioning: a shape to fill with noise, or a value."""

    name: str
    family: str
    config: Mapping[str, Any]
    latent: tuple[int, ...]
    text: tuple[int, ...]
    cond: Mapping[str, Any] = field(default_factory=dict)
    batched: bool = True  # False: samples of one batch are mixed somewhere, so strengths must run one by one
    video: bool = False  # True: the sampler's batch is the frames of one video
    wide: bool = True  # False: the class cannot compute in float64 throughout
    kinked: bool = False  # True: a router or the like makes the loss jump, so finite differences are coarse
    once: int = 0  # blocks that checkpointing has to leave alone: they keep values between runs
    idle: int = 0  # blocks that checkpointing finds but that are not called: parts for other inputs, or called by another name
    variant: str = ""
    state: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    # classes with sizes that no configuration reaches, and the numbers to put for those that their constructors are given
    shrunk: Mapping[str, Mapping[int, int]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} {self.variant}".strip()


def model_config(name: str, config: Mapping[str, Any]) -> Any:
    """ComfyUI's description of a model, its class chosen by name."""
    import comfy.supported_models

    description = getattr(comfy.supported_models, name)(dict(config))
    # some classes write their full sizes over what they are given
    description.unet_config.update({k: v for k, v in config.items() if k in description.unet_config})
    return description


def build_full(entry: Full) -> Any:
    """ComfyUI's BaseModel on the meta device: every layer with its shape, no memory."""
    description = model_config(entry.name, entry.config)
    description.set_inference_dtype(torch.float16, None)
    state = {key: torch.zeros(shape) for key, shape in entry.state.items()}
    item = torch.Tensor.item
    torch.Tensor.item = lambda tensor: 1 if tensor.is_meta else item(tensor)  # ACE-Step asks one number of its codebook
    try:
        return description.get_model(state, prefix="", device=torch.device("meta"))
    finally:
        torch.Tensor.item = item


def _fill(module: torch.nn.Module, generator: torch.Generator) -> None:
    """Random weights of a size at which signals neither vanish nor explode; scales (1-D weights) near one."""
    for name, tensor in module.state_dict().items():  # what a checkpoint would fill
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
        fan_in = max(1, math.prod(tensor.shape[1:]))
        scale = name.endswith(("weight", "scale", "gamma")) and tensor.ndim == 1
        with torch.no_grad():
            value = 1 + 0.1 * noise if scale else noise * (0.1 if tensor.ndim == 1 else 1 / math.sqrt(fan_in))
            tensor.copy_(value.abs() if "inv_freq" in name else value)


def _resized(init: Callable[..., None], sizes: Mapping[int, int]) -> Callable[..., None]:
    """That constructor, with other numbers for some of its arguments, given or left to their defaults."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def resized(*args: Any, **kwargs: Any) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if type(value) is int:
                bound.arguments[name] = sizes.get(value, value)
        init(*bound.args, **bound.kwargs)

    return resized


@contextmanager
def _shrinking(classes: Mapping[str, Mapping[int, int]]) -> Iterator[None]:
    """Sizes written into the source of ComfyUI are others for what is built meanwhile."""
    with ExitStack() as stack:
        for path, sizes in classes.items():
            cls = pkgutil.resolve_name(path)
            stack.enter_context(patch.object(cls, "__init__", _resized(cls.__init__, sizes)))
        yield


def build_tiny(entry: Tiny, dtype: torch.dtype = torch.float32) -> Any:
    """A ModelPatcher on the CPU with seeded random weights, made under inference mode as ComfyUI's loaders do."""
    import comfy.model_patcher

    with torch.inference_mode():
        description = model_config(entry.name, entry.config)
        description.set_inference_dtype(dtype, None)
        generator = torch.Generator().manual_seed(0)
        state = {key: torch.randn(shape, generator=generator) for key, shape in entry.state.items()}
        with _shrinking(entry.shrunk):
            model = description.get_model(state, prefix="", device=torch.device("cpu"))
        if dtype is torch.float64:
            model.diffusion_model.to(dtype)  # some layers insist on float32
        _fill(model.diffusion_model, generator)
        model.latent_format.latent_channels = entry.latent[0]  # of the tiny model, not of the released one
        device = torch.device("cpu")
        return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=device)


def conditioning(entry: Tiny, seed: int, tokens: int | None = None) -> list[list[Any]]:
    """ComfyUI's CONDITIONING for one prompt, from noise of that seed."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(1, *shape, generator=generator)

    text = noise(tokens or entry.text[0], *entry.text[1:])
    extra = {key: noise(*value) if isinstance(value, tuple) else value for key, value in entry.cond.items()}
    return [[text, extra]]
