"""What LoRA managers read in a file's header, in Stability's and kohya's own words: base model, network, training run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from ..config.training import Optimizer, TrainSpec
from ..layers.layer import Target
from .algorithm import Kind, OutputSlice
from .file_format import Weights

Slices = Mapping[str, Sequence[OutputSlice]]  # of fused layers, by path

# ComfyUI's class in supported_models -> (modelspec's architecture, the name of the base as trainers and LoRA managers spell it)
ARCHITECTURES = {
    "SD15": ("stable-diffusion-v1", "sd_1.5"),
    "SD20": ("stable-diffusion-v2", "sd_2.1"),
    "SD21UnclipL": ("stable-diffusion-v2", "sd_2.1"),
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


def base_names(kind: str) -> tuple[str, str]:
    """modelspec's and kohya's names of a base model, by ComfyUI's class of it or any other name."""
    return ARCHITECTURES.get(kind, (kind.lower(), kind.lower()))


def kinds(weights: Weights, slices: Slices | None = None) -> Counter[str]:
    """How many layers are changed in which way. `slices`: those that whole layers stand for, which count each."""
    counts: Counter[str] = Counter()
    for target, weight in weights.items():
        counts[weight.kind.value] += _parts(target, slices)
    return counts


def rank_and_alpha(weights: Weights, slices: Slices | None = None) -> tuple[str, str]:
    """The commonest of both, as kohya writes them. `slices` as for `kinds`: their ranks lie side by side in the whole layer."""
    sizes: Counter[tuple[int, float]] = Counter()
    for target, weight in weights.items():
        if weight.rank:
            parts = _parts(target, slices)
            sizes[weight.rank // parts, (weight.alpha or 0.0) / parts] += parts
    if not sizes:
        return "Dynamic", "None"
    rank, alpha = sizes.most_common(1)[0][0]
    return str(rank), f"{alpha:g}" if alpha else "None"


def _parts(target: Target, slices: Slices | None) -> int:
    return len((slices or {}).get(target.path, ())) or 1


def network_fields(weights: Weights) -> dict[str, str]:
    """kohya's ss_network_* fields."""
    counts = kinds(weights)
    rank, alpha = rank_and_alpha(weights)
    lora = Kind.LORA.value
    first = counts.most_common(1)[0][0] if counts else lora
    arguments: dict[str, object] = {"algo": first}
    if set(counts) == {lora}:
        arguments = {}
    elif first == Kind.DORA.value:
        arguments = {"algo": lora, "dora_wd": True}
    return {
        "ss_network_module": "lycoris.kohya" if arguments else "networks.lora",
        "ss_network_args": json.dumps(arguments),
        "ss_network_dim": rank,
        "ss_network_alpha": alpha,
    }


def training_fields(training: TrainSpec, images: int, step: int, loss: float, rate: float) -> dict[str, str]:
    """kohya's ss_* fields of a training run: `images` in the dataset, finished `step`s, the mean `loss`, the learning `rate`."""
    return {
        "ss_learning_rate": str(rate),
        "ss_unet_lr": str(rate),
        "ss_lr_warmup_steps": str(training.warmup),
        "ss_optimizer": OPTIMIZERS[training.optimizer],
        "ss_max_train_steps": str(training.steps or step),
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
