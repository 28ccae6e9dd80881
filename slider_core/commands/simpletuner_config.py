"""SimpleTuner's own config.json as options of `train`: what was taken, what was left out, and why.

In: a config.json. Out: options, to be read before those that a person writes, so that these count; and lines that say what
became of each key. SliderError for a configuration that no slider can come of.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config.checks import SliderError, need, shown
from ..config.regular_files import read_json
from .simpletuner_families import SOUND, SUPPORTED, UNSUPPORTED

ON, OFF = ("true", "1", "yes"), ("false", "0", "no", "none", "")
OPTIMIZERS = (  # by SimpleTuner's names, in this order
    (r"8bit", "adamw8bit"),
    (r"schedule_?free", "schedule_free"),
    (r"prodigy", "prodigy"),
    (r"adafactor", "adafactor"),
    (r"adamw?(_bf16|-fp8|-4bit)?$|^(torch|optimi|ao)-adamw?", "adamw"),
)
SCHEDULES = {
    "constant": "constant", "constant_with_warmup": "constant", "cosine": "cosine", "cosine_with_restarts": "cosine",
    "sine": "cosine", "linear": "linear", "polynomial": "linear",
}  # fmt: skip
MEGAPIXEL = 1e6
# keys without a meaning here, by the reason
LEFT_OUT = (
    (r"(validation_)?(guidance|.*_guidance)(_.*)?|validation_guidance.*|flow_.*", "the model's family says it"),
    (r"validation_(resolution|negative_prompt|num_video_frames)|framerate", "drawn as the model's family likes it"),
    (r"validation_.*|num_(eval|validation)_images|eval_.*|evaluation_.*|ema_validation", "the strip stands for it"),
    (r"base_model_.*precision|.*_precision|quantize_.*|sdnq_.*|fuse_.*|.*fp8.*|int8_.*", "the model's file has its own"),
    (r"push_.*|hub_.*|tracker_.*|report_to|webhook.*|publishing.*|logging_.*|trust_.*", "nothing is published"),
    (r"dynamo_.*|ramtorch.*|musubi_.*|offload_.*|attention_.*|context_.*|fsdp.*|deepspeed.*", "ComfyUI runs the model"),
    (r"group_offload.*|enable_.*|gradient_checkpointing_.*|compress_disk.*|vae_.*|text_.*_.*", "ComfyUI runs the model"),
    (r"num_(processes|machines)|mixed_precision|distributed.*|ddp_.*|find_unused.*", "see the queue and torchrun"),
    (r"caption_dropout_.*", "both ends of a pair share their caption"),
    (r"(max_)?grad_(norm|clip).*|adam_.*|optimizer_.*|prodigy_.*|lr_.*|.*_loss_.*", "fixed here, or found by itself"),
    (r"num_train_epochs|strict_epoch_limit", "a training is counted in steps"),
    (r"minimum_image_size|aspect_bucket_.*|disable_bucket.*|delete_.*|skip_file.*", "the doctor looks at it"),
    (r"conditioning_.*|.*_conditioning.*|.*reference_.*", "a slider gives no conditioning images"),
    (r"disable_benchmark|model_flavou?r|tread_.*|lora_format|ema_.*|.*oversubscription.*", "not needed here"),
    (r"resume_from_checkpoint", "--resume goes on"),
    (r"pretrained_.*|revision|variant|.*_component|.*_target_mode", "the files given here are the model"),
    (r"(ideogram|minimax|hidream|ltx2|flux|sd3|cosmos3?|wan|audio|h3|diffusion_blocks)_.*", "special to SimpleTuner"),
)


@dataclass
class ReadConfig:
    """`words`: options. `taken` and `left`: a line for each key."""

    path: Path
    values: dict[str, Any]
    words: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    left: dict[str, list[str]] = field(default_factory=dict)

    def take(self, key: str, *words: object, note: str = "") -> None:
        self.words += map(str, words)
        becomes = " ".join(map(str, words)) or "as it is"
        line = f"{key} {shown(self.values[key])}: {becomes}"
        self.taken.append(f"{line} ({note})" if note else line)

    def leave(self, key: str, why: str) -> None:
        self.left.setdefault(why, []).append(key)

    def on(self, key: str) -> bool:
        """A switch, as text too. SliderError for another value."""
        value = self.values.get(key)
        text = str(value).lower() if value is not None else ""
        need(text in (*ON, *OFF), f"{self.path}: {key} must be true or false, got {shown(value)}.", "config.flag")
        return text in ON

    def number(self, key: str, whole: bool = False) -> Any:
        """A number, as text too. SliderError for another value."""
        value = self.values[key]
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        sound = number.is_integer() if whole else math.isfinite(number)
        kind = "a whole number" if whole else "a number"
        need(sound, f"{self.path}: {key} must be {kind}, got {shown(value)}.", "config.number")
        return int(number) if whole else number

    def file(self, key: str) -> Path:
        """A file that SimpleTuner names from its own folder: from here, the config's folder or one above it."""
        name = str(self.values[key])
        places = [Path(), self.path.parent, *self.path.resolve().parents]
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            message = f"{self.path}: {key} {shown(name)} is not there, seen from here or from the folders above the config."
            raise SliderError(message, f"config.{key}")
        return found

    def lines(self) -> list[str]:
        """What was taken, and what was left out and why."""
        lines = list(self.taken)
        for why, keys in self.left.items():
            lines.append(f"left out, {why}: {', '.join(sorted(keys))}")
        return [f"From {self.path}:", *(f"  {line}" for line in lines)]


