"""The inputs of Slider Train Step; what they become lies in slider_core/train/training_choices.py."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.config.training import (
    Objective,
    Optimizer,
    Schedule,
    Timesteps,
    TrainPreset,
    Weighting,
    preset_fields,
)
from ..slider_core.train.training_choices import AUTO
from .sockets import option

OBJECTIVE = (
    "displacement: learns what sets a pair apart. denoise_paired: Concept Sliders. denoise_rotating: SimpleTuner's cycle. "
    "teacher_difference: like ADDifT."
)
RATE = "0: found by a probe of a few batches, for every model, rank and algorithm."
ANY_RATE = "On: train at learning_rate even where it is far beyond what the probe finds."
RESET = "On: every run begins anew, and what was trained under this name is discarded. Switch it off again afterwards."
CHECKPOINTING = "On: gradient checkpointing: slower, much less memory, the same result. Off: only where memory is short."
TIMESTEPS = "Noise levels to train at. few_step: those of a distilled model's sampler alone. auto: few_step for such a model."
JITTER = "How far both images of a pair are shifted at random, share of the side. -1: as the objective has it."
CALIBRATE = "On: after training, find the strength that shows what the images show, and make it 1."
OPTIMIZER = (
    "prodigy finds the rate itself: leave learning_rate at 0. Some are packages of their own; the error names the pip command."
)
EMA = "Decay of an average of the weights, which is shown and saved: 0.99 is about the last 100 steps. 0: none."
PRESET = "quick, balanced and careful set steps, total_steps, batch, warmup, schedule, accumulate and ema."
SHARE = {"min": 0.0, "max": 1.0, "step": 0.01}
MOST = 100000


def main_inputs() -> list[io.Input]:
    """What is seen at once."""
    return [
        io.String.Input("name", default="my_slider", tooltip="The slider under training. The same name continues it."),
        io.Int.Input("steps", default=0, min=0, max=MOST, tooltip="Steps to train each time the graph runs. 0: all."),
        io.Int.Input("total_steps", default=0, min=0, max=MOST, tooltip="Training ends here. 0: when the slider is ready."),
        io.Float.Input("learning_rate", default=0.0, min=0.0, max=1.0, step=1e-5, round=1e-7, tooltip=RATE),
        io.Int.Input("batch", default=0, min=0, max=64, tooltip="Images per step: with pairs, half of them positive. 0: 4."),
        io.Combo.Input("objective", options=Objective, default=Objective.DISPLACEMENT, tooltip=OBJECTIVE),
        io.Int.Input("training_seed", default=0, min=0, max=2**31 - 1, tooltip="Noise and order of the training."),
        resolution_input(),
        io.Boolean.Input("reset", default=False, advanced=True, tooltip=RESET),
        option("checkpointing", io.Boolean, True, CHECKPOINTING),
    ]


def resolution_input() -> io.Int.Input:
    """The size at which a dataset's images are encoded."""
    tooltip = "Size in pixels (side of a square of the same area). 0: as the model's family is trained (docs/settings.md)."
    return io.Int.Input("resolution", default=0, min=0, max=4096, step=8, advanced=True, tooltip=tooltip)


def fine_inputs() -> list[io.Input]:
    """What seldom needs a change, folded away."""
    return [
        option("timesteps", io.Combo, AUTO, TIMESTEPS, options=[AUTO, *(kind.value for kind in Timesteps)]),
        option("few_steps", io.Int, 0, "The sampler's steps, for few_step. 0: the model's.", min=0, max=100),
        option("noise_from", io.Float, 0.0, "Lowest noise level to train at: 0 is clean.", **SHARE),
        option("noise_to", io.Float, 1.0, "Highest noise level to train at: 1 is pure noise.", **SHARE),
        option("weighting", io.Combo, Weighting.AUTO, "Loss weighting. auto: as the objective has it.", options=Weighting),
        option("schedule", io.Combo, Schedule.COSINE, "How the learning rate changes over total_steps.", options=Schedule),
        option("jitter", io.Float, -1.0, JITTER, min=-1.0, max=0.5, step=0.01),
        option(
            "neutral_weight",
            io.Float,
            1.0,
            "Loss weight of neutral images: they stay as they are.",
            min=0.0,
            max=100.0,
            step=0.05,
        ),
        option("calibrate", io.Boolean, True, CALIBRATE),
        option("strip_strengths", io.String, "-1, 0, 1", "Strengths of the strip: a list, or a range start:stop:step."),
        option("strip_every", io.Int, 50, "Steps between two strips. 0: only at the end.", min=0, max=MOST),
        option(
            "checkpoint_every", io.Int, 0, "Keep the slider every so many steps in output/sliders. 0: never.", min=0, max=MOST
        ),
        option("checkpoints_kept", io.Int, 3, "How many of the last checkpoints stay; the best one stays too.", min=1, max=1000),
    ]


def optimizer_inputs() -> list[io.Input]:
    """The optimizer and what steadies it."""
    presets = {"presets": {preset.value: widgets(preset) for preset in TrainPreset}}
    return [
        option("optimizer", io.Combo, Optimizer.ADAMW, OPTIMIZER, options=Optimizer),
        option("warmup", io.Int, 10, "Warm-up steps of the learning rate.", min=0, max=MOST),
        option(
            "accumulate", io.Int, 1, "Batches in one step, one after another: a larger batch without its memory.", min=1, max=1024
        ),
        option("ema", io.Float, 0.0, EMA, min=0.0, max=0.9999, step=0.001, round=0.0001),
        option("any_rate", io.Boolean, False, ANY_RATE),
        option("preset", io.Combo, TrainPreset.CUSTOM, PRESET, options=TrainPreset, extra_dict=presets),
    ]


def widgets(preset: TrainPreset) -> dict[str, Any]:
    """The inputs that a preset sets, for the browser, which fills them in."""
    values = {}
    for name, value in preset_fields(preset).items():
        values[name] = value.value if isinstance(value, Schedule) else value
    if values:
        values["total_steps"] = values["steps"]
    return values
