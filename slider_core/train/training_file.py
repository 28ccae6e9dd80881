"""A run on disk: all it takes to go on exactly where it stopped, in one safetensors file that holds no code.

tensors   adapter/<layer>/<n>, optimizer/<parameter>/<name>[/<name>], ema/<n>, losses
header    KEY: JSON with the name, the fingerprint, the training choices, the step, readings, probed rate, optimizer's groups
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from ..config.checks import SliderError, all_are, is_number, is_whole, need, parse_json, reason, shown
from ..config.training import TrainSpec
from ..lora.safe_files import atomic_write
from ..lora.safetensors_file import read_metadata, read_tensors
from .lineage import Lineage
from .optimizers import moments_of
from .progress import Reading
from .trainer import Trainer

KEY, VERSION = "slider_run", 2
MOST_STEPS = 10**9
FLAGS = 7  # numbers of a Reading, before what is true or false
NO_NUMBERS = ("nan", "inf", "-inf")  # what JSON has no numbers for, as text


@dataclass(frozen=True)
class SavedRun:
    """What a file holds. `fingerprint` says what the run was begun with; `state` is for `Trainer.load_state_dict`."""

    name: str
    fingerprint: dict[str, str]
    training: TrainSpec
    state: dict[str, Any]
    mark: str = ""  # of this save alone: another save, another mark
    lineage: Lineage = field(default_factory=Lineage)
    on_to: int = 0  # as Run has it

    @property
    def step(self) -> int:
        """Finished steps."""
        return int(self.state["step"])

    def restore(self, trainer: Trainer) -> None:
        """Put a fresh trainer of the same slider where the run was."""
        trainer.adopt(self.training)  # its optimizer is the one whose state this is
        check_fits(self.state, trainer)
        trainer.load_state_dict(self.state)


def name_and_mark(path: Path) -> tuple[str, str]:
    """Those of the run that lies there; both empty where there is none that can be read."""
    try:
        header = parse_json(read_metadata(path)[KEY], "run", "")
        return str(header["name"]), str(header.get("mark") or header["name"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def lineage_of(path: Path) -> Lineage | None:
    """That of the run that lies there; None where there is none that can be read."""
    try:
        return Lineage.from_header(parse_json(read_metadata(path)[KEY], "run", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def save_run(
    path: Path,
    name: str,
    fingerprint: Mapping[str, str],
    trainer: Trainer,
    lineage: Lineage | None = None,
    on_to: int = 0,
) -> str:
    """Write the run as it stands, in place of an older file, once it reads back; its mark. SliderError when that fails; the older
    file is intact then."""
    message = f"{path}: the run's weights are not finite and were not saved; the file before stays."
    need(trainer.adapter.finite(), message, "resume.not_finite")
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
        "mark": uuid.uuid4().hex,
        **(lineage or Lineage()).to_header(),
        "fingerprint": dict(fingerprint),
        "training": trainer.spec.to_json(),
        "on_to": on_to,
        "step": state["step"],
        "readings": _as_json(state["readings"]),
        "probed": state["probed"],
        "settled": state["settled"],
        "moved_error": state["moved_error"],
        "groups": _as_json(state["optimizer"]["param_groups"]),
        "optimizer": _as_json(plain),
    }
    content = save({key: value.contiguous() for key, value in tensors.items()}, {KEY: json.dumps(header)})
    atomic_write(path, content, overwrite=True, check=load_run)
    return str(header["mark"])


def _changed(tree: Any, change: Callable[[Any], Any]) -> Any:
    """Nested dicts and lists with `change` of each value in them; a tuple becomes a list."""
    if isinstance(tree, dict):
        return {key: _changed(part, change) for key, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_changed(part, change) for part in tree]
    return change(tree)


def _as_json(tree: Any) -> Any:
    """Nested values for JSON, which has no text for numbers that are not finite: Prodigy's settings have one."""
    return _changed(tree, lambda value: str(value) if isinstance(value, float) and not is_number(value) else value)


def _out_of_json(tree: Any) -> Any:
    """What `_as_json` was given, but for tuples."""
    return _changed(tree, lambda value: float(value) if value in NO_NUMBERS else value)


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
        header = _out_of_json(parse_json(metadata[KEY], "its header", "resume.damaged"))
        same_version = header["version"] == VERSION
        run = _run(header, tensors) if same_version else None
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as fault:
        why = reason(fault).rstrip(".") if isinstance(fault, SliderError) else f"{type(fault).__name__}: {reason(fault)}"
        message = f"{path} is not a valid resume file ({why}): train under a new name, or restart it."
        raise SliderError(message, "resume.damaged") from None
    if run is None:
        message = f"{path} was written by another version of this program: train under a new name, or restart it."
        raise SliderError(message, "resume.version")
    return run


