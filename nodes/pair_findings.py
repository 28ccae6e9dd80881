"""What the pair doctor says of a dataset, as the browser shows it: text for each pair, and the pairs' pictures as a file."""

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from ..slider_core.config.checks import SliderError, is_number, parse_json
from ..slider_core.data.bucket_spec import Unequal
from ..slider_core.data.dataset import Dataset
from ..slider_core.data.pairs_report import Examination
from ..slider_core.data.source import DatasetChoices
from ..slider_core.use.plot_video import Strip
from .frames import as_file

KEPT = 16
FORM = "The request needs choices as a JSON object: names of widgets of Load Slider Dataset and its options, and their values."
_found: OrderedDict[str, dict[str, Any]] = OrderedDict()  # by folder, choices and the state of its files
_lock = threading.Lock()


def findings_shown(folder: str, dataset: Dataset, examination: Examination) -> dict[str, Any]:
    """Plain JSON: the choice it is about, what is said of the whole set, the findings of each pair by the names of its files, the
    pictures without words as a file of `size` [width, height], and each pair's `band` [top, height] in them."""
    picture = examination.bare.picture
    pairs = []
    for ((positive, negative), texts), band in zip(examination.of_pairs, examination.bare.bands, strict=True):
        pairs.append({"positive": positive.name, "negative": negative.name, "words": texts, "band": band})
    return {
        "folder": folder,
        "summary": examination.summary,
        "of_all": examination.of_all,
        "pairs": pairs,
        "size": picture.size,
        "sheet": as_file(Strip(picture), f"slider_pair_rows_{dataset.digest}"),
    }


def _is_like(value: object, default: object) -> bool:
    """Whether a value can stand where the default does."""
    if isinstance(default, bool) or not isinstance(default, int | float):
        return type(value) is type(default)
    return is_number(value)


def choices_of(text: str) -> DatasetChoices:
    """The choices in a JSON object of widgets by name ("alpha.background" is the field of a choice); other names count for
    nothing. SliderError for anything else."""
    values = parse_json(text or "{}", "The choices", "edit.request")
    if not isinstance(values, Mapping):
        raise SliderError(FORM, "edit.request")
    plain = {name.rpartition(".")[2]: value for name, value in values.items()}
    defaults = {field.name: field.default for field in fields(DatasetChoices)}
    chosen = {name: plain[name] for name in defaults if name in plain}
    if not all(_is_like(value, defaults[name]) for name, value in chosen.items()):
        raise SliderError(FORM, "edit.request")
    return DatasetChoices(**chosen)


def _key(folder: str, state: str, choices: DatasetChoices) -> str:
    """What `unequal` says counts for a training alone: a set that is being filled is examined in any case."""
    return f"{folder} {sorted(asdict(as_examined(choices)).items())} {state}"


def as_examined(choices: DatasetChoices) -> DatasetChoices:
    """Choices with which sides of unequal counts are examined too."""
    return replace(choices, unequal=Unequal.BALANCE.value)


def keep_findings(folder: str, state: str, choices: DatasetChoices, shown: dict[str, Any]) -> None:
    """Findings about a folder, in that state of its files, read with those choices."""
    with _lock:
        _found[_key(folder, state, choices)] = shown
        while len(_found) > KEPT:
            _found.popitem(last=False)


def kept_findings(folder: str, state: str, choices: DatasetChoices) -> dict[str, Any] | None:
    """What `keep_findings` was given for the same; None where it was not, or long ago."""
    with _lock:
        key = _key(folder, state, choices)
        if key in _found:
            _found.move_to_end(key)
        return _found.get(key)
