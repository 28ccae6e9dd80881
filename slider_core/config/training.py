"""How to train: every choice as a frozen dataclass or an Enum, checked when it is made, and three presets."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from .checks import JsonSpec, choice, is_number, need

LEAST_FACTOR = 0.1  # of the rate that prodigy finds
MOST_PARTS = 4096  # samples of a step's part, parts of a step
MOST_LR = 0.1  # of the other optional optimizers


class Objective(str, Enum):
    """How a step learns from the buckets (objective/ has the mathematics)."""

    DISPLACEMENT = "displacement"
    DENOISE_PAIRED = "denoise_paired"
    DENOISE_ROTATING = "denoise_rotating"
    TEACHER_DIFFERENCE = "teacher_difference"


class Sides(str, Enum):
    """Which sides of 0 a slider has. plus: from the base model at 0 to the positive images at +1, and no further down."""

    BOTH = "both"
    PLUS = "plus"


class Timesteps(str, Enum):
    """How noise levels are drawn (objective/noising.py): the model's own spacing, evenly, to the middle, a few-step sampler's.
    auto: to the middle for pairs that the objective would move and that stay in their places, else the model's."""

    AUTO = "auto"
    MODEL = "model"
    UNIFORM = "uniform"
    LOGIT_NORMAL = "logit_normal"
    FEW_STEP = "few_step"


class Optimizer(str, Enum):
    """What moves the weights (train/optimizers.py says what the learning rate means to each)."""

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
    """How to train. `batch` counts samples per step: with pairs, half of them positive and half negative. `steps` 0: until the
    slider is ready (train/progress_ready.py). `lr` 0: as a probe finds it (train/learning_rate.py)."""

    steps: int = 300
    lr: float = 2e-3
    batch: int = 4
    seed: int = 0
    objective: Objective = Objective.DISPLACEMENT
    timesteps: Timesteps = Timesteps.AUTO
    warmup: int = 10
    weight_decay: float = 0.0
    clip: float = 1.0
    checkpointing: bool = False  # compute every block twice and remember less in between
    window: tuple[float, float] = (0.0, 1.0)  # the noise levels that are drawn, from clean (0) to pure noise (1)
    few_steps: int = 4  # Timesteps.FEW_STEP: the sampler's steps
    weighting: Weighting = Weighting.AUTO
    snr_gamma: float = 5.0  # Weighting.MIN_SNR
    schedule: Schedule = Schedule.COSINE
    jitter: float | None = None  # how far a pair is moved at random, share of its side; None: as measured (moved_pairs.py)
    neutral_weight: float = 1.0  # what neutral images count beside the pairs
    optimizer: Optimizer = Optimizer.ADAMW
    accumulate: int = 1  # parts of a step, computed one after another: `batch` counts the samples of one part
    ema: float = 0.0  # decay of the average of the weights that is read and saved; 0: the weights themselves
    any_rate: bool = False  # train at `lr` even where it is far beyond what the probe finds
    sides: Sides = Sides.BOTH

    def __post_init__(self) -> None:
        self.convert("objective", Objective, "Objective")
        self.convert("optimizer", Optimizer, "Optimizer")
        self.convert("timesteps", Timesteps, "Timesteps")
        self.convert("schedule", Schedule, "Schedule")
        self.convert("weighting", Weighting, "Weighting")
        self.convert("sides", Sides, "Sides")
        self.check("window", isinstance(self.window, (tuple, list)), "two rising noise levels from 0 to 1")
        object.__setattr__(self, "window", tuple(self.window))
        self._check_numbers()
        self._check_optimizer()
        self._check_sides()

    @property
    def sampler_steps(self) -> int:
        """The steps of the sampler at whose noise levels alone a distilled model is trained; 0: at any level."""
        return self.few_steps if self.timesteps is Timesteps.FEW_STEP else 0

    def _check_numbers(self) -> None:
        for name in ("steps", "warmup"):
            self.check_whole(name, 0)
        for name in ("batch", "few_steps", "accumulate"):
            self.check_whole(name, 1, MOST_PARTS)
        for name in ("checkpointing", "any_rate"):
            self.check(name, isinstance(getattr(self, name), bool), "true or false")
        self.check("lr", is_number(self.lr) and 0 <= self.lr <= 10, "0, for the probe's, or a number up to 10")
        self.check("seed", isinstance(self.seed, int) and abs(self.seed) < 2**63, "a whole number of 63 bits")
        for name in ("clip", "snr_gamma"):
            value = getattr(self, name)
            self.check(name, is_number(value) and value > 0, "a positive number")
        for name in ("weight_decay", "neutral_weight"):
            value = getattr(self, name)
            self.check(name, is_number(value) and value >= 0, "0 up")
        self.check("window", _is_window(self.window), "two rising noise levels from 0 to 1")
        jitter_fits = self.jitter is None or (is_number(self.jitter) and 0 <= self.jitter <= 0.5)
        self.check("jitter", jitter_fits, "a share of the side from 0 to 0.5")
        pairs_fit = not self.paired or self.batch % 2 == 0
        self.check("batch", pairs_fit, f"even with {self.objective.value} (a positive and its negative)")

    def _check_sides(self) -> None:
        plain = self.sides is Sides.BOTH or self.objective is Objective.DISPLACEMENT
        message = f"A one-way slider is measured from the base model: set objective to displacement, got {self.objective.value}."
        need(plain, message, "train_spec.one_way")

    def _check_optimizer(self) -> None:
        self.check("ema", is_number(self.ema) and 0 <= self.ema < 1, "from 0 (off) to below 1")
        name = self.optimizer.value
        averages_twice = self.optimizer is Optimizer.SCHEDULE_FREE and self.ema > 0
        message = f"{name} averages the weights by itself: set ema to 0, got {self.ema!r}."
        need(not averages_twice, message, "train_spec.averages_twice")
        if self.optimizer is Optimizer.PRODIGY:
            low = f"{name} finds the learning rate by itself, and lr multiplies it: set lr to 0 or 1, got {self.lr!r}."
            need(not self.lr or self.lr >= LEAST_FACTOR, low, "train_spec.lr_too_low")
        elif self.optimizer is not Optimizer.ADAMW:
            high = f"lr {self.lr!r} is far too high for {name}: 0 takes the rate that a probe finds."
            need(self.lr <= MOST_LR, high, "train_spec.lr_too_high")

    @property
    def paired(self) -> bool:
        """Whether a step takes whole pairs, both signs in one batch."""
        return self.objective is not Objective.DENOISE_ROTATING


