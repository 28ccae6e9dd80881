"""Every choice as a frozen dataclass or an Enum, checked when it is made, JSON both ways.

A wrong value raises SliderError with the value and the mend; a misspelt key is an error with the nearest name.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

MOST_STRENGTHS = 1000
LEAST_FACTOR, MOST_LR = 0.1, 0.1  # of prodigy's own rate; of the rate of the other optional optimizers
Spec = TypeVar("Spec", bound="JsonSpec")


class SliderError(ValueError):
    """A fault the user can mend. The message is one line: the file or value, what is wrong, what to do."""


def nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    """`; did you mean "x"?` when something known is close to `name`, else the list of what is known."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}."


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


class Preset(str, Enum):
    """Which layers a slider may touch: these, or the name of an architecture's family (targets.py)."""

    AUTO = "auto"
    REFERENCE = "reference"
    ALL = "all"
    CUSTOM = "custom"


class Algorithm(str, Enum):
    """How the change of a weight is made up (algorithms.py has the formulas, docs/adapters.md the differences)."""

    LORA = "lora"
    RSLORA = "rslora"
    DORA = "dora"
    LOCON = "locon"
    LOHA = "loha"
    LOKR = "lokr"
    FULL = "full"
    GLORA = "glora"


class Init(str, Enum):
    """How PEFT draws the first values of a LoRA. All of them start with no effect."""

    KAIMING = "kaiming"
    GAUSSIAN = "gaussian"
    ORTHOGONAL = "orthogonal"


