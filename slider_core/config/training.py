"""How to train: every choice as a frozen dataclass or an Enum, checked when it is made, and three presets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from .checks import JsonSpec, choice, is_number, is_whole, need

LEAST_FACTOR, MOST_LR = 0.1, 0.1  # of prodigy's own rate; of the rate of the other optional optimizers


class Objective(str, Enum):
    """How a step learns from the buckets (objective.py has the mathematics)."""

    DISPLACEMENT = "displacement"
    DENOISE_PAIRED = "denoise_paired"
    DENOISE_ROTATING = "denoise_rotating"
    TEACHER_DIFFERENCE = "teacher_difference"


class Timesteps(str, Enum):
    """How noise levels are drawn (noising.py): the model's own spacing, evenly, towards the middle, or a few-step sampler's."""

    MODEL = "model"
    UNIFORM = "uniform"
    LOGIT_NORMAL = "logit_normal"
    FEW_STEP = "few_step"


class Optimizer(str, Enum):
    """What moves the weights (optimizers.py says what the learning rate means to each)."""

    ADAMW = "adamw"
    ADAFACTOR = "adafactor"
    PRODIGY = "prodigy"
    ADAMW8BIT = "adamw8bit"
    SCHEDULE_FREE = "schedule_free"


class Schedule(str, Enum):
    """How the learning rate goes after the warm-up: as it is, or down to a twentieth at the end, by half a cosine or evenly."""

    CONSTANT = "constant"
    COSINE = "cosine"
    LINEAR = "linear"


class Weighting(str, Enum):
    """What an error counts at each noise level. auto: clean for the objectives that measure from the base model, else none."""

    AUTO = "auto"
    NONE = "none"
    CLEAN = "clean"
    MIN_SNR = "min_snr"


@dataclass(frozen=True)
class TrainSpec(JsonSpec):
    """How to train. `batch` counts samples per step: with pairs, half of them positive and half negative."""

    steps: int = 300
    lr: float = 2e-3
    batch: int = 4
    seed: int = 0
    objective: Objective = Objective.DISPLACEMENT
    timesteps: Timesteps = Timesteps.MODEL
    warmup: int = 10
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpointing: bool = False  # compute every block twice and remember less in between
    window: tuple[float, float] = (0.0, 1.0)  # the noise levels that are drawn, from clean (0) to pure noise (1)
    few_steps: int = 4  # Timesteps.FEW_STEP: the sampler's steps
    weighting: Weighting = Weighting.AUTO
    snr_gamma: float = 5.0  # Weighting.MIN_SNR
    schedule: Schedule = Schedule.COSINE
    jitter: float | None = None  # how far a pair is moved at random, share of its side; None: the objective's own
    neutral_weight: float = 1.0  # what neutral images count beside the pairs
    optimizer: Optimizer = Optimizer.ADAMW
    accumulate: int = 1  # parts of a step, computed one after another: `batch` counts the samples of one part
    ema: float = 0.0  # decay of the average of the weights that is read and saved; 0: the weights themselves

    def __post_init__(self) -> None:
        object.__setattr__(self, "objective", choice(Objective, self.objective, "Objective"))
        object.__setattr__(self, "optimizer", choice(Optimizer, self.optimizer, "Optimizer"))
        object.__setattr__(self, "timesteps", choice(Timesteps, self.timesteps, "Timesteps"))
        object.__setattr__(self, "schedule", choice(Schedule, self.schedule, "Schedule"))
        object.__setattr__(self, "weighting", choice(Weighting, self.weighting, "Weighting"))
        object.__setattr__(self, "window", tuple(self.window))
        for name, least in (("steps", 1), ("batch", 1), ("warmup", 0), ("few_steps", 1), ("accumulate", 1)):
            value = getattr(self, name)
            need(isinstance(value, int) and value >= least, f"{name} must be a whole number from {least}, got {value!r}.")
        need(isinstance(self.checkpointing, bool), f"checkpointing must be true or false, got {self.checkpointing!r}.")
        need(is_number(self.lr) and 0 < self.lr <= 10, f"lr must be a positive number up to 10, got {self.lr!r}.")
        seed_fits = isinstance(self.seed, int) and abs(self.seed) < 2**63
        need(seed_fits, f"seed must be a whole number of 63 bits, got {self.seed!r}.")
        for name in ("clip", "snr_gamma"):
            value = getattr(self, name)
            need(is_number(value) and value > 0, f"{name} must be a positive number, got {value!r}.")
        for name in ("weight_decay", "neutral_weight"):
            value = getattr(self, name)
            need(is_number(value) and value >= 0, f"{name} must be 0 up, got {value!r}.")
        ends = self.window if len(self.window) == 2 and all(is_number(e) for e in self.window) else (1, 0)
        need(0 <= ends[0] < ends[1] <= 1, f"window must be two rising noise levels from 0 to 1, got {self.window!r}.")
        moves = self.jitter is None or (is_number(self.jitter) and 0 <= self.jitter <= 0.5)
        need(moves, f"jitter must be a share of the side from 0 to 0.5, got {self.jitter!r}.")
        need(
            not self.paired or self.batch % 2 == 0,
            f"batch must be even with {self.objective.value} (a positive and its negative), got {self.batch}.",
        )
        self._check_optimizer()

    def _check_optimizer(self) -> None:
        need(is_number(self.ema) and 0 <= self.ema < 1, f"ema must be from 0 (off) to below 1, got {self.ema!r}.")
        name, free = self.optimizer.value, self.optimizer is Optimizer.SCHEDULE_FREE
        need(not (free and self.ema), f"{name} averages the weights by itself: set ema to 0, got {self.ema!r}.")
        if self.optimizer is Optimizer.PRODIGY:
            low = f"{name} finds the learning rate by itself, and lr multiplies it: set lr to 1 (0.1 to 10), got {self.lr!r}."
            need(self.lr >= LEAST_FACTOR, low)
        elif self.optimizer is not Optimizer.ADAMW:
            high = f"lr {self.lr!r} is far too high for {name}: 0.0002 is where to begin on large models, 0.002 on the tiny one."
            need(self.lr <= MOST_LR, high)

    @property
    def paired(self) -> bool:
        """Whether a step takes whole pairs, both signs in one batch."""
        return self.objective is not Objective.DENOISE_ROTATING


@dataclass(frozen=True)
class SaveSpec(JsonSpec):
    """How a run is kept on disk while it trains: `seconds` between two autosaves; a checkpoint `every` so many steps (0: none),
    of which the last `keep` and the best by gain stay."""

    seconds: float = 60.0
    every: int = 0
    keep: int = 3

    def __post_init__(self) -> None:
        need(is_number(self.seconds) and self.seconds >= 0, f"seconds must be 0 up, got {self.seconds!r}.")
        for name, least in (("every", 0), ("keep", 1)):
            need(
                is_whole(getattr(self, name), least), f"{name} must be a whole number from {least}, got {getattr(self, name)!r}."
            )


class TrainPreset(str, Enum):
    """How long and how carefully to train; custom: as each field says."""

    CUSTOM = "custom"
    QUICK = "quick"
    BALANCED = "balanced"
    CAREFUL = "careful"


_PLAIN = {"batch": 4, "warmup": 10, "schedule": Schedule.COSINE, "accumulate": 1, "ema": 0.0}
PRESETS: dict[TrainPreset, dict[str, Any]] = {
    TrainPreset.QUICK: {"steps": 100, **_PLAIN},
    TrainPreset.BALANCED: {name: getattr(TrainSpec, name) for name in ("steps", *_PLAIN)},
    TrainPreset.CAREFUL: {"steps": 600, **_PLAIN, "ema": 0.99},
}


def preset_fields(preset: TrainPreset, optimizer: Optimizer = Optimizer.ADAMW) -> dict[str, Any]:
    """The fields of a TrainSpec that `preset` sets; none with custom. Schedule-Free averages by itself, so it gets no EMA."""
    fields = PRESETS.get(preset, {})
    free = optimizer is Optimizer.SCHEDULE_FREE
    return {name: value for name, value in fields.items() if not (free and name == "ema")}
