"""What is trained and how it is saved: layers, algorithm, sizes, file format."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from .checks import JsonSpec, SliderError, choice, is_number, need


class Preset(str, Enum):
    """Which layers a slider may touch: these, or the name of an architecture (layers/select.py)."""

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
