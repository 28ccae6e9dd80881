"""What a slider's file says of itself, as a dataclass, and its header: strings that any safetensors viewer shows.

    slider_*      ours: name, labels of both ends, range, calibration, model, layers, algorithm, training, dataset
    modelspec.*   Stability's model metadata standard, which ComfyUI's and other LoRA managers show, the thumbnail with it
    ss_*, sshs_*  kohya's trainer's fields, which they show too

No path of the user's machine is among them: a dataset is counts and a hash.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..config.checks import MOST_DIGITS, choice, clean_text, is_number, need, parse_json
from ..config.lora import FileDtype, FileFormat
from ..config.training import Sides
from ..layers.layer import Target, slices
from .algorithm import LayerWeight
from .calibration import CalibrationInfo, Units, is_trusted
from .even_steps import EvenSteps
from .formats.native import Place
from .header_fields import Slices, base_names, kinds, network_fields, rank_and_alpha

TOOL = "ComfyUI slider-lora 0.2.0"
FORMAT = "slider_lora.v1"
THUMBNAIL = "modelspec.thumbnail"
TRIGGER = "modelspec.trigger_phrase"
LEGACY_HASH = "sshs_legacy_hash"  # which kohya takes of the file with its header: not written, and no older one kept
USAGE = "A signed strength: +1 more, -1 less, 0 the base model."
CARD = "slider_card"  # one field with all that another program needs to show the slider
DATE, DESCRIPTION = "modelspec.date", "modelspec.description"


def _range(text: str) -> tuple[float, float]:
    low, high = _json(text)
    if not is_number(low) or not is_number(high):
        raise ValueError("a range is of numbers")
    return float(low), float(high)


def _json(text: str) -> Any:
    return parse_json(text, "header", "slider_info.damaged")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS or int(text) < 0:
        raise ValueError("no count of steps")
    return int(text)


def _slices(text: str) -> Slices:
    layers: dict[str, list[tuple[int, int]]] = {}
    for layer, parts in _json(text).items():
        layers[str(layer)] = [(int(start), int(stop)) for start, stop in parts]
    for layer, parts in layers.items():
        ends = [end for part in sorted(parts) for end in part]
        rising = ends == sorted(ends) and all(start < stop for start, stop in parts)
        if not ends or ends[0] < 0 or not rising:
            raise ValueError(f"slices of {layer}")
    return layers


# fields of SliderInfo that are text in the header, each under slider_<its name>
TEXTS = (
    *("name", "minus", "plus", "model", "architecture", "training", "adapter", "algorithm", "verdict", "judged"),
    *("dataset", "prompts", "encoders", "resolution", "assistant", "control", "start", "sides", "training_id", "replaces"),
)
# and those that are read out of it
READERS: dict[str, Callable[[str], Any]] = {
    "range": _range,
    "calibration": CalibrationInfo.from_json,
    "even_steps": EvenSteps.from_json,
    "step": _whole,
    "explained": lambda text: dict(_json(text)),
    "images": lambda text: dict(_json(text)),
    "trained_strengths": lambda text: tuple(_json(text)),
    "place": Place,
    "file_format": FileFormat,
    "slices": _slices,
}


@dataclass(frozen=True)
class SliderInfo:
    """What a file says of itself. Empty, or None, is what it does not say."""

    name: str = ""
    title: str = ""  # modelspec's, where another program wrote one that is not the name
    minus: str = ""  # what strength -1 shows
    plus: str = ""
    trigger: str = ""  # what a prompt must hold for the slider to act
    range: tuple[float, float] | None = None  # of strengths, as `range_name` says
    calibration: CalibrationInfo | None = None
    even_steps: EvenSteps | None = None
    place: Place = Place.DIFFUSION_MODEL
    thumbnail: str = ""  # a data URL
    # the base model: its kind with a fingerprint of its weights, ComfyUI's class of it, modelspec's and kohya's names
    model: str = ""
    architecture: str = ""
    base_names: tuple[str, str] | None = None
    # what the training was begun with; the specs as JSON
    training: str = ""
    adapter: str = ""
    algorithm: str = ""
    dataset: str = ""  # a hash
    prompts: str = ""  # a summary of the pairs of prompts
    encoders: str = ""  # fingerprints of VAE and text encoder
    resolution: str = ""
    assistant: str = ""  # the LoRAs that were on the model meanwhile
    control: str = ""  # the ControlNet that acted meanwhile
    sides: str = ""  # "plus" for a slider of one side
    training_id: str = ""  # of this training alone: another from the same choices has another
    replaces: str = ""  # ids of the trainings that a restart has discarded for it
    start: str = ""  # hash of the slider that the training went on from
    # and how it went
    step: int | None = None
    explained: dict[str, float] | None = None
    verdict: str = ""
    judged: str = ""  # the verdict's name
    images: dict[str, int] | None = None  # by side
    trained_strengths: tuple[float, ...] | None = None
    # of the file that it was read from
    file_format: FileFormat | None = None
    slices: Slices = field(default_factory=dict)
    damaged: tuple[str, ...] = ()  # fields that could not be read
    # written as it is: kohya's ss_* fields of the training, and what other programs wrote
    other: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Half a character, as a text cut by JavaScript has, would make a header that no program reads."""
        for name in (*TEXTS, "title", "thumbnail"):
            object.__setattr__(self, name, clean_text(getattr(self, name)))
        object.__setattr__(self, "other", {clean_text(key): clean_text(value) for key, value in self.other.items()})

    @classmethod
    def from_header(cls, header: Mapping[str, str]) -> SliderInfo:
        """Whatever a header says. What cannot be read is left out and listed in `damaged`: see `check`."""
        values: dict[str, Any] = {}
        for name in TEXTS:
            values[name] = header.get(f"slider_{name}", "")
        damaged = []
        for name, read in READERS.items():
            try:
                if f"slider_{name}" in header:
                    values[name] = read(header[f"slider_{name}"])
            except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
                damaged.append(name)
        values["name"] = values["name"] or header.get("ss_output_name", "")
        title = header.get("modelspec.title", "")
        if title != values["name"]:
            values["title"] = title
        if "modelspec.architecture" in header:
            architecture = header["modelspec.architecture"].removesuffix("/lora")
            values["base_names"] = architecture, header.get("ss_base_model_version", architecture)
        values |= {"thumbnail": header.get(THUMBNAIL, ""), "trigger": header.get(TRIGGER, "")}
        return cls(**values, damaged=tuple(damaged), other=_others(header))

    def header(self, weights: Mapping[Target, LayerWeight], digest: str, form: FileFormat, dtype: FileDtype) -> dict[str, str]:
        """The whole header of a file of these weights in that format, whose tensors have that SHA-256."""
        title = self.title or self.name or "slider"
        architecture, base = self._base_names()
        return {
            DATE: time.strftime("%Y-%m-%d", time.gmtime()),
            DESCRIPTION: f"Slider. {self._use()}",
            **self.other,
            **self._own_fields(),
            "format": "pt",
            "slider_file": FORMAT,
            CARD: json.dumps(self.card()),
            "slider_file_format": form.value,
            "slider_tool": TOOL,
            "slider_targets": json.dumps([str(target) for target in weights]),
            "slider_slices": json.dumps(slices(weights)),
            "slider_kinds": json.dumps(kinds(weights)),
            "modelspec.sai_model_spec": "1.0.0",
            "modelspec.architecture": f"{architecture}/lora",
            "modelspec.implementation": "https://github.com/comfyanonymous/ComfyUI",
            "modelspec.title": title,
            "modelspec.hash_sha256": f"0x{digest}",
            "modelspec.usage_hint": self._hint(),
            "ss_output_name": title,
            "ss_base_model_version": base,
            **network_fields(weights),
            "ss_mixed_precision": dtype.value,
            "sshs_model_hash": digest,
        }

    def card(self) -> dict[str, Any]:
        """All that is needed to show the slider to others (docs/sharing.md), in strengths as a LoRA loader takes them."""
        calibration = self.calibration or CalibrationInfo()
        at_1 = calibration.lora_weight
        low, high = self.range or (0.0 if self.one_way else -1.0, 1.0)
        card: dict[str, Any] = {
            "name": self.title or self.name or "slider",
            "minus": self.minus or ("base model" if self.one_way else "less"),
            "plus": self.plus or "more",
            "range": [round(low * at_1, 4), round(high * at_1, 4)],
            "at_1": round(at_1, 4),
            "unit": calibration.strength_1,
            "trigger": self.trigger,
            "preview": self.thumbnail,
        }
        if self.even_steps is not None:
            card["even_steps"] = [[place, round(strength * at_1, 4)] for place, strength in self.even_steps.points]
        return card

    def _own_fields(self) -> dict[str, str]:
        """What is said of the slider itself, as text."""
        calibration = self.calibration or CalibrationInfo()
        fields = {"slider_calibration": json.dumps(calibration.to_dict())}
        for name in TEXTS:
            if getattr(self, name):
                fields[f"slider_{name}"] = getattr(self, name)
        for name in ("range", "explained", "images", "trained_strengths", "step"):
            if getattr(self, name) is not None:
                fields[f"slider_{name}"] = json.dumps(getattr(self, name))
        if self.even_steps is not None:
            fields["slider_even_steps"] = json.dumps(self.even_steps.points)
        if self.in_controlnet:
            fields["slider_place"] = self.place.value
        if self.thumbnail:
            fields[THUMBNAIL] = self.thumbnail
        if self.trigger:
            fields[TRIGGER] = self.trigger
        if self.minus or self.plus:
            fields[DESCRIPTION] = self.ends()
        return fields

    def ends(self) -> str:
        """What both ends show, in a sentence."""
        if self.one_way:
            return f"Slider from {self.minus or 'the base model'} (0) to {self.plus or 'more'} (+1). {self._use()}"
        return f"Slider from {self.minus or 'less'} (-1) to {self.plus or 'more'} (+1). {self._use()}"

    def _use(self) -> str:
        return "Use strengths above 0 alone." if self.one_way else "Use strengths on both sides of 0."

    def _hint(self) -> str:
        return f"A strength above 0: +1 {self.plus or 'more'}, 0 the base model." if self.one_way else USAGE

    @property
    def one_way(self) -> bool:
        """Whether it was trained from 0 to +1 alone."""
        return self.sides == Sides.PLUS.value

    def _base_names(self) -> tuple[str, str]:
        """modelspec's and kohya's names of the base model: of ComfyUI's class, of the file that was read, of the backend."""
        if self.base_names is not None and not self.architecture:
            return self.base_names
        model = self.model or "unknown"
        return base_names(self.architecture or model.split("/")[0].split(" ")[0])

    @property
    def range_name(self) -> str:
        """What the range is of: strengths that were found to be useful, those that it was trained at, or neither is known."""
        if self.is_range_useful:
            return "useful range"
        trained = (0.0, *(self.trained_strengths or (-1.0, 1.0)))
        return "trained range" if self.step is not None and self.range == (min(trained), max(trained)) else "range"

    @property
    def is_range_useful(self) -> bool:
        """Whether a calibration has found it, of a slider that works, or a person has written it down."""
        calibration = self.calibration or CalibrationInfo()
        return calibration.by_hand or (calibration.calibrated and calibration.useful and is_trusted(self.judged))

    @property
    def in_controlnet(self) -> bool:
        """Whether its layers are those of a ControlNet."""
        return self.place is Place.CONTROLNET

    def labelled(self, minus: str, plus: str) -> SliderInfo:
        """The same with new labels; an empty one leaves the old."""
        return replace(self, minus=minus.strip() or self.minus, plus=plus.strip() or self.plus)

    def lora_weight(self, strength: float, units: Units | str = Units.CALIBRATED) -> float:
        """A strength as a LoRA loader would be given it; of a one-way slider 0 on the side that it has not."""
        if choice(Units, units, "Unit") is Units.RAW:
            return strength
        strength = self.calibrated_strength(strength, units)
        if self.one_way:
            strength = max(0.0, strength)
        if self.calibration is None:
            self.check("calibration", "Calibrate it anew, or use LoRA weights (units raw).")
            return strength
        return strength * self.calibration.lora_weight

    def calibrated_strength(self, strength: float, units: Units | str) -> float:
        """A strength of any units as a calibrated one. Where no even steps were measured, a place of the dial is one already."""
        chosen = choice(Units, units, "Unit")
        if chosen is Units.RAW:
            return strength / (self.calibration or CalibrationInfo()).lora_weight
        if chosen is Units.EVEN_STEPS and self.even_steps is not None:
            return self.even_steps.strength(strength)
        if chosen is Units.EVEN_STEPS:
            self.check("even_steps", "Measure them anew with Slider Report Card, or set units to calibrated.")
        return strength

    def units_note(self, units: Units | str) -> str:
        """A sentence where even steps are asked for and were not measured; else empty."""
        if choice(Units, units, "Unit") is not Units.EVEN_STEPS or self.even_steps is not None:
            return ""
        return "This slider has no even steps yet, so strengths are calibrated ones: Slider Report Card measures them on a sweep."

    def check(self, name: str, fix: str) -> None:
        """SliderError when that field of the header was there and could not be read."""
        need(name not in self.damaged, f"slider_{name} in the slider's header is damaged. {fix}", "slider_info.damaged")

    def summary(self, weights: Mapping[Target, LayerWeight]) -> str:
        """The file in a few readable lines."""
        rank, alpha = rank_and_alpha(weights, self.slices)
        counts = ", ".join(f"{kind} on {count} layers" for kind, count in kinds(weights, self.slices).items())
        lines = [f"{self.name or 'LoRA'}: {counts}, rank {rank}, alpha {alpha}."]
        if self.minus or self.plus:
            lines.append(f"-1: {self.minus or 'less'}; +1: {self.plus or 'more'}.")
        if self.calibration is not None and self.calibration.calibrated:
            lines.append(f"Calibrated: strength {self.calibration.lora_weight:.3g} is {self.calibration.strength_1}.")
        if self.model:
            lines.append(f"for: {self.model}")
        if self.range is not None:
            lines.append(f"{self.range_name}: {self.range[0]:g} to {self.range[1]:g}")
        if self.even_steps is not None:
            low, high = self.even_steps.points[0], self.even_steps.points[-1]
            lines.append(f"even steps: {low[0]:g} to {high[0]:g} on the dial are strengths {low[1]:g} to {high[1]:g}")
        if self.verdict:
            lines.append(f"verdict: {self.verdict}")
        if self.step is not None:
            lines.append(f"step: {self.step}")
        if self.prompts:
            lines.append(f"prompts: {self.prompts}")
        if self.damaged:
            lines.append(f"Damaged in the header, and left out: {', '.join(self.damaged)}.")
        return "\n".join(lines)


def _others(header: Mapping[str, str]) -> dict[str, str]:
    """Fields that are written again as they are. Of a file that another program wrote only modelspec's: the rest may hold
    paths."""
    ours = "slider_file" in header or "slider_training" in header
    written = SliderInfo().header({}, "", FileFormat.NATIVE, FileDtype.FP32).keys() - {DATE, DESCRIPTION}
    understood = {*written, THUMBNAIL, TRIGGER, LEGACY_HASH, *(f"slider_{name}" for name in (*TEXTS, *READERS))}
    other = {}
    for key, value in header.items():
        if key not in understood and (ours or key.startswith(("slider_", "modelspec."))):
            other[key] = value
    return other
