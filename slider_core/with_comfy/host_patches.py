"""What other nodes have put on a MODEL beside its weights, and which of it a single model call can honour.

A training step and a trial are single calls of the model. Patches of blocks and attention, wrappers of the model's call and a
patched noise schedule act in them as they do in a sampler. What belongs to a whole sampling is left out and named: CFG functions,
which training has no use for, and caches that skip steps, which a sampler prepares and keeps. In a sweep those decide by the
whole batch, so each strength is then sampled by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from comfy.patcher_extension import WrappersMP

from ..config.checks import need
from .describe_patches import described

OF_SAMPLING = (
    WrappersMP.OUTER_SAMPLE,
    WrappersMP.PREPARE_SAMPLING,
    WrappersMP.SAMPLER_SAMPLE,
    WrappersMP.PREDICT_NOISE,
    WrappersMP.CALC_COND_BATCH,
)
GUIDANCE = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
)
PLAN = ("context_handler", "denoise_mask_function")  # model_options of a whole sampling
OF_PARTS = ("hooks", "area", "mask", "gligen")  # of a conditioning: for a part of the picture or of the steps
OWN = "slider_lora_live"  # wrappers of ours, which have a fingerprint of their own
COMPILED = "torch.compile"  # changes no answer, and a slider runs what the code was made from
NO_KEY = "None"


def _wrappers(patcher: Any) -> dict[str, dict[str, list[Any]]]:
    """All wrappers of a MODEL by kind and key: those on the patcher and those among its options."""
    joined: dict[str, dict[str, list[Any]]] = {}
    for source in (patcher.model_options.get("transformer_options", {}).get("wrappers", {}), patcher.wrappers):
        for kind, keyed in source.items():
            for key, functions in keyed.items():
                joined.setdefault(kind, {}).setdefault(str(key), []).extend(functions)
    return joined


def of_sampling(patcher: Any) -> list[str]:
    """Keys of wrappers that take part in a sampling as a whole; of those without a key, the kind."""
    keys: dict[str, None] = {}
    for kind, keyed in _wrappers(patcher).items():
        for key, functions in keyed.items():
            if kind in OF_SAMPLING and functions:
                name = kind if key == NO_KEY else key
                keys[name] = None
    return list(keys)


def of_one_call(patcher: Any) -> dict[str, dict[str, list[Any]]]:
    """The wrappers of a single model call; without those of a sampling, which need what the sampler prepares."""
    left_out = of_sampling(patcher)
    kept: dict[str, dict[str, list[Any]]] = {}
    for kind, keyed in _wrappers(patcher).items():
        kept[kind] = {key: functions for key, functions in keyed.items() if key not in left_out}
    return kept


def left_out(patcher: Any) -> list[str]:
    """Names of what stands on the MODEL and has no part in training."""
    return [*of_sampling(patcher), *(name for name in (*GUIDANCE, *PLAN) if patcher.model_options.get(name))]


def has_patches(patcher: Any) -> bool:
    """Whether blocks or attention of the MODEL are patched."""
    options = patcher.model_options.get("transformer_options", {})
    return any(options.get(name) for name in ("patches", "patches_replace"))


def note(patcher: Any) -> str:
    """A sentence about what training leaves out; empty when nothing."""
    names = left_out(patcher)
    return f"Left out of training, because it acts on a whole sampling: {', '.join(names)}." if names else ""


def mixes_rows(patcher: Any) -> str:
    """Why the strengths of a sweep cannot share a sampling call on this MODEL; empty when they can."""
    names = left_out(patcher)
    return f"{', '.join(names)} on the MODEL may decide by the whole batch" if names else ""


def only_part(processed: Sequence[dict[str, Any]], text: str) -> dict[str, Any]:
    """A conditioning that is one prompt for the whole picture at all steps. SliderError for another one."""
    carried = [name for name in OF_PARTS if any(part.get(name) is not None for part in processed)]
    message = f'The prompt "{text}" carries {", ".join(carried)}, which training cannot follow: connect clip without hooks.'
    need(not carried, message, "prompt.hooks")
    message = f'The prompt "{text}" has {len(processed)} parts, and training takes one: connect clip without hooks.'
    need(len(processed) == 1, message, "prompt.parts")
    return processed[0]


def patches_fingerprint(patcher: Any) -> str:
    """A short hash of what other nodes have put on a MODEL beside its weights; empty when nothing."""
    options = dict(patcher.model_options)
    inner = options.pop("transformer_options", {})
    for name, value in inner.items():
        if name != "wrappers":
            options[f"transformer {name}"] = value
    options = {name: value for name, value in options.items() if value}
    for kind, keyed in _wrappers(patcher).items():
        for key, functions in keyed.items():
            if not key.startswith((OWN, COMPILED)) and functions:
                options[f"{kind} {key}"] = functions
    objects = {name: value for name, value in patcher.object_patches.items() if value is not None}
    if not options and not objects:
        return ""
    digest = hashlib.sha256()
    for part in described([options, objects]):
        digest.update(part.encode())
    return f"patches {digest.hexdigest()[:8]}"