def _is_window(window: tuple[float, ...]) -> bool:
    if len(window) != 2 or not all(map(is_number, window)):
        return False
    clean, noisy = window
    return 0 <= clean < noisy <= 1


@dataclass(frozen=True)
class SaveSpec(JsonSpec):
    """How a run is kept on disk while it trains: `seconds` between two autosaves; a checkpoint `every` so many steps (0: none),
    of which the last `keep` and the best by gain stay. `slider`: the slider as a file beside its run."""

    seconds: float = 60.0
    every: int = 0
    keep: int = 3
    slider: bool = True

    def __post_init__(self) -> None:
        self.check("seconds", is_number(self.seconds) and self.seconds >= 0, "0 up")
        self.check_whole("every", 0)
        self.check_whole("keep", 1)


class TrainPreset(str, Enum):
    """How long and how carefully to train; custom: as each field says."""

    CUSTOM = "custom"
    QUICK = "quick"
    BALANCED = "balanced"
    CAREFUL = "careful"


_PLAIN = {"batch": 4, "warmup": 10, "schedule": Schedule.COSINE, "accumulate": 1, "ema": 0.0}
PRESETS: dict[TrainPreset, dict[str, Any]] = {
    TrainPreset.QUICK: {"steps": 100, **_PLAIN},
    TrainPreset.BALANCED: {"steps": 300, **_PLAIN},
    TrainPreset.CAREFUL: {"steps": 600, **_PLAIN, "ema": 0.99},
}


def preset_fields(preset: TrainPreset, optimizer: Optimizer = Optimizer.ADAMW) -> dict[str, Any]:
    """The fields of a TrainSpec that `preset` sets; none with custom. Schedule-Free averages by itself, so it gets no EMA."""
    fields = dict(PRESETS.get(preset, {}))
    if optimizer is Optimizer.SCHEDULE_FREE:
        fields.pop("ema", None)
    return fields


def chosen_spec(preset: TrainPreset | str = TrainPreset.CUSTOM, **choices: Any) -> TrainSpec:
    """A TrainSpec out of choices by field name (an Enum or its value), with those that `preset` sets replaced by it."""
    optimizer = choice(Optimizer, choices.get("optimizer", TrainSpec.optimizer), "Optimizer")
    return TrainSpec(**choices | preset_fields(choice(TrainPreset, preset, "Preset"), optimizer))