def _whole(option: str) -> Callable[[ReadConfig, str], None]:
    return lambda config, key: config.take(key, option, config.number(key, whole=True))


def _number(option: str) -> Callable[[ReadConfig, str], None]:
    return lambda config, key: config.take(key, option, config.number(key))


def _text(option: str) -> Callable[[ReadConfig, str], None]:
    return lambda config, key: config.take(key, f"{option}={config.values[key]}")


def _path(option: str) -> Callable[[ReadConfig, str], None]:
    return lambda config, key: config.take(key, option, config.file(key))


def _family(config: ReadConfig, key: str) -> None:
    family = str(config.values[key]).lower().replace("-", "_").replace("pixart_sigma", "pixart")
    sound = f"{config.path}: {key} {family} is a model of sound; a slider is trained on pictures."
    need(family not in SOUND, sound, "config.sound")
    reason = UNSUPPORTED.get(family, "" if family in SUPPORTED else "this version does not know it")
    message = f"{config.path}: {key} {shown(family)} cannot be trained here: {reason}. Choose another model."
    need(not reason, message, "config.family")
    clip = SUPPORTED[family]
    if clip:
        config.take(key, "--clip-type", clip)
    else:
        config.take(key, note="the model's file says it")


def _model(config: ReadConfig, key: str) -> None:
    name = str(config.values[key])
    if Path(name).is_file():
        config.take(key, "--checkpoint", name)
    else:
        config.leave(key, "a repository is not read here: give the model's files with --checkpoint, or --model, --clip and --vae")


def _kind(config: ReadConfig, key: str) -> None:
    kind = str(config.values[key])
    message = f"{config.path}: {key} {shown(kind)} is no slider: only lora is (whole weights: --algorithm full)."
    need(kind == "lora", message, "config.model_type")
    config.take(key)


def _switched(option: str, message: str = "") -> Callable[[ReadConfig, str], None]:
    """Off: left out. On: the option, or an error where there is none."""

    def read(config: ReadConfig, key: str) -> None:
        if config.on(key):
            need(not message, f"{config.path}: {key}: {message}", f"config.{key}")
            config.take(key, *option.split())
        else:
            config.leave(key, "switched off")

    return read


def _lora_type(config: ReadConfig, key: str) -> None:
    kind = str(config.values[key]).lower()
    message = f'{config.path}: lora_type {shown(kind)} is not known: "standard" or "lycoris".'
    need(kind in ("standard", "lycoris"), message, "config.lora_type")
    complete = kind == "standard" or config.values.get("lycoris_config")
    need(bool(complete), f"{config.path}: lora_type lycoris needs a lycoris_config.", "config.lycoris_config")
    config.take(key)


def _lycoris(config: ReadConfig, key: str) -> None:
    if str(config.values.get("lora_type", "standard")).lower() == "lycoris":
        config.take(key, "--lycoris-config", config.file(key))
    else:
        config.leave(key, "lora_type is not lycoris")


def _size(option: str) -> Callable[[ReadConfig, str], None]:
    def read(config: ReadConfig, key: str) -> None:
        if str(config.values.get("lora_type", "standard")).lower() == "lycoris":
            config.leave(key, "lycoris_config has its own")
        else:
            config.take(key, option, config.number(key, whole=option == "--rank"))

    return read


def _batch(config: ReadConfig, key: str) -> None:
    batch = config.number(key, whole=True)
    even = max(2, batch + batch % 2)
    note = "a step shows whole pairs" if even != batch else ""
    config.take(key, "--batch", even, note=note)


def _resolution(config: ReadConfig, key: str) -> None:
    side = config.number(key)
    need(side >= 0, f"{config.path}: {key} must be 0 or more, got {side:g}.", "config.number")
    if config.values.get("resolution_type", "pixel_area") == "area":
        side = (side * MEGAPIXEL) ** 0.5
    config.take(key, "--resolution", round(side / 8) * 8)


def _optimizer(config: ReadConfig, key: str) -> None:
    name = str(config.values[key]).lower()
    ours = next((ours for pattern, ours in OPTIMIZERS if re.search(pattern, name)), None)
    if ours is None:
        config.take(key, "--optimizer", "adamw", "--lr", 0, note="not there; AdamW at the rate that a probe finds")
    elif ours == "prodigy":
        config.take(key, "--optimizer", ours, "--lr", 0, note="it finds the rate itself")
    else:
        config.take(key, "--optimizer", ours)


