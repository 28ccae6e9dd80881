"""The embedded model as genuine ComfyUI objects: a MODEL, a CLIP and a VAE that every stock node accepts.

In: the tensors of tiny.safetensors. Out: the three objects, built the way ComfyUI's own loaders build theirs (a
`supported_models_base.BASE` config, a `BaseModel` around the network, the core's patcher class), so LoRA loaders, hooks,
offloading and TrainLoraNode treat the demo as they treat any model. Everything is float32 (4 MB), also on a GPU: rounding would
cost more than so small a model saves. What is loaded in `torch.inference_mode()` (a graph run) has inference tensors for weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import torch
from torch import nn

from ..config.checks import need
from .model import TEXT_LENGTH, VOCABULARY, TinyText, TinyTransformer, tokenize

TEXT = "text."
IMAGE = "diffusion_model."
TOKENS = "tiny"  # the name of our one token list in what CLIP.tokenize returns


class PixelSpace(comfy.latent_formats.LatentFormat):
    """The latent is the image: RGB in [-1, 1] at full size, so the live preview is exact."""

    latent_channels = 3
    spacial_downscale_ratio = 1
    latent_rgb_factors = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


class TinyConfig(comfy.supported_models_base.BASE):
    """What the host must know of the model. FLOW: x_sigma = (1 - sigma) x0 + sigma noise, velocity, timestep 1000 sigma."""

    unet_config: ClassVar = {"in_channels": 3}
    unet_extra_config: ClassVar[dict[str, Any]] = {}
    sampling_settings: ClassVar = {"shift": 1.0, "multiplier": 1000}
    latent_format = PixelSpace
    memory_usage_factor = 0.02
    supported_inference_dtypes: ClassVar = [torch.float32]

    def model_type(self, _state_dict: Any, _prefix: str = "") -> comfy.model_base.ModelType:
        return comfy.model_base.ModelType.FLOW

    def get_model(self, state_dict: Any, prefix: str = "", device: Any = None) -> comfy.model_base.BaseModel:
        kind = self.model_type(state_dict, prefix)
        return comfy.model_base.BaseModel(self, model_type=kind, device=device, unet_model=TinyTransformer)


class TinyTokenizer:
    """`tiny.tokenize` with the host's "(word:1.3)" weights. Text past TEXT_LENGTH words is cut off, as in training."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        """Takes what comfy.sd.CLIP passes; textual inversions have no place in a fixed vocabulary."""

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_options: Any) -> dict[str, list[list[tuple]]]:
        """{"tiny": [TEXT_LENGTH tuples (id, weight)]}, with the word's number (0 for padding) as third entry if asked for."""
        entries: list[tuple] = []
        for part, weight in comfy.sd1_clip.token_weights(comfy.sd1_clip.escape_important(text), 1.0):
            for token in filter(None, tokenize(comfy.sd1_clip.unescape_important(part))):
                entries.append((token, weight, len(entries) + 1))
        entries = [*entries, *[(0, 1.0, 0)] * TEXT_LENGTH][:TEXT_LENGTH]
        if not return_word_ids:
            entries = [entry[:2] for entry in entries]
        return {TOKENS: [entries]}

    def untokenize(self, pairs: list[tuple]) -> list[tuple[tuple, str]]:
        return [(pair, VOCABULARY[pair[0]]) for pair in pairs]

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {}


class TinyTextModel(nn.Module, comfy.sd1_clip.ClipTokenWeightEncoder):
    """TinyText behind the interface that comfy.sd.CLIP drives. No pooled output: the image model takes none."""

    special_tokens: ClassVar = {"pad": 0}  # weights are measured against the empty text, as in every encoder of the host

    def __init__(self, device: Any = "cpu", dtype: torch.dtype | None = None, model_options: Any = None) -> None:
        super().__init__()
        operations = (model_options or {}).get("custom_operations", comfy.ops.manual_cast)
        self.text = TinyText(dtype, device, operations).requires_grad_(False).eval()
        self.dtypes = {dtype}
        self.execution_device = None

    def set_clip_options(self, options: Mapping[str, Any]) -> None:
        self.execution_device = options.get("execution_device", self.execution_device)

    def reset_clip_options(self) -> None:
        self.execution_device = None

    def encode_token_weights(self, tokens: Mapping[str, list]) -> tuple[torch.Tensor, None]:
        """The host's tokens -> ((1, TEXT_LENGTH, TEXT_WIDTH) float32, None)."""
        return super().encode_token_weights(tokens[TOKENS])

    def encode(self, ids: list[list[int]]) -> tuple[torch.Tensor, None]:
        device = self.execution_device or self.text.word.weight.device
        return self.text(torch.tensor(ids, dtype=torch.long, device=device)).float(), None

    def load_sd(self, state_dict: Mapping[str, torch.Tensor]) -> Any:
        return self.load_state_dict(state_dict, strict=False, assign=getattr(self, "can_assign_sd", False))


