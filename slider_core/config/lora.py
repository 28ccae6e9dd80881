"""What is trained and how it is saved: layers, algorithm, sizes, file format."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from .checks import JsonSpec, all_are, is_number, is_whole, need, values_of
from .expressions import check_expression


class Preset(str, Enum):
    """Which layers a slider may touch: these, or the name of an architecture (layers/select.py)."""

    AUTO = "auto"
    REFERENCE = "reference"
    ALL = "all"
    CUSTOM = "custom"


class Algorithm(str, Enum):
    """How the change of a weight is made up (lora/ has the formulas, docs/adapters.md the differences)."""

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


LOKR = (Algorithm.LOKR,)
PEFTS = (Algorithm.LORA, Algorithm.RSLORA, Algorithm.DORA)
TUCKER = (Algorithm.LOCON, Algorithm.LOHA, Algorithm.LOKR)
Patterned = tuple[tuple[str, float], ...]  # (regular expression on module paths, value); the first that matches counts


@dataclass(frozen=True)
class AdapterSpec(JsonSpec):
    """What is trained: an algorithm, its size, and the layers. In a LoRA the update of a weight is strength * alpha / rank * B A.

    `conv_rank` and `conv_alpha` are for convolutions with a kernel larger than 1 (None: as for the others; rank 0 leaves them
    out), and the pattern tuples override both per layer; `sizes_by_name` become such patterns when the model is known.

    `names` choose layers beside `patterns`: the end of a path, another
    program's name for a layer, or a class, as the `target_module` of a LyCORIS preset has them.
    """

    rank: int = 4
    alpha: float = 4.0  # the same number as the rank leaves the update as it is
    preset: str = Preset.AUTO.value  # a Preset or an architecture's name, which layers/select.py compares with the model
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
    factor_pattern: Patterned = ()  # LoKr: the factor of single layers
    sizes_by_name: tuple[tuple[str, str, float], ...] = ()  # (a name as in `names`, the field that it adds to, value)
    tucker: bool = False  # LoCon, LoHa, LoKr on kernels larger than 1: a core tensor between small factors

    def __post_init__(self) -> None:
        if isinstance(self.preset, Preset):
            object.__setattr__(self, "preset", self.preset.value)
        self.convert("algorithm", Algorithm, "Algorithm")
        self.convert("init", Init, "Initialisation")
        self.check("preset", isinstance(self.preset, str) and bool(self.preset), "a name")
        self._check_lists()
        custom = self.preset == Preset.CUSTOM.value
        message = 'patterns go with the preset "custom": give at least one pattern there, and none with another preset.'
        need(bool(self.patterns or self.names) == custom, message, "adapter_spec.patterns")
        self._check_ranks()
        self._check_alphas()
        self._check_patterns()
        self._check_options()

    def _check_lists(self) -> None:
        for name in ("patterns", "exclude", "names"):
            value = getattr(self, name)
            texts = isinstance(value, (tuple, list)) and all_are(str, value)
            self.check(name, texts, "a list of texts")
        for name in ("rank_pattern", "alpha_pattern", "factor_pattern", "sizes_by_name"):
            length = 3 if name == "sizes_by_name" else 2
            value = getattr(self, name)
            listed = isinstance(value, (tuple, list)) and all(_is_sized(entry, length) for entry in value)
            self.check(name, listed, "a list of patterns, each with its number")

    def _check_ranks(self) -> None:
        self.check("conv_rank", self.conv_rank is None or is_whole(self.conv_rank, 0), "a whole number from 0")
        ranks: list[tuple[str, float]] = [("rank", self.rank)]
        ranks += [(f'rank of "{pattern}"', rank) for pattern, rank in self.rank_pattern]
        if self.conv_rank:
            ranks.append(("conv_rank", self.conv_rank))
        for name, rank in ranks:
            need(is_whole(rank, 1), f"{name} must be a whole number from 1, got {rank!r}.", "adapter_spec.rank")
            even = self.init is not Init.ORTHOGONAL or rank % 2 == 0
            message = f"{name} must be even with the initialisation {Init.ORTHOGONAL.value}, got {rank}."
            need(even, message, "adapter_spec.odd_rank")

    def _check_alphas(self) -> None:
        alphas = [("alpha", self.alpha)]
        alphas += [(f'alpha of "{pattern}"', alpha) for pattern, alpha in self.alpha_pattern]
        if self.conv_alpha is not None:
            alphas.append(("conv_alpha", self.conv_alpha))
        for name, alpha in alphas:
            positive = is_number(alpha) and alpha > 0
            need(positive, f"{name} must be a positive number, got {alpha!r}.", "adapter_spec.alpha")

    def _check_patterns(self) -> None:
        sized = [pattern for pattern, _ in (*self.rank_pattern, *self.alpha_pattern, *self.factor_pattern)]
        for pattern in (*self.patterns, *self.exclude, *sized):
            check_expression(pattern, "adapter_spec.pattern_invalid")

    def _check_options(self) -> None:
        self.check("dropout", is_number(self.dropout) and 0 <= self.dropout < 1, "from 0 to below 1")
        factors: list[tuple[str, float]] = [("factor", self.factor)]
        factors += [(f'factor of "{pattern}"', factor) for pattern, factor in self.factor_pattern]
        for name, factor in factors:
            sound = is_whole(factor, -1) and factor != 0
            need(sound, f"{name} must be -1 or a whole number from 1, got {factor!r}.", "adapter_spec.factor")
        self._check_option("init", self.init is not Init.KAIMING, PEFTS)
        self._check_option("factor", self.factor != -1, LOKR)
        self._check_option("factor_pattern", bool(self.factor_pattern), LOKR)
        self._check_option("full_matrix", self.full_matrix, LOKR)
        self._check_option("decompose_both", self.decompose_both, LOKR)
        self._check_option("tucker", self.tucker, TUCKER)

    def _check_option(self, name: str, in_use: bool, algorithms: tuple[Algorithm, ...]) -> None:
        message = f'{name} is an option of {values_of(algorithms)}, not of "{self.algorithm.value}".'
        need(not in_use or self.algorithm in algorithms, message, "adapter_spec.option")

    def size(self, path: str, large_kernel: bool) -> tuple[int, float]:
        """(rank, alpha) of the layer at `path`; `large_kernel`: a convolution whose kernel is larger than 1. Rank 0: left out."""
        rank: float = self.rank
        alpha = self.alpha
        if large_kernel and self.conv_rank is not None:
            rank = self.conv_rank
        if large_kernel and self.conv_alpha:
            alpha = self.conv_alpha
        return int(_first_match(self.rank_pattern, path, rank)), float(_first_match(self.alpha_pattern, path, alpha))

    def at(self, path: str) -> AdapterSpec:
        """The spec for the layer at `path` alone, with its own factor."""
        if not self.factor_pattern:
            return self
        return replace(self, factor=int(_first_match(self.factor_pattern, path, self.factor)), factor_pattern=())


def _is_sized(entry: Any, length: int) -> bool:
    """Whether it is texts and, at the end, a value."""
    fits = isinstance(entry, (tuple, list)) and len(entry) == length
    return fits and all_are(str, entry[:-1])


def _first_match(patterns: Patterned, path: str, default: float) -> float:
    for pattern, value in patterns:
        if re.search(pattern, path):
            return value
    return default
