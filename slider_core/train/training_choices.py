"""Every choice of a training by the name of the nodes' input, with 0 and "auto" for what the model's family likes.

In: what a person chose, in Slider Train Step and its options or on the command line. Out: a TrainSpec for one model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from ..config.checks import counted
from ..config.training import (
    Objective,
    Optimizer,
    SaveSpec,
    Schedule,
    Sides,
    Timesteps,
    TrainPreset,
    TrainSpec,
    Weighting,
    chosen_spec,
)
from ..families.table import Preferences

AUTO = "auto"


def end_of_run(step: int, steps_per_run: int, end: int) -> int:
    """The step that this run trains to: `steps_per_run` more, 0 for all, and not beyond the end of the training."""
    return max(step, min(end, step + steps_per_run if steps_per_run else end))


@dataclass(frozen=True, kw_only=True)
class TrainChoices:
    """The inputs of Slider Train Step and Slider Train Options but for the sockets. `preset`: of the command line alone."""

    name: str
    steps: int = 0
    steps_per_run: int = 0
    learning_rate: float = 0.0
    batch: int = 0
    objective: str = Objective.DISPLACEMENT.value
    training_seed: int = 0
    resolution: int = 0
    checkpointing: bool = True
    timesteps: str = AUTO
    few_steps: int = 0
    noise_from: float = 0.0
    noise_to: float = 1.0
    weighting: str = Weighting.AUTO.value
    schedule: str = Schedule.COSINE.value
    jitter: float = -1.0
    neutral_weight: float = 1.0
    calibrate: bool = True
    strip_strengths: str = "-1, 0, 1"
    strip_every: int = 50
    checkpoint_every: int = 0
    checkpoints_kept: int = 3
    optimizer: str = Optimizer.ADAMW.value
    warmup: int = 10
    accumulate: int = 1
    ema: float = 0.0
    any_rate: bool = False
    sides: str = Sides.BOTH.value
    preset: str = TrainPreset.CUSTOM.value

    def for_model(self, likes: Preferences) -> TrainChoices:
        """With what the model's family wants in the place of 0 and auto."""
        timesteps = self.timesteps
        if timesteps == AUTO and likes.few_steps:
            timesteps = Timesteps.FEW_STEP.value
        return replace(
            self,
            resolution=self.resolution or likes.training.resolution,
            batch=self.batch or likes.training.batch,
            timesteps=timesteps,
            few_steps=self.few_steps or likes.few_steps or TrainSpec.few_steps,
        )

    def taken(self, likes: Preferences) -> str:
        """What the model's family chose, in one sentence; empty where a person chose everything."""
        chosen = []
        if not self.resolution:
            chosen.append(f"{likes.training.resolution} pixels")
        if not self.batch:
            chosen.append(f"batch {likes.training.batch}")
        if self.timesteps == AUTO and likes.few_steps:
            chosen.append(f"the noise levels of {counted(likes.few_steps, 'sampler step')}")
        if not chosen:
            return ""
        named = f" (by the name {likes.reason})" if likes.reason else ""
        return f"Trained as {likes.title}{named}: {', '.join(chosen)}."

    def saves(self) -> SaveSpec:
        return SaveSpec(every=self.checkpoint_every, keep=self.checkpoints_kept)

    def train_spec(self) -> TrainSpec:
        """Those that are fields of a TrainSpec, under its names."""
        names = {field.name for field in fields(TrainSpec)} - {"steps", "lr", "seed", "window", "jitter"}
        same = {name: value for name, value in asdict(self).items() if name in {*names, "preset"}}
        jitter = None if self.jitter < 0 else self.jitter
        window = (self.noise_from, self.noise_to)
        return chosen_spec(steps=self.steps, lr=self.learning_rate, seed=self.training_seed, window=window, jitter=jitter, **same)
