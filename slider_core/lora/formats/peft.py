"""PEFT's folders: adapter_model.safetensors with base_model.model.<path>.lora_A.weight, and adapter_config.json.

Alpha stands in the configuration, a DoRA's magnitude is a tensor. peft.PeftModel.from_pretrained reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...config.checks import need
from ...config.lora import FileFormat
from ...config.regular_files import read_json
from ...layers.layer import Aliases
from ..algorithms.dora import MAGNITUDE
from ..algorithms.lora import DOWN, UP
from ..algorithms.lora_dora import DoraWeight
from ..combine import by_layer
from ..file_format import Format, State, Weights, need_lora

PEFT_CONFIG, PEFT_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PEFT_FILES = (PEFT_WEIGHTS, "adapter_model.bin")
PREFIX = "base_model.model."
MOST_ALPHA = 1e6
MOST_BYTES = 8 << 20  # of a configuration


class Peft(Format):
    name = FileFormat.PEFT
    dotted = (PREFIX, f"unet.{PREFIX}", f"transformer.{PREFIX}")
    lora = (".lora_A.weight", ".lora_B.weight")
    endings = {  # noqa: RUF012
        **{".lora_A.default.weight": DOWN, ".lora_B.default.weight": UP, ".lora_A": DOWN, ".lora_B": UP},
        ".lora_magnitude_vector.weight": MAGNITUDE,
        ".lora_magnitude_vector.default.weight": MAGNITUDE,
        ".lora_magnitude_vector": MAGNITUDE,
    }

    def write(self, weights: Weights, aliases: Aliases | None = None, architecture: str = "") -> State:  # noqa: ARG002
        state: State = {}
        for path, weight in by_layer(weights).items():
            need_lora(weight, path, "A PEFT folder")
            stem = PREFIX + path
            state[stem + self.lora[0]] = weight.tensors[DOWN]
            state[stem + self.lora[1]] = weight.tensors[UP]
            if isinstance(weight, DoraWeight):
                magnitude = weight.magnitude(path)
                conv = weight.tensors[DOWN].ndim > 2
                state[f"{stem}.lora_magnitude_vector"] = magnitude.transpose(0, 1) if conv else magnitude.flatten()
        return state

    def config(self, weights: Weights) -> dict[str, Any]:
        layers = by_layer(weights)
        dora = {weight.is_dora for weight in layers.values()}
        message = "A PEFT folder is DoRA on all its layers or on none, and this slider is mixed: choose native or kohya."
        need(len(dora) == 1, message, "format.mixed_dora")
        rank, rank_pattern = _commonest({path: weight.size.rank for path, weight in layers.items()})
        alpha, alpha_pattern = _commonest({path: weight.size.alpha for path, weight in layers.items()})
        paths = "|".join(re.escape(path) for path in sorted(layers))
        return {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": alpha,
            "rank_pattern": rank_pattern,
            "alpha_pattern": alpha_pattern,
            "target_modules": f"^(?:{paths})$",  # a list would match ends of paths
            "use_dora": True in dora,
            "inference_mode": True,
            "lora_dropout": 0.0,
            "bias": "none",
        }


def _commonest(values: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """The value of most layers, and those of the others by a pattern of the path."""
    common = Counter(values.values()).most_common(1)[0][0]
    others = {}
    for path, value in values.items():
        if value != common:
            others[f"^{re.escape(path)}$"] = value
    return common, others


# --- reading


def peft_config(path: Path) -> dict[str, Any] | None:
    """The configuration beside the tensors of a PEFT folder; None for any other file."""
    beside = path.with_name(PEFT_CONFIG)
    if path.name not in PEFT_FILES or not beside.is_file():
        return None
    config: Any = read_json(beside, "PEFT configuration", "peft.config", MOST_BYTES)
    lora = isinstance(config, dict) and config.get("peft_type", "LORA") in ("LORA", "LOHA", "LOKR")
    need(lora, f"{beside}: a LoRA, LoHa or LoKr of PEFT is needed, and this is none.", "peft.no_lora")
    return config
