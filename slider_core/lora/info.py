"""What a slider's file says of itself: its header, all strings, readable with any safetensors viewer.

    slider_*      ours: name, labels of both ends, range, calibration, model, targets, algorithm, training, dataset
    modelspec.*   Stability's model metadata standard, which ComfyUI's and other LoRA managers show, the thumbnail with it
    ss_*, sshs_*  kohya's trainer's fields, which they show too

No path of the user's machine is among them: a dataset is counts and a hash.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from enum import Enum

import torch
from PIL import Image
from safetensors.torch import save

from ..config.checks import SliderError, choice
from ..config.lora import FileDtype, FileFormat
from ..config.training import Optimizer, TrainSpec
from ..layers.layer import Target, slices
from .algorithm import Kind, LayerWeight

TOOL = "ComfyUI slider-lora 0.1.0"
FORMAT = "slider_lora.v1"
THUMBNAIL = 640, 256  # a strip is fitted into this, pixels
THUMBNAIL_BYTES = 64 * 1024
# ComfyUI's class in supported_models -> (modelspec's architecture, kohya's name of the base)
ARCHITECTURES = {
    "SD15": ("stable-diffusion-v1", "sd_v1"),
    "SD20": ("stable-diffusion-v2", "sd_v2"),
    "SD21UnclipL": ("stable-diffusion-v2", "sd_v2"),
    "SDXL": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    "SDXLRefiner": ("stable-diffusion-xl-v1-refiner", "sdxl_refiner_v1-0"),
    "SSD1B": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    "SD3": ("stable-diffusion-3", "sd3"),
    "Flux": ("flux-1-dev", "flux1"),
    "FluxSchnell": ("flux-1-schnell", "flux1"),
    "Flux2": ("flux-2", "flux2"),
    "ZImage": ("z-image", "z_image"),
    "QwenImage": ("qwen-image", "qwen_image"),
}
OPTIMIZERS = {  # as kohya names them: by module and class
    Optimizer.ADAMW: "torch.optim.adamw.AdamW",
    Optimizer.ADAFACTOR: "torch.optim._adafactor.Adafactor",
    Optimizer.PRODIGY: "prodigyopt.prodigy.Prodigy",
    Optimizer.ADAMW8BIT: "bitsandbytes.optim.adamw.AdamW8bit",
    Optimizer.SCHEDULE_FREE: "schedulefree.adamw_schedulefree.AdamWScheduleFree",
}


def thumbnail(picture: Image.Image) -> str:
    """A small JPEG as a data URL, at most 64 KiB: for `modelspec.thumbnail`."""
    small = picture.convert("RGB")
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    for quality in (85, 70, 50, 30):
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality, optimize=True)
        if len(buffer.getvalue()) <= THUMBNAIL_BYTES:
            break
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def data_hash(content: bytes) -> str:
    """SHA-256 of a safetensors file without its header, as kohya's sshs_model_hash: the same slider, the same hash."""
    return hashlib.sha256(memoryview(content)[8 + int.from_bytes(content[:8], "little") :]).hexdigest()


def tensor_hash(state: Mapping[str, torch.Tensor]) -> str:
    """The hash that a file of these tensors has."""
    return data_hash(save({key: value.contiguous() for key, value in state.items()}))