def _shapes() -> dict[str, torch.Size]:
    """The shape of every tensor, by its name in the file."""
    with torch.device("meta"):
        parts = {TEXT: TinyText(), IMAGE: TinyTransformer()}
    return {prefix + name: value.shape for prefix, part in parts.items() for name, value in part.state_dict().items()}


def _check(weights: Mapping[str, torch.Tensor]) -> None:
    """Raise SliderError unless `weights` is complete and every tensor has the shape this version of the model needs."""
    for name, shape in _shapes().items():
        value = weights.get(name)
        need(
            torch.is_tensor(value) and value.is_floating_point() and value.shape == shape,
            f"The demo model's weights do not fit: {name} should be a float tensor of shape {tuple(shape)}, not "
            f"{getattr(value, 'dtype', '')} {tuple(getattr(value, 'shape', ())) or type(value).__name__}. Restore "
            "slider_core/with_tiny/tiny.safetensors from the repository, or make it again with tools/make_tiny.py.",
            "demo.weights",
        )


def _part(weights: Mapping[str, torch.Tensor], prefix: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """A copy of one part in `dtype`: ComfyUI may adopt the tensors it is given, and the caller's must stay as they are."""
    return {name: weights[name].to(dtype, copy=True) for name in _shapes() if name.startswith(prefix)}


def load_model(weights: Mapping[str, torch.Tensor], disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    """The image model. Same steps as comfy.sd.load_diffusion_model_state_dict; also the factory for its clones."""
    management = comfy.model_management
    config = TinyConfig(TinyConfig.unet_config)
    device = management.get_torch_device()
    offload = management.unet_offload_device()
    dtype = management.unet_dtype(supported_dtypes=config.supported_inference_dtypes)
    manual_cast = management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    config.set_inference_dtype(dtype, manual_cast, device=device)
    state = {name.removeprefix(IMAGE): value for name, value in _part(weights, IMAGE, dtype).items()}
    model = config.get_model(state)
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    patcher = kind(model, load_device=device, offload_device=offload)
    model.to(offload)
    model.load_model_weights(state, assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (load_model, (weights,))
    return patcher


def load_clip(weights: Mapping[str, torch.Tensor], disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """The text model; `clip.cond_stage_model.text` is the TinyText."""
    state = _part(weights, TEXT, torch.float32)
    clip = comfy.sd.CLIP(
        comfy.supported_models_base.ClipTarget(TinyTokenizer, TinyTextModel),
        parameters=sum(value.numel() for value in state.values()),
        state_dict=state,
        model_options={"dtype": torch.float32},
        disable_dynamic=disable_dynamic,
    )
    clip.patcher.cached_patcher_init = (_load_clip_patcher, (weights,))
    return clip


def _load_clip_patcher(weights: Mapping[str, torch.Tensor], disable_dynamic: bool = False) -> comfy.model_patcher.ModelPatcher:
    return load_clip(weights, disable_dynamic).patcher


def load_demo(weights: dict[str, torch.Tensor]) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """(MODEL, CLIP, VAE) from the tensors of slider_core/with_tiny/tiny.safetensors, keys `text.*` and `diffusion_model.*`.

    The VAE is ComfyUI's pixel-space one: image in [0, 1] <-> latent in [-1, 1], same size. Raises SliderError when a tensor is
    missing or has the wrong shape.
    """
    _check(weights)
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    return load_model(weights), load_clip(weights), vae
