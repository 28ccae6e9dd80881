"""The inputs of nodes: numbers, texts and choices in short, and those that several nodes share with what they mean together."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.sampling import Sampling
from ..slider_core.use.schedule import Mode, Window, parse_points
from ..slider_core.with_comfy.slider_apply import apply

SEEDS = 0xFFFFFFFFFFFFFFFF
FOLDED = {"advanced": True, "optional": True}


def whole(name: str, default: int, limits: tuple[int, ...], tooltip: str, **flags: Any) -> io.Int.Input:
    """A whole number; `limits`: least, most, maybe the step."""
    return io.Int.Input(
        name, default=default, tooltip=tooltip, **dict(zip(("min", "max", "step"), limits, strict=False)), **flags
    )


def number(name: str, default: float, limits: tuple[float, ...], tooltip: str, **flags: Any) -> io.Float.Input:
    """A number; `limits`: least, most, step, maybe the digits that are kept."""
    limited = dict(zip(("min", "max", "step", "round"), limits, strict=False))
    return io.Float.Input(name, default=default, tooltip=tooltip, **limited, **flags)


def choice(name: str, default: Enum, tooltip: str, **flags: Any) -> io.Combo.Input:
    """One of an Enum."""
    return io.Combo.Input(name, options=type(default), default=default, tooltip=tooltip, **flags)


def text(name: str, default: str, tooltip: str, **flags: Any) -> io.String.Input:
    return io.String.Input(name, default=default, tooltip=tooltip, **flags)


def switch(name: str, default: bool, tooltip: str, **flags: Any) -> io.Boolean.Input:
    return io.Boolean.Input(name, default=default, tooltip=tooltip, **flags)


def strength_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    """A strength, on both sides of 0."""
    return io.Float.Input(name, default=default, min=-100.0, max=100.0, step=0.05, round=0.001, tooltip=tooltip)


def seed_input(name: str, tooltip: str, counts: bool = True) -> io.Int.Input:
    """A seed of noise; the browser counts it up after each run, or leaves it."""
    return io.Int.Input(name, default=0, min=0, max=SEEDS, control_after_generate=counts or None, tooltip=tooltip)


def sampler_inputs() -> list[io.Input]:
    """The sampler settings, as a KSampler has them."""
    return [
        whole("steps", 20, (1, 1000), "Sampler steps."),
        number(
            "cfg", 1.0, (0.0, 100.0, 0.1, 0.01), "Guidance: 1 for the demo model and distilled models, 5 to 8 for SD and SDXL."
        ),
        io.Combo.Input("sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="euler", tooltip="As in KSampler."),
        io.Combo.Input("scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="simple", tooltip="As in KSampler."),
    ]


def most_at_once_input() -> io.Int.Input:
    """How much of the memory one sampling call may take."""
    tooltip = "Strengths in one sampling call. 0: as many as the free memory holds."
    return whole("most_at_once", 0, (0, 1000), tooltip, **FOLDED)


@dataclass(frozen=True, kw_only=True)
class SamplerInputs:
    """What those inputs give, by their names."""

    steps: int
    cfg: float
    sampler_name: str
    scheduler: str
    most_at_once: int = 0

    def sampling(self, positive: Any, negative: Any, latent: Mapping[str, Any], seed: int) -> Sampling:
        return Sampling(
            positive,
            negative,
            latent,
            seed,
            self.steps,
            self.cfg,
            self.sampler_name,
            self.scheduler,
            most_at_once=self.most_at_once,
        )


def units_input() -> io.Combo.Input:
    """What a strength means, where a slider is used."""
    return choice(
        "units",
        Units.CALIBRATED,
        "calibrated: 1 is what the images show, where the slider knows it. raw: the number that any LoRA loader takes.",
        **FOLDED,
    )


def apply_inputs() -> list[io.Input]:
    """What a strength means, when a slider acts, and how it comes onto a model. The curve is text and not ComfyUI's CURVE, whose
    editor ends at 0 and 1: a strength may change its sign."""
    return [
        units_input(),
        number(
            "start_percent",
            0.0,
            (0.0, 1.0, 0.01, 0.001),
            "The slider acts from here on. 0.2 to 0.4 leaves the layout of the picture as it is.",
            **FOLDED,
        ),
        number(
            "end_percent",
            1.0,
            (0.0, 1.0, 0.01, 0.001),
            "The slider acts up to here. 0 is the first sigma of the model's schedule, 1 the last.",
            **FOLDED,
        ),
        text(
            "curve",
            "",
            "How much of the strength counts when, as percent: share, lines between: 0.2: 0, 0.5: 1. Empty: all of it.",
            **FOLDED,
        ),
        choice(
            "mode",
            Mode.AUTO,
            "merge: into the weights, as any LoRA loader does; full speed. live: beside the weights; no patching, and "
            "it may change during the sampling. auto: merge, and live where a window or a curve asks for it.",
            **FOLDED,
        ),
    ]


@dataclass(frozen=True, kw_only=True)
class ApplyInputs:
    """What those inputs give, by their names."""

    units: str = Units.CALIBRATED.value
    start_percent: float = 0.0
    end_percent: float = 1.0
    curve: str = ""
    mode: str = Mode.AUTO.value

    def apply(self, slider: Slider, strength: float, model: Any, control_net: Any = None) -> tuple[Any, Any]:
        """(MODEL, CONTROL_NET) with the slider on one of them."""
        window = Window(self.start_percent, self.end_percent, parse_points(self.curve))
        return apply(slider, strength, model, control_net, window, self.mode, self.units)
