"""The inputs of Slider Train Step that are folded away, and how they become fields of a TrainSpec."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.config.training import (
    Optimizer,
    Schedule,
    Timesteps,
    TrainPreset,
    TrainSpec,
    Weighting,
    chosen_spec,
    preset_fields,
)


def resolution_input() -> io.Int.Input:
    """The size at which a dataset's images are encoded."""
    return io.Int.Input(
        "resolution",
        default=0,
        min=0,
        max=4096,
        step=8,
        advanced=True,
        tooltip="Size in pixels (side of a square of the same area). 0: 512, or 64 on the demo model.",
    )


def fine_inputs() -> list[io.Input]:
    """What seldom needs a change, folded away."""
    whole = {"min": 0.0, "max": 1.0, "step": 0.01, "advanced": True, "optional": True}
    return [
        io.Combo.Input(
            "timesteps",
            options=Timesteps,
            default=Timesteps.MODEL,
            advanced=True,
            optional=True,
            tooltip="Noise levels to train at. model: spaced as the model's own schedule. few_step: only those that a sampler of "
            "few_steps steps asks for: Turbo, Lightning, Schnell.",
        ),
        io.Int.Input(
            "few_steps", default=4, min=1, max=100, advanced=True, optional=True, tooltip="The sampler's steps, for few_step."
        ),
        io.Float.Input("noise_from", default=0.0, tooltip="Lowest noise level to train at: 0 is clean.", **whole),
        io.Float.Input("noise_to", default=1.0, tooltip="Highest noise level to train at: 1 is pure noise.", **whole),
        io.Combo.Input(
            "weighting",
            options=Weighting,
            default=Weighting.AUTO,
            advanced=True,
            optional=True,
            tooltip="How errors are weighted over noise levels. auto: as the objective has it.",
        ),
        io.Combo.Input(
            "schedule",
            options=Schedule,
            default=Schedule.COSINE,
            advanced=True,
            optional=True,
            tooltip="How the learning rate changes over total_steps.",
        ),
        io.Float.Input(
            "jitter",
            default=-1.0,
            min=-1.0,
            max=0.5,
            step=0.01,
            advanced=True,
            optional=True,
            tooltip="How far both images of a pair are moved at random, share of the side, so that a slider does not learn where "
            "things lie. -1: as the objective has it.",
        ),
        io.Float.Input(
            "neutral_weight",
            default=1.0,
            min=0.0,
            max=100.0,
            step=0.05,
            advanced=True,
            optional=True,
            tooltip="What neutral images count beside the pairs: they stay as they are.",
        ),
        io.Boolean.Input(
            "calibrate",
            default=True,
            advanced=True,
            optional=True,
            tooltip="On: after training, find the strength that shows what the images show, and make it 1. Forward passes only.",
        ),
    ]


def checkpoint_inputs() -> list[io.Input]:
    """Checkpoints, besides the autosave."""
    return [
        io.Int.Input(
            "checkpoint_every",
            default=0,
            min=0,
            max=100000,
            advanced=True,
            optional=True,
            tooltip="Keep the slider as it is every so many steps, in output/sliders/<name>. 0: never.",
        ),
        io.Int.Input(
            "checkpoints_kept",
            default=3,
            min=1,
            max=1000,
            advanced=True,
            optional=True,
            tooltip="How many of the last checkpoints stay; the best by explained share stays too.",
        ),
    ]


def optimizer_inputs() -> list[io.Input]:
    """The optimizer and what steadies it."""
    more = {"advanced": True, "optional": True}
    return [
        io.Combo.Input(
            "optimizer",
            options=Optimizer,
            default=Optimizer.ADAMW,
            tooltip="The optimizer. prodigy finds the rate itself: set learning_rate to 1. prodigy, adamw8bit and "
            "schedule_free are packages of their own; the error names the pip command.",
            **more,
        ),
        io.Int.Input(
            "warmup", default=10, min=0, max=100000, tooltip="Steps in which the learning rate rises to its value.", **more
        ),
        io.Int.Input(
            "accumulate",
            default=1,
            min=1,
            max=1024,
            tooltip="Batches in one step, computed one after another: a larger batch without its memory, in as much more time.",
            **more,
        ),
        io.Float.Input(
            "ema",
            default=0.0,
            min=0.0,
            max=0.9999,
            step=0.001,
            round=0.0001,
            tooltip="Decay of an average of the weights, which is what is shown and saved: 0.99 is about the last 100 steps. "
            "0: the weights themselves.",
            **more,
        ),
        io.Combo.Input(
            "preset",
            options=TrainPreset,
            default=TrainPreset.CUSTOM,
            tooltip="quick, balanced and careful set steps, total_steps, batch, warmup, schedule, accumulate and ema. custom: as "
            "these inputs say.",
            extra_dict={"presets": {preset.value: widgets(preset) for preset in TrainPreset}},
            **more,
        ),
    ]


def widgets(preset: TrainPreset) -> dict[str, Any]:
    """The inputs that a preset sets, for the browser, which fills them in."""
    values = {}
    for name, value in preset_fields(preset).items():
        values[name] = value.value if isinstance(value, Schedule) else value
    if values:
        values["total_steps"] = values["steps"]
    return values


def lengths(preset: str, steps: int, total_steps: int) -> tuple[int, int]:
    """(steps, total_steps) as the preset has them, else as they are."""
    preset_steps = preset_fields(TrainPreset(preset)).get("steps")
    return (preset_steps, preset_steps) if preset_steps else (steps, total_steps)


def train_spec(
    total_steps: int,
    learning_rate: float,
    training_seed: int,
    noise_from: float = 0.0,
    noise_to: float = 1.0,
    jitter: float = -1.0,
    **choices: Any,
) -> TrainSpec:
    """The inputs as a TrainSpec; those that are no field of it under their own names."""
    return chosen_spec(
        steps=total_steps,
        lr=learning_rate,
        seed=training_seed,
        window=(noise_from, noise_to),
        jitter=None if jitter < 0 else jitter,
        **choices,
    )
