"""What is trained, by the names of the inputs of Slider Target Injector: text as a person writes it, made an AdapterSpec."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.checks import SliderError, choice, shown
from ..config.lora import AdapterSpec, Algorithm, Init, Preset
from ..lora.lycoris_config import read_lycoris


def patterns(text: str) -> tuple[str, ...]:
    """One regular expression per line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def numbers(text: str, what: str, kind: type) -> tuple[tuple[str, float], ...]:
    """`pattern = number` lines."""
    pairs = []
    for line in patterns(text):
        pattern, _, value = line.rpartition("=")
        try:
            pairs.append((pattern.strip(), kind(value)))
        except ValueError:
            raise SliderError(f'{what}: "{shown(line)}" is no "pattern = number".', "target.pattern_number") from None
        if not pattern.strip():
            raise SliderError(f'{what}: "{shown(line)}" has no pattern before the "=".', "target.pattern_missing")
    return tuple(pairs)


@dataclass(frozen=True)
class TargetChoices:
    """The inputs of Slider Target Injector and Slider Target Options, by name."""

    preset: str = Preset.AUTO.value
    rank: int = AdapterSpec.rank
    alpha: float = 0.0  # 0: as the rank
    custom_patterns: str = ""
    exclude: str = ""
    algorithm: str = Algorithm.LORA.value
    dropout: float = 0.0
    conv_rank: int = -1
    init: str = Init.KAIMING.value
    lokr_factor: int = -1
    lokr_full_matrix: bool = False
    rank_pattern: str = ""
    alpha_pattern: str = ""
    lycoris_config: str = ""

    def adapter_spec(self) -> tuple[AdapterSpec, list[str]]:
        """What is trained, and notes about a LyCORIS configuration."""
        custom = self.custom_patterns if self.preset == Preset.CUSTOM.value else ""
        spec = AdapterSpec(
            self.rank,
            self.alpha or float(self.rank),
            self.preset,
            patterns(custom),
            patterns(self.exclude),
            choice(Algorithm, self.algorithm, "Algorithm"),
            conv_rank=None if self.conv_rank < 0 else self.conv_rank,
            rank_pattern=numbers(self.rank_pattern, "rank_pattern", int),
            alpha_pattern=numbers(self.alpha_pattern, "alpha_pattern", float),
            dropout=self.dropout,
            init=choice(Init, self.init, "Initialisation"),
            factor=self.lokr_factor,
            full_matrix=self.lokr_full_matrix,
        )
        if self.lycoris_config.strip():
            return read_lycoris(self.lycoris_config, spec)
        return spec, []
