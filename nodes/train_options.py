"""SliderTrainOptions: what of a training seldom needs a change."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.config.training import Objective, Optimizer, Schedule, Sides, Timesteps, Weighting
from ..slider_core.train.training_choices import TrainChoices
from .sockets import TRAINING_MENU, TrainOptionsSocket, chooser, flattened, option

OBJECTIVE = (
    "displacement: learns what sets a pair apart. denoise_paired: Concept Sliders. denoise_rotating: SimpleTuner's cycle. "
    "teacher_difference: like ADDifT."
)
SIDES = "plus: a one-way slider, from the base model at 0 to the positive images at +1, for concepts whose opposite is no mirror."
ANY_RATE = "On: train at learning_rate even where it is far beyond what the probe finds."
CHECKPOINTING = "On: gradient checkpointing: slower, much less memory, the same result. Off: only where memory is short."
TIMESTEPS = (
    "Noise levels to train at. few_step: those of a distilled model's sampler alone. auto: few_step for such a model, "
    "logit_normal where the pairs are not moved, else model."
)
JITTER = (
    "How far both images of a pair are shifted at random, share of the side. -1: measured; 1/16, or 0 where the model knows no "
    "moved ones."
)
CALIBRATE = "On: after training, find the strength that shows what the images show, and make it 1."
OPTIMIZER = (
    "prodigy finds the rate itself: leave learning_rate at 0. Some are packages of their own; the error names the pip command."
)
EMA = "Decay of an average of the weights, which is shown and saved: 0.99 is about the last 100 steps. 0: none."
STEPS_PER_RUN = "Steps to train each time the graph runs. 0: all that are left."
RESOLUTION = "Size in pixels (side of a square of the same area). 0: as the model's family is trained (docs/settings.md)."
STRIP = "Strengths of the strip: a list, or a range start:stop:step."
ACCUMULATE = "Batches in one step, one after another: a larger batch without its memory."
SHARE = {"min": 0.0, "max": 1.0, "step": 0.01}
MOST = 100000
NEVER, EVERY = "never", "every"


def resolution_input() -> io.Int.Input:
    """The size at which a dataset's images are encoded."""
    return io.Int.Input("resolution", default=0, min=0, max=4096, step=8, tooltip=RESOLUTION, optional=True)


def learning_inputs() -> list[io.Input]:
    """What a step learns, and from which noise levels."""
    few_steps = option("few_steps", io.Int, 0, "The sampler's steps. 0: the model's.", min=0, max=100)
    kinds = [kind.value for kind in Timesteps]
    levels = {kind: [few_steps] if kind == Timesteps.FEW_STEP.value else [] for kind in kinds}
    neutral = "Loss weight of neutral images: they stay as they are."
    return [
        option("objective", io.Combo, Objective.DISPLACEMENT, OBJECTIVE, options=Objective),
        chooser("timesteps", TIMESTEPS, levels, optional=True),
        option("noise_from", io.Float, 0.0, "Lowest noise level to train at: 0 is clean.", **SHARE),
        option("noise_to", io.Float, 1.0, "Highest noise level to train at: 1 is pure noise.", **SHARE),
        option("weighting", io.Combo, Weighting.AUTO, "Loss weighting. auto: as the objective has it.", options=Weighting),
        option("jitter", io.Float, -1.0, JITTER, min=-1.0, max=0.5, step=0.01),
        option("neutral_weight", io.Float, 1.0, neutral, min=0.0, max=100.0, step=0.05),
        option("sides", io.Combo, Sides.BOTH, SIDES, options=Sides),
    ]


def optimizer_inputs() -> list[io.Input]:
    """The optimizer and what steadies it. Schedule-Free averages by itself."""
    ema = option("ema", io.Float, 0.0, EMA, min=0.0, max=0.9999, step=0.001, round=0.0001)
    averages = {kind.value: [] if kind is Optimizer.SCHEDULE_FREE else [ema] for kind in Optimizer}
    return [
        chooser("optimizer", OPTIMIZER, averages, optional=True),
        option("schedule", io.Combo, Schedule.COSINE, "How the learning rate changes over the steps.", options=Schedule),
        option("warmup", io.Int, 10, "Warm-up steps of the learning rate.", min=0, max=MOST),
        option("accumulate", io.Int, 1, ACCUMULATE, min=1, max=1024),
        option("any_rate", io.Boolean, False, ANY_RATE),
    ]


def course_inputs() -> list[io.Input]:
    """How a training goes: in parts, what it shows and keeps meanwhile."""
    every = option("checkpoint_every", io.Int, 100, "Steps between two checkpoints, in output/sliders.", min=1, max=MOST)
    kept = option("checkpoints_kept", io.Int, 3, "How many of the last stay; the best one stays too.", min=1, max=1000)
    return [
        option("steps_per_run", io.Int, 0, STEPS_PER_RUN, min=0, max=MOST),
        option("calibrate", io.Boolean, True, CALIBRATE),
        option("strip_strengths", io.String, "-1, 0, 1", STRIP),
        option("strip_every", io.Int, 50, "Steps between two strips. 0: only at the end.", min=0, max=MOST),
        chooser("checkpoints", "Keep the slider as it is every so many steps.", {NEVER: [], EVERY: [every, kept]}, optional=True),
    ]


class SliderTrainOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        batch = "Images per step: with pairs, half of them positive. 0: as the model's family is trained."
        return io.Schema(
            node_id="SliderTrainOptions",
            display_name="Slider Train Options",
            category=TRAINING_MENU,
            description="What of a training seldom needs a change. Without this node the model's family decides.",
            search_aliases=["optimizer", "learning rate schedule", "gradient checkpointing", "training resolution"],
            inputs=[
                option("batch", io.Int, 0, batch, min=0, max=64),
                resolution_input(),
                option("checkpointing", io.Boolean, True, CHECKPOINTING),
                *learning_inputs(),
                *optimizer_inputs(),
                *course_inputs(),
            ],
            outputs=[TrainOptionsSocket.Output(display_name="options", tooltip="For Slider Train Step.")],
        )

    @classmethod
    def execute(cls, checkpoints: dict[str, Any] | None = None, **inputs: Any) -> io.NodeOutput:
        kept = flattened(checkpoints or {})
        if kept.pop("checkpoints", NEVER) == NEVER:
            kept = {"checkpoint_every": 0}
        return io.NodeOutput(TrainChoices(name="", **flattened(inputs), **kept))


NODES = [SliderTrainOptions]
