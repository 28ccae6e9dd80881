"""A run on disk: all it takes to go on exactly where it stopped, in one safetensors file that holds no code.

tensors   adapter/<layer>/<n>, optimizer/<parameter>/<name>[/<name>], ema/<n>, losses
header    KEY: JSON with the name, what the run was begun with, its choices, the step, the readings, the optimizer's groups
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..config.checks import SliderError
from ..config.training import TrainSpec
from ..lora.safe_files import atomic_write
from ..lora.safetensors_file import read_tensors
from .progress import Reading
from .trainer import Trainer

KEY, VERSION = "slider_run", 1


@dataclass(frozen=True)
class SavedRun:
    """What a file holds. `fingerprint` says what the run was begun with; `state` is for `Trainer.load_state_dict`."""

    name: str
    fingerprint: dict[str, str]
    training: TrainSpec
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """Finished steps."""
        return int(self.state["step"])

    def restore(self, trainer: Trainer) -> None:
        """Put a fresh trainer of the same slider where the run was."""
        trainer.adopt(self.training)  # its optimizer is the one whose state this is
        trainer.load_state_dict(self.state)


def save_run(path: Path, name: str, fingerprint: Mapping[str, str], trainer: Trainer) -> None:
    """Write the run as it stands, in place of an older file. SliderError when that fails; the older file is intact then."""
    state = trainer.state_dict()
    tensors = {f"adapter/{layer}/{n}": p for layer, parts in state["adapter"].items() for n, p in enumerate(parts)}
    plain = {str(n): _take_tensors(entries, f"optimizer/{n}", tensors) for n, entries in state["optimizer"]["state"].items()}
    tensors |= {f"ema/{n}": mean for n, mean in enumerate(state["ema"] or [])}
    tensors["losses"] = torch.tensor(state["losses"], dtype=torch.float64)
    told = {
        "version": VERSION,
        "name": name,
        "fingerprint": dict(fingerprint),
        "training": trainer.spec.to_json(),
        "step": state["step"],
        "readings": state["readings"],
        "groups": state["optimizer"]["param_groups"],
        "optimizer": plain,
    }
    content = save({key: value.contiguous() for key, value in tensors.items()}, {KEY: json.dumps(told)})
    atomic_write(path, content, overwrite=True)


def _take_tensors(entries: Mapping[str, Any], place: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What an optimizer remembers of a parameter: its tensors go into `tensors` under `place`, the rest comes back."""
    plain: dict[str, Any] = {}
    for key, value in entries.items():
        if isinstance(value, torch.Tensor):
            tensors[f"{place}/{key}"] = value.detach().cpu()
        else:
            plain[key] = _take_tensors(value, f"{place}/{key}", tensors) if isinstance(value, Mapping) else value
    return plain


@torch.inference_mode(False)  # an optimizer could not go on with tensors made under ComfyUI's inference mode
def load_run(path: Path) -> SavedRun:
    """Read what `save_run` wrote. SliderError when the file is damaged or something else."""
    tensors, metadata = read_tensors(path)
    try:
        told = json.loads(metadata[KEY])
        if told["version"] != VERSION:
            raise SliderError(f"{path} was written by another version of this program: train under a new name, or reset.")
        adapter: dict[str, dict[int, torch.Tensor]] = {}
        moments: dict[int, dict[str, Any]] = {int(n): dict(entries) for n, entries in told["optimizer"].items()}
        ema: dict[int, torch.Tensor] = {}
        for key, value in tensors.items():
            kind, _, rest = key.partition("/")
            first, _, last = rest.rpartition("/")
            if kind == "adapter":
                adapter.setdefault(first, {})[int(last)] = value
            elif kind == "optimizer":
                number, *way = first.split("/")
                entries = moments.setdefault(int(number), {})
                for name in way:
                    entries = entries.setdefault(name, {})
                entries[last] = value
            elif kind == "ema":
                ema[int(last)] = value
        state = {
            "adapter": {layer: [parts[n] for n in range(len(parts))] for layer, parts in adapter.items()},
            "optimizer": {"state": moments, "param_groups": told["groups"]},
            "ema": [ema[n] for n in range(len(ema))] or None,
            "step": int(told["step"]),
            "losses": tensors["losses"].tolist(),
            "readings": [astuple(Reading(*reading)) for reading in told["readings"]],
        }
        return SavedRun(str(told["name"]), dict(told["fingerprint"]), TrainSpec.from_json(told["training"]), state)
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        raise SliderError(f"{path} is no run that could be gone on with ({type(fault).__name__}: {fault}).") from None