class FileDtype(str, Enum):
    """Number format of a saved slider."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class FileFormat(str, Enum):
    """How a saved slider names its layers, and who reads it."""

    NATIVE = "native"
    KOHYA = "kohya"
    DIFFUSERS = "diffusers"
    LYCORIS = "lycoris"
    PEFT = "peft"


def choice(kind: type[Enum], value: Any, what: str) -> Any:
    """`value` as a member of `kind`; SliderError that lists the members otherwise."""
    try:
        return kind(value)
    except ValueError:
        raise SliderError(f'{what} "{value}" is not known; {nearest(str(value), [m.value for m in kind])}') from None


def need(ok: bool, message: str) -> None:
    if not ok:
        raise SliderError(message)


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


class JsonSpec:
    """`to_json` and `from_json` for a frozen dataclass of plain values, Enums and tuples."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls: type[Spec], text: str) -> Spec:
        try:
            values = json.loads(text)
        except json.JSONDecodeError as fault:
            raise SliderError(f"{cls.__name__}: not valid JSON ({fault}).") from None
        need(isinstance(values, dict), f"{cls.__name__}: a JSON object is needed, got {type(values).__name__}.")
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for key in values:
            need(key in names, f'{cls.__name__} has no field "{key}"; {nearest(key, names)}')
        return cls(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


PEFTS = (Algorithm.LORA, Algorithm.RSLORA, Algorithm.DORA)
TUCKER = (Algorithm.LOCON, Algorithm.LOHA, Algorithm.LOKR)
Patterned = tuple[tuple[str, float], ...]  # (regular expression on module paths, value); the first that matches counts


@dataclass(frozen=True)
class AdapterSpec(JsonSpec):
    """What is trained: an algorithm, its size, and the layers. In a LoRA the update of a weight is strength * alpha / rank * B A.

    `conv_rank` and `conv_alpha` are for convolutions with a kernel larger than 1 (None: as for the others; rank 0 leaves them
    out), and the pattern tuples override both per layer. `names` choose layers beside `patterns`: the end of a path, another
    program's name for a layer, or a class, as the `target_module` of a LyCORIS preset has them.
    """

    rank: int = 4
    alpha: float = 4.0  # the same number as the rank leaves the update as it is
    preset: str = Preset.AUTO.value  # a Preset or a family's name, which targets.py checks against the model
    patterns: tuple[str, ...] = ()  # regular expressions on module paths, for Preset.CUSTOM
    exclude: tuple[str, ...] = ()
    algorithm: Algorithm = Algorithm.LORA
    names: tuple[str, ...] = ()  # for Preset.CUSTOM
    conv_rank: int | None = None
    conv_alpha: float | None = None
    rank_pattern: Patterned = ()
    alpha_pattern: Patterned = ()
    dropout: float = 0.0  # share of a layer's input that the adapter does not see in a training step
    init: Init = Init.KAIMING  # LoRA, rsLoRA and DoRA
    factor: int = -1  # LoKr: the size of the first Kronecker factor; -1 as near to the square root as it goes
    full_matrix: bool = False  # LoKr: the second factor without a rank
    decompose_both: bool = False  # LoKr: the first factor with a rank too
    tucker: bool = False  # LoCon, LoHa, LoKr on kernels larger than 1: a core tensor between small factors

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", self.preset.value if isinstance(self.preset, Preset) else self.preset)
        object.__setattr__(self, "algorithm", choice(Algorithm, self.algorithm, "Algorithm"))
        object.__setattr__(self, "init", choice(Init, self.init, "Initialisation"))
        need(isinstance(self.preset, str) and bool(self.preset), f"The target preset must be a name, got {self.preset!r}.")
        custom = self.preset == Preset.CUSTOM.value
        need(
            bool(self.patterns or self.names) == custom,
            'patterns go with the preset "custom": give at least one pattern there, and none with another preset.',
        )
        self._check_sizes()
        self._check_options()

    def _check_sizes(self) -> None:
        ranks = [("rank", self.rank), *((f'rank of "{p}"', r) for p, r in self.rank_pattern)]
        ranks += [("conv_rank", self.conv_rank)] if self.conv_rank else []
        plain = self.conv_rank is None or (isinstance(self.conv_rank, int) and self.conv_rank >= 0)
        need(plain, f"conv_rank must be a whole number from 0, got {self.conv_rank!r}.")
        for name, rank in ranks:
            need(isinstance(rank, int) and rank >= 1, f"{name} must be a whole number from 1, got {rank!r}.")
            odd = self.init is Init.ORTHOGONAL and rank % 2
            need(not odd, f"{name} must be even with the initialisation {Init.ORTHOGONAL.value}, got {rank}.")
        alphas = [("alpha", self.alpha), *((f'alpha of "{p}"', a) for p, a in self.alpha_pattern)]
        alphas += [("conv_alpha", self.conv_alpha)] if self.conv_alpha is not None else []
        for name, alpha in alphas:
            need(is_number(alpha) and alpha > 0, f"{name} must be a positive number, got {alpha!r}.")
        for pattern, _ in (*self.rank_pattern, *self.alpha_pattern):
            try:
                re.compile(pattern)
            except re.error as fault:
                raise SliderError(f'Pattern "{pattern}" is not a valid regular expression: {fault}.') from None

    def _check_options(self) -> None:
        need(is_number(self.dropout) and 0 <= self.dropout < 1, f"dropout must be from 0 to below 1, got {self.dropout!r}.")
        whole = isinstance(self.factor, int) and (self.factor == -1 or self.factor >= 1)
        need(whole, f"factor must be -1 or a whole number from 1, got {self.factor!r}.")
        lokr = (Algorithm.LOKR,)
        for name, given, of in (
            ("init", self.init is not Init.KAIMING, PEFTS),
            ("factor", self.factor != -1, lokr),
            ("full_matrix", self.full_matrix, lokr),
            ("decompose_both", self.decompose_both, lokr),
            ("tucker", self.tucker, TUCKER),
        ):
            known = ", ".join(a.value for a in of)
            need(not given or self.algorithm in of, f'{name} is an option of {known}, not of "{self.algorithm.value}".')

    def size(self, path: str, large_kernel: bool) -> tuple[int, float]:
        """(rank, alpha) of the layer at `path`; `large_kernel`: a convolution whose kernel is larger than 1. Rank 0: left out."""
        rank = self.conv_rank if large_kernel and self.conv_rank is not None else self.rank
        alpha = self.conv_alpha if large_kernel and self.conv_alpha else self.alpha
        rank = next((r for pattern, r in self.rank_pattern if re.search(pattern, path)), rank)
        return int(rank), float(next((a for pattern, a in self.alpha_pattern if re.search(pattern, path)), alpha))


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


@dataclass(frozen=True)
class SweepSpec(JsonSpec):
    """strengths x seeds for one prompt. `steps` sampler steps, `cfg` guidance scale (1 = none)."""

    strengths: tuple[float, ...] = (-2.0, -1.0, 0.0, 1.0, 2.0)
    seeds: tuple[int, ...] = (0, 1, 2)
    prompt: str = ""
    steps: int = 16
    cfg: float = 1.0

    def __post_init__(self) -> None:
        need(len(self.strengths) > 0, "At least one strength is needed.")
        need(len(self.seeds) > 0, "At least one seed is needed.")
        need(all(is_number(s) for s in self.strengths), f"Strengths must be finite numbers, got {self.strengths}.")
        need(isinstance(self.steps, int) and self.steps >= 1, f"Sampler steps must be 1 or more, got {self.steps!r}.")
        need(is_number(self.cfg), f"cfg must be a number, got {self.cfg!r}.")


def parse_strengths(text: str) -> tuple[float, ...]:
    """Strengths from `-2, -1, 0, 1, 2` or the range `-2:2:0.5` (start:stop:step, stop included).

    Raises SliderError that names the word which is no number.
    """

    def number(word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        need(math.isfinite(value), f'Strength "{word.strip()}" is not a number; write them as -2,-1,0,1,2 or as -2:2:0.5.')
        return value

    parts = text.split(":")
    if len(parts) == 3:
        start, stop, step = (number(p) for p in parts)
        need(step != 0 and (stop - start) / step >= 0, f'Range "{text}" never arrives; the form is start:stop:step.')
        steps = (stop - start) / step
        need(math.isfinite(steps) and steps < MOST_STRENGTHS, f'Range "{text}" has more than {MOST_STRENGTHS} strengths.')
        count = math.floor(steps + 1e-9) + 1
        return tuple(round(start + i * step, 9) for i in range(count))
    words = text.replace("\n", ",").split(",")
    values = tuple(number(w) for w in words if w.strip())
    need(len(values) <= MOST_STRENGTHS, f"{len(values)} strengths were given; {MOST_STRENGTHS} at most.")
    need(len(values) > 0, "No strengths were given; write them as -2,-1,0,1,2 or as -2:2:0.5.")
    return values
