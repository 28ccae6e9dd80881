"""The inputs of Slider Train Step that are folded away, and how they become fields of a TrainSpec."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.config import Schedule, Timesteps, Weighting


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
        io.Int.Input("few_steps", default=4, min=1, max=100, advanced=True, optional=True),
        io.Float.Input("noise_from", default=0.0, tooltip="Lowest noise level to train at: 0 is clean.", **whole),
        io.Float.Input("noise_to", default=1.0, tooltip="Highest noise level to train at: 1 is pure noise.", **whole),
        io.Combo.Input(
            "weighting",
            options=Weighting,
            default=Weighting.AUTO,
            advanced=True,
            optional=True,
            tooltip="What an error counts at each noise level. auto: as the objective has it.",
        ),
        io.Combo.Input(
            "schedule",
            options=Schedule,
            default=Schedule.COSINE,
            advanced=True,
            optional=True,
            tooltip="How the learning rate goes over total_steps.",
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
            tooltip="What neutral images count beside the pairs.",
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
    """What is kept of the way, besides the autosave."""
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
            tooltip="How many of the last checkpoints stay; the best by gain stays too.",
        ),
    ]


def fine_spec(noise_from: float = 0.0, noise_to: float = 1.0, jitter: float = -1.0, **choices: Any) -> dict[str, Any]:
    """The folded-away inputs as fields of TrainSpec."""
    return choices | {"window": (noise_from, noise_to), "jitter": None if jitter < 0 else jitter}
