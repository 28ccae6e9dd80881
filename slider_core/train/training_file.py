"""A run on disk: all it takes to go on exactly where it stopped, in one safetensors file that holds no code.

tensors   adapter/<layer>/<n>, optimizer/<parameter>/<name>[/<name>], ema/<n>, losses
header    KEY: JSON with the name, the fingerprint, the training choices, the step, readings, probed rate, optimizer's groups
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

KEY, VERSION = "slider_run", 2


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
    tensors = {"losses": torch.tensor(state["losses"], dtype=torch.float64)}
    for layer, parts in state["adapter"].items():
        for number, parameter in enumerate(parts):
            tensors[f"adapter/{layer}/{number}"] = parameter
    for number, mean in enumerate(state["ema"] or []):
        tensors[f"ema/{number}"] = mean
    plain = {}
    for number, entries in state["optimizer"]["state"].items():
        plain[str(number)] = _take_tensors(entries, f"optimizer/{number}", tensors)
    header = {
        "version": VERSION,
        "name": name,
        "fingerprint": dict(fingerprint),
        "training": trainer.spec.to_json(),
        "step": state["step"],
        "readings": state["readings"],
        "probed": state["probed"],
        "groups": state["optimizer"]["param_groups"],
        "optimizer": plain,
    }
    content = save({key: value.contiguous() for key, value in tensors.items()}, {KEY: json.dumps(header)})
    atomic_write(path, content, overwrite=True)


def _take_tensors(entries: Mapping[str, Any], place: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """An optimizer's state of a parameter: its tensors go into `tensors` under `place`, the rest is returned."""
    plain: dict[str, Any] = {}
    for key, value in entries.items():
        if isinstance(value, torch.Tensor):
            tensors[f"{place}/{key}"] = value.detach().cpu()
        elif isinstance(value, Mapping):
            plain[key] = _take_tensors(value, f"{place}/{key}", tensors)
        else:
            plain[key] = value
    return plain


@torch.inference_mode(False)  # an optimizer could not go on with tensors made under ComfyUI's inference mode
def load_run(path: Path) -> SavedRun:
    """Read what `save_run` wrote. SliderError when the file is damaged or something else."""
    tensors, metadata = read_tensors(path)
    try:
        header = json.loads(metadata[KEY])
        same_version = header["version"] == VERSION
        run = _run(header, tensors) if same_version else None
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        reason = f"{type(fault).__name__}: {fault}"
        message = f"{path} is not a valid resume file ({reason}): train under a new name, or reset."
        raise SliderError(message, "resume.damaged") from None
    if run is None:
        message = f"{path} was written by another version of this program: train under a new name, or reset."
        raise SliderError(message, "resume.version")
    return run


def _run(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> SavedRun:
    fingerprint = {key: str(value) for key, value in header["fingerprint"].items()}
    return SavedRun(str(header["name"]), fingerprint, TrainSpec.from_json(header["training"]), _state(header, tensors))


def _state(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The state of a trainer out of a file's header and tensors."""
    adapter: dict[str, dict[int, torch.Tensor]] = {}
    moments: dict[int, dict[str, Any]] = {int(number): dict(entries) for number, entries in header["optimizer"].items()}
    ema: dict[int, torch.Tensor] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        place, _, last = rest.rpartition("/")
        if kind == "adapter":
            adapter.setdefault(place, {})[int(last)] = value
        elif kind == "optimizer":
            number, *path = place.split("/")
            entries = moments.setdefault(int(number), {})
            for name in path:
                entries = entries.setdefault(name, {})
            entries[last] = value
        elif kind == "ema":
            ema[int(last)] = value
    return {
        "adapter": {layer: _in_order(parts) for layer, parts in adapter.items()},
        "optimizer": {"state": moments, "param_groups": header["groups"]},
        "ema": _in_order(ema) or None,
        "step": int(header["step"]),
        "losses": tensors["losses"].tolist(),
        "readings": [astuple(Reading(*reading)) for reading in header["readings"]],
        "probed": header["probed"],
    }


def _in_order(numbered: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
    return [numbered[number] for number in range(len(numbered))]
