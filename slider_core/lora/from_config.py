"""Alphas that stand beside the tensors: in a PEFT folder's configuration, or in the header as diffusers and SimpleTuner write it.

Both are PEFT's LoraConfig. scale = alpha / rank, or alpha / sqrt(rank) with use_rslora. In a header each field has the name of
its model before it ("transformer.r"), and the layers are named by diffusers' paths.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.checks import SliderError, need, parse_json
from .formats.peft import MOST_ALPHA, PREFIX

HEADER_FIELD = "lora_adapter_metadata"
MODELS = ("transformer.", "unet.", "prior.", "")  # before the fields of the diffusion model, and before its layers


@dataclass(frozen=True)
class Alphas:
    """The alphas of a LoraConfig. `by_name`: of the layers whose path ends with a name, or, with True, is that name; each behind
    its place in the configuration, where the first that fits counts."""

    common: float
    by_name: Mapping[tuple[str, bool], tuple[int, float]] = field(default_factory=dict)
    rslora: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> Alphas:
        """SliderError that names `where` when a field is no number, or a pattern an expression, which may run for ever."""
        try:
            by_name: dict[tuple[str, bool], tuple[int, float]] = {}
            for pattern, alpha in dict(config.get("alpha_pattern") or {}).items():
                whole = pattern.startswith("^")
                name = re.sub(r"\\(.)", r"\1", pattern.removeprefix("^").removesuffix("$"))
                if not re.fullmatch(r"[\w.\-]+", name):
                    raise ValueError(f"alpha_pattern {pattern} is an expression")
                by_name.setdefault((name, whole), (len(by_name), _number(alpha)))
            common = config["lora_alpha"] if "lora_alpha" in config else config["alpha"]  # of a LoHa and a LoKr
            return cls(_number(common), by_name, bool(config.get("use_rslora")))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as fault:
            raise SliderError(f"{where} is damaged or not taken here ({fault}).", "peft.config") from None

    def alpha(self, layer: str, rank: int) -> float:
        """The alpha of a layer by its name in the file, such that the scale is alpha / rank."""
        path = layer
        for prefix in (*MODELS, PREFIX):
            path = path.removeprefix(prefix)
        parts = path.split(".")
        names = [(path, True), *((".".join(parts[start:]), False) for start in range(len(parts)))]
        alpha = min((self.by_name[name] for name in names if name in self.by_name), default=(0, self.common))[1]
        return alpha * math.sqrt(rank) if self.rslora else alpha


def _number(value: Any) -> float:
    if not abs(float(value)) <= MOST_ALPHA:
        raise ValueError("an alpha is no number")
    return float(value)


def header_alphas(header: Mapping[str, str], source: str) -> Alphas | None:
    """The alphas in a header that diffusers wrote; None where there are none of a diffusion model."""
    if HEADER_FIELD not in header:
        return None
    where = f"{source}: {HEADER_FIELD} in its header"
    fields = parse_json(header[HEADER_FIELD], where, "peft.config")
    need(isinstance(fields, dict), f"{where} is damaged: it is no JSON object.", "peft.config")
    for model in MODELS:
        config = {name.removeprefix(model): value for name, value in fields.items() if name.startswith(model)}
        if "lora_alpha" in config:
            return Alphas.from_config(config, where)
    return None
