"""Inputs that several nodes share."""

import comfy.samplers
from comfy_api.latest import io

from ..slider_core.lora.calibration import Units
from ..slider_core.use.sampling import AUTO
from .sockets import chooser, option

MOST_STRENGTH = 100.0
SEEDS = 0xFFFFFFFFFFFFFFFF
SAMPLER_STEPS = "Sampler steps. 0: as the model's family is drawn."
GUIDANCE = "Guidance scale. 0: as the model's family is drawn."
SETTINGS = "auto: as the model's family is drawn (docs/settings.md). manual: your own."
MANUAL = "manual"
AS_KSAMPLER = "As in KSampler. auto: as the model's family is drawn."
UNITS = (
    "calibrated: 1 is what the images show, where the slider knows it. even_steps: the same at 0 and +-1, with steps that look "
    "even, as Slider Report Card measures them. raw: the number that any LoRA loader takes."
)


def strength_input(name: str, default: float, tooltip: str) -> io.Float.Input:
    """A strength, on both sides of 0."""
    limits = {"min": -MOST_STRENGTH, "max": MOST_STRENGTH, "step": 0.05, "round": 0.001}
    return io.Float.Input(name, default=default, tooltip=tooltip, **limits)


def seed_input(name: str, tooltip: str, counts: bool = True) -> io.Int.Input:
    """A seed of noise; the browser counts it up after each run, or leaves it."""
    return io.Int.Input(name, default=0, min=0, max=SEEDS, control_after_generate=counts or None, tooltip=tooltip)


def settings_input() -> io.DynamicCombo.Input:
    """The sampler's settings by the names of SamplerSettings: the family's own, or as a KSampler has them, where 0 and auto are
    still the family's."""
    samplers = [AUTO, *comfy.samplers.KSampler.SAMPLERS]
    schedulers = [AUTO, *comfy.samplers.KSampler.SCHEDULERS]
    fields = [
        option("steps", io.Int, 0, SAMPLER_STEPS, min=0, max=1000),
        option("cfg", io.Float, 0.0, GUIDANCE, min=0.0, max=100.0, step=0.1, round=0.01),
        option("sampler_name", io.Combo, AUTO, AS_KSAMPLER, options=samplers),
        option("scheduler", io.Combo, AUTO, AS_KSAMPLER, options=schedulers),
    ]
    return chooser("settings", SETTINGS, {AUTO: [], MANUAL: fields})


def units_input() -> io.Combo.Input:
    """What a strength means, where a slider is used."""
    return option("units", io.Combo, Units.CALIBRATED, UNITS, options=Units)