def _run(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> SavedRun:
    fingerprint = {key: str(value) for key, value in header["fingerprint"].items()}
    state = _state(header, tensors)
    _check_numbers(header, tensors)
    mark = str(header.get("mark") or header["name"])
    training, lineage = TrainSpec.from_json(header["training"]), Lineage.from_header(header)
    return SavedRun(str(header["name"]), fingerprint, training, state, mark, lineage, header.get("on_to", 0))


def _check_numbers(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """SliderError that names the first value that no run can have."""
    step = header["step"]
    for count in (step, header.get("on_to", 0)):
        need(is_whole(count, 0) and count <= MOST_STEPS, f"step {shown(count)} is no count of steps", "")
    losses = tensors["losses"]
    need(losses.ndim == 1 and len(losses) == step, f"{losses.numel()} losses after {step} steps", "")
    for reading in header["readings"]:
        need(_is_reading(reading, step), f"the reading {shown(reading)} is none", "")
    probed = header["probed"]
    need(probed is None or (is_number(probed) and probed > 0), f"{shown(probed)} is no learning rate", "")
    moved = header.get("moved_error")
    need(moved is None or (is_number(moved) and moved > 0), f"{shown(moved)} is no error of moved pictures", "")
    for name, value in tensors.items():
        need(not value.is_floating_point() or bool(value.isfinite().all()), f"{shown(name)} is not finite", "")


def _is_reading(values: Any, step: int) -> bool:
    """Whether these are the fields of a Reading: a step up to the last, two shares, numbers or nothing, whether it is one-way."""
    if not isinstance(values, list):
        return False
    numbers, flags = values[:FLAGS], values[FLAGS:]
    fine = all(value is None or isinstance(value, float) or is_number(value) for value in numbers)
    first = fine and len(numbers) >= 3 and None not in numbers[:3] and is_whole(numbers[0], 0) and numbers[0] <= step
    return first and all_are(bool, flags)


def check_fits(state: Mapping[str, Any], trainer: Trainer) -> None:
    """SliderError unless the state of an optimizer and the average are those that this trainer would have itself."""
    parameters = trainer.adapter.parameters()
    shapes = [tuple(p.shape) for p in parameters]
    ema = [tuple(mean.shape) for mean in state["ema"] or []]
    need(not ema or ema == shapes, "The saved average has other sizes than the slider: train under a new name.", "resume.average")
    moments, groups = state["optimizer"]["state"], state["optimizer"]["param_groups"]
    expected_groups = trainer.optimizer.state_dict()["param_groups"]
    same = isinstance(groups, list) and len(groups) == len(expected_groups) and all(map(_same_group, groups, expected_groups))
    kind = trainer.spec.optimizer.value
    message = f"The optimizer's settings in the saved run are none of {kind}: train under a new name."
    need(same, message, "resume.optimizer")
    stray = next((number for number in moments if number >= len(shapes)), None)
    message = f"The saved optimizer has a state of parameter {stray}, and there are {len(shapes)}: train under a new name."
    need(stray is None, message, "resume.optimizer")
    for number, entries in moments.items():
        expected = _sizes(moments_of(trainer.spec, parameters[number]))
        saved = _sizes(entries)
        message = f"The optimizer's state of parameter {number} is {shown(saved)}, and {shown(expected)} is needed."
        need(saved == expected, f"{message} Train under a new name.", "resume.optimizer")


def _same_group(group: Any, own: Mapping[str, Any]) -> bool:
    if not isinstance(group, dict) or not own.keys() <= group.keys() or group["params"] != own["params"]:
        return False
    added = [_kind(value) for name, value in group.items() if name not in own]  # some add to them as they go
    return all(_kind(group[name]) == _kind(value) for name, value in own.items()) and set(added) <= {"number", bool}


def _kind(value: Any) -> object:
    """What a setting is: two of one kind may stand for each other."""
    if isinstance(value, (list, tuple)):
        return [_kind(part) for part in value]
    return "number" if is_number(value) or isinstance(value, float) else type(value)


def _sizes(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The shapes of an optimizer's tensors by name, and the kinds of what else it keeps."""
    sizes: dict[str, Any] = {}
    for name, value in sorted(entries.items()):
        if isinstance(value, Mapping):
            sizes[name] = _sizes(value)
        else:
            sizes[name] = tuple(value.shape) if isinstance(value, torch.Tensor) else _kind(value)
    return sizes


def _state(header: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The state of a trainer out of a file's header and tensors."""
    adapter: dict[str, dict[int, torch.Tensor]] = {}
    moments: dict[int, dict[str, Any]] = {_number(number): dict(entries) for number, entries in header["optimizer"].items()}
    ema: dict[int, torch.Tensor] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        place, _, last = rest.rpartition("/")
        if kind == "adapter":
            adapter.setdefault(place, {})[_number(last)] = value
        elif kind == "optimizer":
            number, *path = place.split("/")
            entries = moments.setdefault(_number(number), {})
            for name in path:
                entries = entries.setdefault(name, {})
            entries[last] = value
        elif kind == "ema":
            ema[_number(last)] = value
    return {
        "adapter": {layer: _in_order(parts) for layer, parts in adapter.items()},
        "optimizer": {"state": moments, "param_groups": header["groups"]},
        "ema": _in_order(ema) or None,
        "step": header["step"],
        "losses": tensors["losses"].tolist(),
        "readings": [astuple(Reading(*values)) for values in header["readings"]],
        "probed": header["probed"],
        "settled": header.get("settled", False) is True,
        "moved_error": header.get("moved_error"),  # runs of before 0.3 have none: it is measured when they go on
    }


def _number(text: str) -> int:
    need(text.isascii() and text.isdigit() and len(text) < 10, f"{shown(text)} is no number of a parameter", "")
    return int(text)


def _in_order(numbered: Mapping[int, torch.Tensor]) -> list[torch.Tensor]:
    return [numbered[number] for number in range(len(numbered))]
