"""Inputs that several nodes share, and what they mean together."""

from dataclasses import dataclass
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.sampling import AUTO, SamplerSettings
from ..slider_core.use.schedule import Mode, Window, parse_points
from ..slider_core.with_comfy.slider_apply import apply, found_on
from .messages import say
from .sockets import option

SEEDS = 0xFFFFFFFFFFFFFFFF
SAMPLER_STEPS = "Sampler steps. 0: as the model's family is drawn (docs/settings.md)."
GUIDANCE = "Guidance scale. 0: as the model's family is drawn."
AS_KSAMPLER = "As in KSampler. auto: as the model's family is drawn."
UNITS = "calibrated: 1 is what the images show, where the slider knows it. raw: the number that any LoRA loader takes."
START = "The slider acts from here on. 0.2 to 0.4 leaves the layout of the picture as it is."
END = "The slider acts up to here. 0 is the first sigma of the model's schedule, 1 the last."
CURVE = "How much of the strength counts when, as percent: share, lines between: 0.2: 0, 0.5: 1. Empty: all of it."
MODE = (
    "merge: into the weights, at full speed. live: beside the weights; it may change during the sampling. "
    "auto: merge, and live where a window or a curve asks for it."
)
PERCENT = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}


def strength_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    """A strength, on both sides of 0."""
    return io.Float.Input(name, default=default, min=-100.0, max=100.0, step=0.05, round=0.001, tooltip=tooltip)


def seed_input(name: str, tooltip: str, counts: bool = True) -> io.Int.Input:
    """A seed of noise; the browser counts it up after each run, or leaves it."""
    return io.Int.Input(name, default=0, min=0, max=SEEDS, control_after_generate=counts or None, tooltip=tooltip)


def sampler_inputs() -> list[io.Input]:
    """The sampler settings, as a KSampler has them, and 0 or auto for what the model likes."""
    samplers = [AUTO, *comfy.samplers.KSampler.SAMPLERS]
    schedulers = [AUTO, *comfy.samplers.KSampler.SCHEDULERS]
    return [
        io.Int.Input("steps", default=0, min=0, max=1000, tooltip=SAMPLER_STEPS),
        io.Float.Input("cfg", default=0.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip=GUIDANCE),
        io.Combo.Input("sampler_name", options=samplers, default=AUTO, tooltip=AS_KSAMPLER),
        io.Combo.Input("scheduler", options=schedulers, default=AUTO, tooltip=AS_KSAMPLER),
    ]


def most_at_once_input() -> io.Int.Input:
    """How much of the memory one sampling call may take."""
    return option("most_at_once", io.Int, 0, "Strengths in one sampling call. 0: as many as the memory holds.", min=0, max=1000)


@dataclass(frozen=True, kw_only=True)
class SamplerInputs:
    """What those inputs give, by their names."""

    steps: int = 0
    cfg: float = 0.0
    sampler_name: str = AUTO
    scheduler: str = AUTO

    def settings(self) -> SamplerSettings:
        return SamplerSettings(self.steps, self.cfg, self.sampler_name, self.scheduler)


def units_input() -> io.Combo.Input:
    """What a strength means, where a slider is used."""
    return option("units", io.Combo, Units.CALIBRATED, UNITS, options=Units)


def apply_inputs() -> list[io.Input]:
    """What a strength means, when a slider acts, and how it comes onto a model. The curve is text and not ComfyUI's CURVE, whose
    editor ends at 0 and 1: a strength may change its sign."""
    return [
        units_input(),
        option("start_percent", io.Float, 0.0, START, **PERCENT),
        option("end_percent", io.Float, 1.0, END, **PERCENT),
        option("curve", io.String, "", CURVE),
        option("mode", io.Combo, Mode.AUTO, MODE, options=Mode),
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
        if strength:
            slider = found_on(slider, model, control_net)
            lines = slider.left_out_lines()
            if lines:
                say("\n".join(lines))
        window = Window(self.start_percent, self.end_percent, parse_points(self.curve))
        return apply(slider, strength, model, control_net, window, self.mode, self.units)