def with_header(content: bytes, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with this metadata in its header, its tensors as they are."""
    size = int.from_bytes(content[:8], "little")
    told = json.loads(content[8 : 8 + size]) | {"__metadata__": dict(metadata)}
    head = json.dumps(told, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)  # tensors begin at a multiple of 8 bytes
    return b"".join((len(head).to_bytes(8, "little"), head, memoryview(content)[8 + size :]))


def _architecture(known: Mapping[str, str]) -> tuple[str, str]:
    """modelspec's and kohya's words for the base model: of ComfyUI's class, of the file that was read, of the backend."""
    kind = known.get("slider_architecture", "")
    if kind or "modelspec.architecture" not in known:
        kind = kind or known.get("slider_model", "unknown").split("/")[0].split(" ")[0]
        return ARCHITECTURES.get(kind, (kind.lower(), kind.lower()))
    told = known["modelspec.architecture"].removesuffix("/lora")
    return told, known.get("ss_base_model_version", told)


def _size(weights: Mapping[Target, LayerWeight]) -> tuple[str, str]:
    """The commonest rank and alpha, as kohya writes them."""
    ranks = Counter((w.rank, w.alpha) for w in weights.values() if w.rank)
    rank, alpha = ranks.most_common(1)[0][0] if ranks else (None, None)
    return str(rank or "Dynamic"), f"{alpha:g}" if alpha else "None"


def training_fields(training: TrainSpec, images: int, step: int, loss: float) -> dict[str, str]:
    """kohya's ss_* fields of a training run: `images` in the dataset, finished `step`s, and the mean `loss`."""
    return {
        "ss_learning_rate": str(training.lr),
        "ss_unet_lr": str(training.lr),
        "ss_lr_warmup_steps": str(training.warmup),
        "ss_optimizer": OPTIMIZERS[training.optimizer],
        "ss_max_train_steps": str(training.steps),
        "ss_steps": str(step),
        "ss_seed": str(training.seed),
        "ss_batch_size_per_device": str(training.batch),
        "ss_total_batch_size": str(training.batch * training.accumulate),
        "ss_gradient_accumulation_steps": str(training.accumulate),
        "ss_num_train_images": str(images),
        "ss_num_reg_images": "0",
        "ss_max_grad_norm": str(training.clip),
        "ss_gradient_checkpointing": str(training.checkpointing),
        "ss_loss/average": f"{loss:.6f}",
    }


def kinds(weights: Mapping[Target, LayerWeight]) -> Counter[str]:
    """How many layers are changed in which way."""
    return Counter("dora" if w.is_dora else w.kind.value for w in weights.values())


def _network(weights: Mapping[Target, LayerWeight]) -> tuple[str, str]:
    """kohya's network module, and its arguments as JSON."""
    found = kinds(weights)
    if set(found) == {Kind.LORA.value}:
        return "networks.lora", "{}"
    first = found.most_common(1)[0][0] if found else Kind.LORA.value
    return "lycoris.kohya", json.dumps({"algo": "lora", "dora_wd": True} if first == "dora" else {"algo": first})


def header(
    weights: Mapping[Target, LayerWeight],
    digest: str,
    known: Mapping[str, str],
    form: FileFormat,
    dtype: FileDtype,
) -> dict[str, str]:
    """The whole header of a file with that `data_hash`: what is `known` of the slider, and what follows from its weights."""
    rank, alpha = _size(weights)
    module, arguments = _network(weights)
    name = known.get("slider_name") or known.get("modelspec.title") or known.get("ss_output_name") or "slider"
    architecture, base = _architecture(known)
    minus, plus = known.get("slider_minus", ""), known.get("slider_plus", "")
    ends = f" from {minus or 'less'} (-1) to {plus or 'more'} (+1)" if minus or plus else ""
    open_to_change = {
        "slider_calibration": json.dumps({"calibrated": False, "strength_1": "what the images were trained at"}),
        "slider_range": json.dumps([-1.0, 1.0]),
        "modelspec.description": f"Slider{ends}. Use strengths on both sides of 0.",
        "modelspec.date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    of_the_file = {
        "format": "pt",
        "slider_file": FORMAT,
        "slider_file_format": form.value,
        "slider_tool": TOOL,
        "slider_targets": json.dumps([str(t) for t in weights]),
        "slider_rows": json.dumps(slices(weights)),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "https://github.com/comfyanonymous/ComfyUI",
        "modelspec.title": name,
        "modelspec.hash_sha256": f"0x{digest}",
        "modelspec.usage_hint": "A signed strength: +1 more, -1 less, 0 the base model.",
        "ss_output_name": name,
        "ss_base_model_version": base,
        "slider_kinds": json.dumps(kinds(weights)),
        "ss_network_module": module,
        "ss_network_args": arguments,
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
        "ss_mixed_precision": dtype.value,
        "sshs_model_hash": digest,
        "sshs_legacy_hash": digest[:8],
    }
    ours = "slider_file" in known or "slider_training" in known
    kept = {k: v for k, v in known.items() if ours or k.startswith(("slider_", "modelspec."))}  # others' may hold paths
    if ends:
        kept.pop("modelspec.description", None)
    return open_to_change | kept | of_the_file


def name_of(metadata: Mapping[str, str]) -> str:
    """What a slider or LoRA is called by its header; empty when that says nothing."""
    return metadata.get("slider_name") or metadata.get("ss_output_name", "")


def summary(metadata: Mapping[str, str], weights: Mapping[Target, LayerWeight], left_out: Sequence[str] = ()) -> str:
    """A file in a few readable lines."""
    rank, alpha = _size(weights)
    what = ", ".join(f"{kind} on {count} layers" for kind, count in kinds(weights).items())
    lines = [f"{name_of(metadata) or 'LoRA'}: {what}, rank {rank}, alpha {alpha}."]
    minus, plus = metadata.get("slider_minus"), metadata.get("slider_plus")
    lines += [f"-1: {minus or 'less'}; +1: {plus or 'more'}."] if minus or plus else []
    unit = read_calibration(metadata)
    if unit:
        shown = "words" if "the words" in metadata["slider_calibration"] else "images"
        lines += [f"Calibrated: strength {unit:.3g} is what the {shown} show."]
    told = (("for", "slider_model"), ("range", "slider_range"), ("verdict", "slider_verdict"), ("step", "slider_step"))
    told += (("words", "slider_words"),)
    lines += [f"{word}: {metadata[key]}" for word, key in told if metadata.get(key)]
    lines += [f"{len(left_out)} layers of a text encoder were left out: a slider moves the image side alone."] if left_out else []
    return "\n".join(lines)


KEY = "slider_calibration"


def read_calibration(metadata: Mapping[str, str]) -> float | None:
    """The strength of the file that shows what the images show, of a slider's header; None where it knows none."""
    try:
        told = json.loads(metadata.get(KEY, "{}"))
        if not told.get("calibrated"):
            return None
        unit = float(told.get("unit", 1.0))
        sound = math.isfinite(unit) and 0 < unit < 1e6
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        sound = False
    if not sound:
        raise SliderError(f"{KEY} in the slider's header is damaged: calibrate it anew, or use raw strengths.")
    return unit


class Units(str, Enum):
    """What a strength counts: the images' own effect, or the number that a LoRA loader takes."""

    CALIBRATED = "calibrated"
    RAW = "raw"


def file_strength(strength: float, metadata: Mapping[str, str], units: Units | str = Units.CALIBRATED) -> float:
    """A strength as a LoRA loader would be given it."""
    if choice(Units, units, "Unit") is Units.RAW:
        return strength
    return strength * (read_calibration(metadata) or 1.0)
