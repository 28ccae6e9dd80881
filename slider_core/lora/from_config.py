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
SLOW = re.compile(r"\)[*+{]|\(\?(?!:)|\\\d")  # repeated groups, looks around and references may try for ever
NUMBER = re.compile(r"(?:\\d|\[0-9\])[+*](?=\\\.|$)")  # a number up to a dot, which is found in one go
MOST_LENGTH, MOST_REPEATS, MOST_EXPRESSIONS = 200, 1, 20


@dataclass(frozen=True)
class Alphas:
    """The alphas of a LoraConfig. `by_name`: of the layers whose path ends with a name, or, with True, is that name;
    `expressions` likewise. Each has its place in the configuration, of which the first that fits counts."""

    common: float
    by_name: Mapping[tuple[str, bool], tuple[int, float]] = field(default_factory=dict)
    expressions: tuple[tuple[int, float, re.Pattern[str]], ...] = ()
    rslora: bool = False

    @classmethod
    def from_config(cls, config: Mapping[str, Any], where: str) -> Alphas:
        """SliderError that names `where` when a field is no number, or a pattern no expression, or one that may run for ever."""
        try:
            by_name: dict[tuple[str, bool], tuple[int, float]] = {}
            expressions = []
            for place, (pattern, alpha) in enumerate(dict(config.get("alpha_pattern") or {}).items()):
                name = re.sub(r"\\(\W)", r"\1", pattern.removeprefix("^").removesuffix("$"))
                if re.fullmatch(r"\w[\w.\-]*", name):
                    by_name.setdefault((name, pattern.startswith("^")), (place, _number(alpha)))
                else:
                    expressions.append((place, _number(alpha), _compiled(pattern)))
            if len(expressions) > MOST_EXPRESSIONS:
                raise ValueError(f"more than {MOST_EXPRESSIONS} expressions in alpha_pattern")
            common = config["lora_alpha"] if "lora_alpha" in config else config["alpha"]  # of a LoHa and a LoKr
            return cls(_number(common), by_name, tuple(expressions), bool(config.get("use_rslora")))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError, re.error) as fault:
            raise SliderError(f"{where} is damaged or not taken here ({fault}).", "peft.config") from None

    def alpha(self, layer: str, rank: int) -> float:
        """The alpha of a layer by its name in the file, such that the scale is alpha / rank."""
        path = layer
        for prefix in (*MODELS, PREFIX):
            path = path.removeprefix(prefix)
        parts = path.split(".")
        fitting = []
        if (path, True) in self.by_name:
            fitting.append(self.by_name[path, True])
        for start in range(len(parts)):
            ending = (".".join(parts[start:]), False)
            if ending in self.by_name:
                fitting.append(self.by_name[ending])
        fitting += [(place, value) for place, value, pattern in self.expressions if pattern.match(path[:MOST_LENGTH])]
        alpha = min(fitting, default=(0, self.common))[1]
        return alpha * math.sqrt(rank) if self.rslora else alpha


def _compiled(pattern: str) -> re.Pattern[str]:
    repeats = re.findall(r"[*+{]", NUMBER.sub("", pattern))
    if SLOW.search(pattern) or len(repeats) > MOST_REPEATS or len(pattern) > MOST_LENGTH:
        raise ValueError(f"alpha_pattern {pattern[:80]} is an expression that may take for ever")
    return re.compile(rf"(?:.*\.)?(?:{pattern})$")


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
