"""What the pack takes from inside of ComfyUI: each piece with the shape that it must have, and the feature that needs it.

Looked at once, when ComfyUI starts, in milliseconds. A ComfyUI that lacks a piece, or has another one in its place, loses the
feature and says so in a sentence; the rest of the pack works. Names that a module needs already when it is imported come
through `piece`, which gives a class without instances in the place of a missing one.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import logging
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..config.checks import SliderError

KNOWN_TO_WORK = "0.33"


class Feature(str, Enum):
    TRAINING = "training"
    LIVE = "sliders beside the weights (mode live)"
    SWEEP = "sweeps and previews"
    MERGING = "merging a slider into the weights"
    CONTROLNET = "ControlNets in training"
    FILES = "models from files on the command line"


@dataclass(frozen=True)
class Piece:
    """`where`: module:attribute. `takes`: arguments that it must accept; `has`: attributes that it must have."""

    where: str
    features: tuple[Feature, ...]
    takes: tuple[str, ...] = ()
    has: tuple[str, ...] = ()


TRAIN = (Feature.TRAINING,)
MODEL = (Feature.TRAINING, Feature.SWEEP)
PIECES = (
    Piece("comfy.ops:CastBiasWeightContext", TRAIN),
    Piece("comfy.ops:CastWeightBiasOp", TRAIN, has=("comfy_cast_weights", "weight_function", "bias_function")),
    Piece("comfy.ops:cast_bias_weight", TRAIN, takes=("s", "input", "offloadable")),
    Piece("comfy.quant_ops:QuantizedTensor", TRAIN),
    Piece("comfy.weight_adapter.bypass:BypassForwardHook", TRAIN),
    Piece("comfy.ldm.modules.attention:attention_pytorch", TRAIN, takes=("q", "k", "v", "heads", "mask", "skip_reshape")),
    Piece("comfy.ldm.modules.attention:optimized_attention", TRAIN),
    Piece("comfy.model_management:in_training", TRAIN),
    Piece("comfy.model_management:throw_exception_if_processing_interrupted", TRAIN),
    Piece("comfy.model_management:load_models_gpu", tuple(Feature), takes=("models", "memory_required")),
    Piece("comfy.model_management:is_oom", TRAIN),
    Piece("comfy.model_base:BaseModel.apply_model", tuple(Feature), takes=("x", "t", "transformer_options")),
    Piece(
        "comfy.model_patcher:ModelPatcher",
        tuple(Feature),
        has=("clone", "add_patches", "get_model_object", "pre_run", "cleanup", "add_callback", "is_dynamic", "loaded_size"),
    ),
    Piece("comfy.model_patcher:ModelPatcher.get_free_memory", TRAIN, takes=("device",)),
    Piece("comfy.model_patcher:ModelPatcher.model_size", TRAIN),
    Piece("comfy.model_management:get_total_memory", TRAIN),
    Piece("comfy.model_management:soft_empty_cache", TRAIN),
    Piece("comfy.model_management:OOM_EXCEPTION", TRAIN),
    Piece("comfy.model_sampling:CONST", MODEL),
    Piece("comfy.conds:CONDConstant", (Feature.SWEEP,)),
    Piece("comfy.ops:fp8_ops.Linear", TRAIN),
    Piece("comfy.utils:load_torch_file", tuple(Feature), takes=("ckpt", "safe_load")),
    Piece("comfy_extras.nodes_model_advanced:ModelSamplingSD3", MODEL, has=("patch",)),
    Piece("comfy.model_patcher:create_model_options_clone", MODEL),
    Piece("comfy.samplers:process_conds", MODEL, takes=("model", "noise", "conds", "device", "latent_image", "seed")),
    Piece("comfy.samplers:cond_cat", MODEL),
    Piece("comfy.sampler_helpers:convert_cond", MODEL),
    Piece("comfy.sampler_helpers:estimate_memory", (Feature.SWEEP,), takes=("model", "noise_shape", "conds")),
    Piece("comfy.sample:sample", (Feature.SWEEP,), takes=("model", "noise", "steps", "cfg", "sampler_name", "scheduler", "seed")),
    Piece("comfy.sample:prepare_noise", (Feature.SWEEP,), takes=("latent_image", "seed")),
    Piece("comfy.sample:fix_empty_latent_channels", (Feature.SWEEP,)),
    Piece("comfy.patcher_extension:WrappersMP", (Feature.LIVE, *MODEL), has=("APPLY_MODEL", "DIFFUSION_MODEL", "OUTER_SAMPLE")),
    Piece("comfy.patcher_extension:CallbacksMP", (Feature.LIVE, *MODEL), has=("ON_PRE_RUN", "ON_CLEANUP")),
    Piece(
        "comfy.sd:load_lora_for_models", (Feature.MERGING,), takes=("model", "clip", "lora", "strength_model", "strength_clip")
    ),
    Piece("comfy.lora:load_lora", (Feature.MERGING,), takes=("lora", "to_load")),
    Piece("comfy.lora:calculate_weight", (Feature.MERGING,), takes=("patches", "weight", "key")),
    Piece("comfy.lora:model_lora_keys_unet", tuple(Feature), takes=("model", "key_map")),
    Piece("comfy.sd:CLIPType", (Feature.FILES,)),
    Piece("comfy.sd:VAE", (Feature.FILES,)),
    Piece("comfy.sd:load_checkpoint_guess_config", (Feature.FILES,)),
    Piece("comfy.sd:load_clip", (Feature.FILES,)),
    Piece("comfy.sd:load_diffusion_model", (Feature.FILES,)),
    Piece("comfy.controlnet:ControlNet", (Feature.CONTROLNET,), has=("get_control", "copy")),
)


class Missing:
    """In the place of a class that this ComfyUI lacks: nothing is one."""


def piece(where: str) -> Any:
    """What lies at module:attribute, or `Missing`."""
    found = _look(where)
    return Missing if found is None else found


def _look(where: str) -> Any:
    module, _, path = where.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return None
    for name in path.split("."):
        if not hasattr(found, name):
            return None
        found = getattr(found, name)
    return found


def fault_of(expected: Piece) -> str:
    """What is wrong with a piece; empty when it is as expected."""
    found = _look(expected.where)
    if found is None:
        return f"has no {expected.where.replace(':', '.')}"
    lacking = [name for name in expected.has if not hasattr(found, name)]
    if expected.takes:
        parameters = inspect.signature(found).parameters
        kinds = {parameter.kind for parameter in parameters.values()}
        named = expected.takes
        if inspect.Parameter.VAR_KEYWORD in kinds:  # any name; the first argument is given by its place
            named = () if inspect.Parameter.VAR_POSITIONAL in kinds else expected.takes[:1]
        lacking += [name for name in named if name not in parameters]
    return f"has another {expected.where.replace(':', '.')} (without {', '.join(lacking)})" if lacking else ""


@functools.cache
def faults() -> dict[Feature, str]:
    """The features that this ComfyUI cannot have, each with the reason."""
    found: dict[Feature, str] = {}
    for expected in PIECES:
        fault = fault_of(expected)
        for feature in expected.features if fault else ():
            found.setdefault(feature, fault)
    for feature, fault in found.items():
        logging.getLogger(__name__).warning("Slider LoRA: %s", _sentence(feature, fault))
    return found


def _sentence(feature: Feature, fault: str) -> str:
    return f"this ComfyUI {fault}, so {feature.value} is off: update Slider LoRA; ComfyUI {KNOWN_TO_WORK} is known to work."


def need_feature(feature: Feature) -> None:
    """SliderError where this ComfyUI lacks something that the feature needs."""
    if feature in faults():
        raise SliderError(_sentence(feature, faults()[feature]), "host.changed")
