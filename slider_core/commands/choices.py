"""One table of what can be chosen: option of the command line, input of the node, what it means. Defaults are the node's own.

A test compares it with the inputs of Slider Train Step, Slider Target Injector, Load Slider Dataset, their options nodes,
Slider Text Pair and Slider Sampling.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from ..config.checks import values_of
from ..config.lora import AdapterSpec, Algorithm, Init
from ..config.regular_files import read_text
from ..config.training import Objective, Optimizer, Schedule, Timesteps, TrainPreset, Weighting
from ..data.bucket_spec import (
    MOST_LATENTS,
    Alpha,
    CaptionFrom,
    Crop,
    Latents,
    Pairing,
    Reference,
    TextSliderSpec,
    Unequal,
)
from ..data.source import DatasetChoices
from ..families.distilled import Distilled
from ..train.target_choices import TargetChoices
from ..train.training_choices import AUTO, TrainChoices
from .options import Options, number_or_0, seed_number, whole_number


@dataclass(frozen=True)
class Flag:
    """`option` of the command line for `input` of a node. `read`: text -> value; None: text, or no value at all where the
    default is true or false. An option that begins with --no- switches off. `names`: what may be written, checked by argparse."""

    option: str
    input: str
    help: str
    default: Any
    read: Callable[[str], Any] | None = None
    names: Sequence[str] = ()


def _defaults(kind: type) -> dict[str, Any]:
    return {field.name: getattr(field.default, "value", field.default) for field in fields(kind)}


def _flag(
    defaults: dict[str, Any],
    option: str,
    name: str,
    text: str,
    read: Callable[[str], Any] | None = None,
    names: Sequence[str] = (),
) -> Flag:
    return Flag(option, name, text, defaults[name], read, names)


_T = _defaults(TrainChoices)
COUNT = whole_number(1024)
COUNT_OR_0 = whole_number(1024, least=0)

TRAINING = (
    _flag(_T, "--steps", "steps", "training steps; 0: until the slider is ready", number_or_0),
    _flag(_T, "--run-steps", "steps_per_run", "steps of this call, after which --resume goes on; 0: all", number_or_0),
    _flag(_T, "--seed", "training_seed", "first weights, noise and order of the training", seed_number),
    _flag(_T, "--objective", "objective", f"the rule of the steps: {values_of(Objective)}"),
    _flag(_T, "--lr", "learning_rate", "learning rate; 0: found by a probe of a few batches", float),
    _flag(_T, "--any-rate", "any_rate", "train at --lr even where it is far beyond the probe's"),
    _flag(_T, "--batch", "batch", "images in a step, even but with denoise_rotating; 0: the family's", COUNT_OR_0),
    _flag(_T, "--accumulate", "accumulate", "batches in one step", COUNT),
    _flag(_T, "--resolution", "resolution", "pixels, the side of a square of the same area; 0: the family's", number_or_0),
    _flag(_T, "--timesteps", "timesteps", f"which noise levels: {values_of(Timesteps)}"),
    _flag(_T, "--few-steps", "few_steps", "the sampler's steps, for few_step; 0: the model's", COUNT_OR_0),
    _flag(_T, "--noise-from", "noise_from", "lowest noise level that is trained; 0 is clean", float),
    _flag(_T, "--noise-to", "noise_to", "highest noise level that is trained; 1 is pure noise", float),
    _flag(_T, "--weighting", "weighting", f"loss weighting: {values_of(Weighting)}"),
    _flag(_T, "--jitter", "jitter", "how far both images of a pair are shifted at random; -1: measured, 1/16 or 0", float),
    _flag(_T, "--schedule", "schedule", f"of the learning rate: {values_of(Schedule)}"),
    _flag(_T, "--warmup", "warmup", "warm-up steps", number_or_0),
    _flag(_T, "--optimizer", "optimizer", f"one of {values_of(Optimizer)}"),
    _flag(_T, "--ema", "ema", "decay of the average of the weights that is saved; 0: none", float),
    _flag(_T, "--neutral-weight", "neutral_weight", "what neutral images count beside the pairs", float),
    _flag(_T, "--sides", "sides", "both; plus: a one-way slider, from the base model at 0 to the positive images at +1"),
    _flag(_T, "--preset", "preset", f"steps and average at once: {values_of(TrainPreset)}"),
    _flag(_T, "--no-checkpointing", "checkpointing", "faster where memory allows it; the built-in model always trains so"),
    _flag(_T, "--no-calibration", "calibrate", "leave the strengths as they were trained"),
    _flag(_T, "--checkpoint-every", "checkpoint_every", "keep the slider every so many steps; 0: never", number_or_0),
    _flag(_T, "--checkpoints-kept", "checkpoints_kept", "how many of the last stay; the best one does too", whole_number(1000)),
    _flag(_T, "--strip-strengths", "strip_strengths", "columns of the strip that is drawn while it trains"),
    _flag(_T, "--strip-every", "strip_every", "steps between two strips; 0: only at the end", number_or_0),
)
_L = _defaults(TargetChoices)
_P = _defaults(TextSliderSpec) | {"hold": ""}
TARGETS = (
    _flag(_L, "--layers", "preset", "which layers: auto, reference, all, custom or an architecture"),
    _flag(_L, "--rank", "rank", "size of the adapter", COUNT),
    _flag(_L, "--alpha", "alpha", "the update is scaled by alpha / rank; 0: as the rank", float),
    _flag(_L, "--algorithm", "algorithm", f"one of {values_of(Algorithm)}"),
    _flag(_L, "--dropout", "dropout", "share of a layer's input that the slider does not see in a step", float),
    _flag(_L, "--conv-rank", "conv_rank", "rank on larger kernels; -1: as elsewhere; 0: leave them alone", int),
    _flag(_L, "--init", "init", f"first weights: {values_of(Init)}"),
    _flag(_L, "--factor", "lokr_factor", "of lokr: size of the first Kronecker factor; -1: near the square root", int),
    _flag(_L, "--full-matrix", "lokr_full_matrix", "of lokr: the large factor without a rank"),
    _flag(_L, "--pattern", "custom_patterns", "for --layers custom: a regular expression on layer names; again for more"),
    _flag(_L, "--exclude", "exclude", "a regular expression of layers to leave alone; again for more"),
    _flag(_L, "--rank-pattern", "rank_pattern", "EXPRESSION = RANK of single layers; again for more"),
    _flag(_L, "--alpha-pattern", "alpha_pattern", "EXPRESSION = ALPHA of single layers; again for more"),
    _flag(_L, "--lycoris-config", "lycoris_config", "a LyCORIS configuration, a JSON file, in place of these"),
)
SEVERAL = ("custom_patterns", "exclude", "rank_pattern", "alpha_pattern")  # a line for each


def _kinds(kind: type[Enum]) -> list[str]:
    return [member.value for member in kind if member is not CaptionFrom.INSTANCEPROMPT]


_D = _defaults(DatasetChoices)
DATASET = (
    _flag(_D, "--strength", "strength", "what positive/ and negative/ stand for", float),
    _flag(_D, "--caption", "caption", "one for all images; empty: as --caption-from says"),
    _flag(_D, "--caption-from", "caption_from", "where captions stand", names=_kinds(CaptionFrom)),
    _flag(_D, "--trigger", "trigger_word", "put before every caption"),
    _flag(_D, "--pairing", "pairing", "how pairs are made", names=_kinds(Pairing)),
    _flag(_D, "--unequal", "unequal", "when one side has fewer images", names=_kinds(Unequal)),
    _flag(_D, "--crop", "crop", "what is kept of an image of another shape", names=_kinds(Crop)),
    _flag(_D, "--flip", "flip", "every pair mirrored as well"),
    _flag(_D, "--transparency", "alpha", "transparent parts show the background, or are left out", names=_kinds(Alpha)),
    _flag(_D, "--background", "background", "colour behind transparency"),
    _flag(_D, "--frames", "frames", "of a clip, for video models", whole_number(257)),
    _flag(_D, "--reference", "reference", "of an edit model: what it is shown", names=_kinds(Reference)),
    _flag(_D, "--positive-folder", "positive_folder", "the folder of the positive images, where its name says nothing"),
    _flag(_D, "--negative-folder", "negative_folder", "the folder of the negative images, where its name says nothing"),
)
SAMPLING = (
    Flag("--prompt", "prompt", "what is drawn", ""),
    Flag("--picture-seed", "picture_seed", "noise of the pictures", 0, seed_number),
    Flag("--sample-steps", "steps", "sampler steps; 0: as the family is drawn", 0, number_or_0),
    Flag("--cfg", "cfg", "guidance scale; 0: as the family is drawn", 0.0, float),
    Flag("--sampler", "sampler_name", "as in KSampler; auto: the family's", AUTO),
    Flag("--scheduler", "scheduler", "as in KSampler; auto: the family's", AUTO),
    Flag("--distilled", "distilled", "distilled to few steps (auto: by its file)", Distilled.AUTO.value, names=_kinds(Distilled)),
)
TEXT = (
    _flag(_P, "--hold", "hold", "attributes to preserve, with commas between"),
    _flag(_P, "--guidance", "guidance", "how far +1 is pushed, in differences between the two ends", float),
    _flag(_P, "--words-weight", "weight", "loss weight of a step of prompts beside a step of images", float),
    _flag(_P, "--latents-from", "latents", "latents of the model, or of the dataset", names=_kinds(Latents)),
    _flag(_P, "--latents", "count", "how many latents the model makes", whole_number(MOST_LATENTS)),
    _flag(_P, "--latents-width", "width", "pixels; 0: as --resolution", number_or_0),
    _flag(_P, "--latents-height", "height", "pixels; 0: as --resolution", number_or_0),
    _flag(_P, "--latents-steps", "steps", "steps in which one is made", whole_number(1000)),
    _flag(_P, "--latents-cfg", "cfg", "guidance scale while they are made; 1: none", float),
)
GROUPS: dict[str, tuple[Flag, ...]] = {
    "training": TRAINING,
    "targets": TARGETS,
    "dataset": DATASET,
    "text": TEXT,
    "sampling": SAMPLING,
}


def add_flags(command: Options, group: str) -> None:
    """The options of that group; what they give is found again by `chosen`."""
    for flag in GROUPS[group]:
        options: dict[str, Any] = {"dest": f"{group}.{flag.input}", "default": flag.default, "help": flag.help}
        if isinstance(flag.default, bool):
            options["action"] = "store_false" if flag.default else "store_true"
        elif flag.input in SEVERAL and group == "targets":
            options |= {"action": "append", "default": [], "metavar": "EXPRESSION"}
        else:
            options |= {"type": flag.read or str, "metavar": flag.option.strip("-").rpartition("-")[2].upper()}
        if flag.names:
            options |= {"choices": list(flag.names), "help": f"{flag.help}: {', '.join(flag.names)}", "metavar": None}
        command.add_argument(flag.option, **options)


def chosen(args: argparse.Namespace, group: str) -> dict[str, Any]:
    """The choices of a group by the names of the node's inputs."""
    return {flag.input: getattr(args, f"{group}.{flag.input}") for flag in GROUPS[group]}


def train_choices(args: argparse.Namespace, name: str) -> TrainChoices:
    return TrainChoices(name=name, **chosen(args, "training"))


def adapter_spec(args: argparse.Namespace) -> tuple[AdapterSpec, list[str]]:
    """What is trained, and notes about a LyCORIS configuration."""
    values = chosen(args, "targets")
    for name in SEVERAL:
        values[name] = "\n".join(values[name])
    if values["lycoris_config"]:
        path = Path(values["lycoris_config"])
        values["lycoris_config"] = read_text(path, "LyCORIS configuration", "lycoris_config.unreadable")
    return TargetChoices(**values).adapter_spec()
