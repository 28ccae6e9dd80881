"""Whether a file holds an earlier state of a slider, or the slider as it is: one slider is one file."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from ..config.checks import SliderError
from ..config.lora import FileDtype, FileFormat
from .calibration import CalibrationInfo
from .formats.peft import PEFT_WEIGHTS
from .info import TEXTS, SliderInfo
from .safetensors_file import read_metadata

UNSAID = {"calibration": CalibrationInfo(), "range": (-1.0, 1.0)}  # what a header says where a slider says nothing
BEGUN_WITH = (
    "name",
    "dataset",
    "prompts",
    "model",
    "adapter",
    "encoders",
    "resolution",
    "assistant",
    "control",
    "start",
    "sides",
    "place",
)
APART = ("architecture", "training_id", "replaces")  # known to some savings only; said of the training, not of its state
STATE = (
    *(name for name in TEXTS if name not in APART),
    *("range", "calibration", "even_steps", "step", "explained", "images", "trained_strengths", "trigger"),
)


class Holds(str, Enum):
    """What a file is to a slider."""

    ANOTHER = "another"
    EARLIER = "earlier"
    REPLACED = "replaced"  # another training of that name, in place of which this one was begun
    THE_SAME = "the same"


def holds(path: Path, slider: SliderInfo, form: FileFormat, dtype: FileDtype) -> Holds:
    """What the file, or the PEFT folder, is to the slider. One that does not say what it was trained on is known by nothing."""
    try:
        header = read_metadata(path / PEFT_WEIGHTS if path.is_dir() else path)
    except (OSError, SliderError):
        return Holds.ANOTHER
    there = SliderInfo.from_header(header)
    if there.training_id and there.training_id in slider.replaces.split():
        return Holds.REPLACED
    origin = slider.dataset or slider.prompts
    if not origin or any(getattr(there, name) != getattr(slider, name) for name in BEGUN_WITH):
        return Holds.ANOTHER
    written_so = there.file_format is form and header.get("ss_mixed_precision") == dtype.value
    if written_so and all(_said(there, name) == _said(slider, name) for name in STATE):
        return Holds.THE_SAME
    if there.training_id and slider.training_id and there.training_id != slider.training_id:
        return Holds.ANOTHER
    return Holds.EARLIER if (there.step or 0) <= (slider.step or 0) else Holds.ANOTHER


def _said(info: SliderInfo, name: str) -> object:
    """A field as its header says it."""
    value = getattr(info, name)
    return UNSAID.get(name) if value is None else value