def _schedule(config: ReadConfig, key: str) -> None:
    name = str(config.values[key]).lower()
    if name in SCHEDULES:
        config.take(key, "--schedule", SCHEDULES[name])
    else:
        config.take(key, "--schedule", "cosine", note="the nearest")


def _snr(config: ReadConfig, key: str) -> None:
    gamma = config.number(key)
    if gamma:
        config.take(key, "--weighting", "min_snr", note="" if gamma == 5 else "with gamma 5")
    else:
        config.leave(key, "switched off")


def _ema(config: ReadConfig, key: str) -> None:
    if config.on(key):
        decay = 0.99
        if config.values.get("ema_decay") is not None:
            decay = config.number("ema_decay")
        config.take(key, "--ema", decay)
    else:
        config.leave(key, "switched off")


def _out(config: ReadConfig, key: str) -> None:
    folder = Path(str(config.values[key]))
    config.take(key, "--out", folder / f"{folder.name}.safetensors")


def _loss(config: ReadConfig, key: str) -> None:
    if config.values[key] == "l2":
        config.take(key)
    else:
        config.leave(key, "the loss is the squared error")


# in the order in which they are read: what a later one writes counts
TAKEN: dict[str, Callable[[ReadConfig, str], None]] = {
    "model_type": _kind,
    "controlnet": _switched("", "a slider in a ControlNet is trained in the graph (docs/controlnet.md)."),
    "distillation_method": lambda config, key: need(
        False, f"{config.path}: {key}: distillation is no slider.", "config.distillation"
    ),
    "model_family": _family,
    "pretrained_model_name_or_path": _model,
    "slider_lora_target": _switched("--layers reference"),
    "data_backend_config": _path("--dataset"),
    "lora_type": _lora_type,
    "lycoris_config": _lycoris,
    "lora_rank": _size("--rank"),
    "lora_alpha": _size("--alpha"),
    "lora_dropout": _size("--dropout"),
    "use_dora": _switched("--algorithm dora"),
    "init_lora": _path("--start-from"),
    "max_train_steps": _whole("--steps"),
    "learning_rate": _number("--lr"),
    "lr_scheduler": _schedule,
    "lr_warmup_steps": _whole("--warmup"),
    "optimizer": _optimizer,
    "train_batch_size": _batch,
    "gradient_accumulation_steps": _whole("--accumulate"),
    "gradient_checkpointing": lambda config, key: config.take(key, *([] if config.on(key) else ["--no-checkpointing"])),
    "use_ema": _ema,
    "snr_gamma": _snr,
    "loss_type": _loss,
    "seed": _whole("--seed"),
    "resolution": _resolution,
    "validation_prompt": _text("--prompt"),
    "user_prompt_library": _path("--prompts"),
    "validation_seed": _whole("--picture-seed"),
    "validation_num_inference_steps": _whole("--sample-steps"),
    "validation_step_interval": _whole("--strip-every"),
    "validation_steps": _whole("--strip-every"),
    "checkpoint_step_interval": _whole("--checkpoint-every"),
    "checkpointing_steps": _whole("--checkpoint-every"),
    "checkpoints_total_limit": _whole("--checkpoints-kept"),
    "output_dir": _out,
}
FILES = {  # of which the file need not be there when a person names another
    "data_backend_config": "--dataset",
    "lycoris_config": "--lycoris-config",
    "user_prompt_library": "--prompts",
    "init_lora": "--start-from",
}
READ_ALONG = ("resolution_type", "ema_decay")  # with another key


def read_config(path: Path, words: Sequence[str] = ()) -> ReadConfig:
    """SimpleTuner's config.json as options. SliderError that names the key for one that cannot be trained from here.

    `words`: what a person writes beside it.
    """
    message = f"{path} is no config.json: SimpleTuner's other forms (.toml, .env) are not read; export it as JSON."
    need(path.suffix.lower() == ".json", message, "config.form")
    raw = read_json(path, "Configuration", "config.unreadable")
    need(isinstance(raw, dict) and bool(raw), f"{path}: a JSON object of SimpleTuner's options is needed.", "config.form")
    values = {str(key).lstrip("-").replace("-", "_"): value for key, value in dict(raw).items()}  # type: ignore[call-overload]
    config = ReadConfig(path, values)
    beside = {word.partition("=")[0] for word in words}
    for key, read in TAKEN.items():
        if values.get(key) in (None, ""):
            continue
        if FILES.get(key) in beside:
            config.leave(key, "given beside it")
        else:
            read(config, key)
    _leave_rest(config, [key for key in values if key not in TAKEN and key not in READ_ALONG])
    return config


def _leave_rest(config: ReadConfig, keys: Iterable[str]) -> None:
    for key in keys:
        why = next((why for pattern, why in LEFT_OUT if re.fullmatch(pattern, key)), "not known here")
        config.leave(key, why)
