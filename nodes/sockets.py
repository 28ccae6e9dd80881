"""What flows between the nodes, their menus, and inputs that are folded away."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

CATEGORY = "Slider"
# the canvas menu sorts by letter: so named, the groups stand in the order of use
DATASET_MENU, TRAINING_MENU, USE_MENU = f"{CATEGORY}/dataset", f"{CATEGORY}/training", f"{CATEGORY}/use"
DatasetSocket = io.Custom("SLIDER_DATASET")  # slider_core.data.dataset.Dataset
TargetsSocket = io.Custom("SLIDER_TARGETS")  # nodes.target.Targets
SliderSocket = io.Custom("SLIDER")  # slider_core.lora.slider_file.Slider: an immutable snapshot of trained weights
PairPromptsSocket = io.Custom("SLIDER_PAIR_PROMPTS")  # slider_core.data.pair_prompts.PairPrompts
PromptsSocket = io.Custom("SLIDER_PROMPTS")  # slider_core.use.prompt_library.PromptLibrary
SweepSocket = io.Custom("SLIDER_SWEEP")  # slider_core.use.sweep_export.ShownSweep
SamplingSocket = io.Custom("SLIDER_SAMPLING")  # slider_core.use.sampling.SamplingRequest: how strips and sweeps are drawn
DatasetOptionsSocket = io.Custom("SLIDER_DATASET_OPTIONS")  # slider_core.data.source.DatasetChoices
TextOptionsSocket = io.Custom("SLIDER_TEXT_OPTIONS")  # nodes.text_options.TextOptions
TargetOptionsSocket = io.Custom("SLIDER_TARGET_OPTIONS")  # slider_core.train.target_choices.TargetChoices
TrainOptionsSocket = io.Custom("SLIDER_TRAIN_OPTIONS")  # slider_core.train.training_choices.TrainChoices
SweepOptionsSocket = io.Custom("SLIDER_SWEEP_OPTIONS")  # nodes.sweep_options.SweepOptions
FileOptionsSocket = io.Custom("SLIDER_FILE_OPTIONS")  # nodes.file_options.FileOptions
ScheduleSocket = io.Custom("SLIDER_SCHEDULE")  # nodes.schedule.SliderUse: when a slider acts, and how it comes onto a model


def option(name: str, kind: Any, default: Any, tooltip: str, **limits: Any) -> Any:
    """An input that a graph may leave out."""
    return kind.Input(name, default=default, tooltip=tooltip, optional=True, **limits)


def chooser(name: str, tooltip: str, fields: Mapping[str, list[io.Input]], optional: bool = False) -> Any:
    """A choice that shows only the fields of what is chosen; the first is the default."""
    options = [io.DynamicCombo.Option(key, inputs) for key, inputs in fields.items()]
    return io.DynamicCombo.Input(name, options, tooltip=tooltip, optional=optional)


def flattened(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a node by name, those of a choice (its own name among them) beside the others; None is what was left out."""
    flat: dict[str, Any] = {}
    for name, value in inputs.items():
        flat |= value if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if value is not None}


def lines(name: str, tooltip: str) -> Any:
    """Such an input of several lines of text."""
    return option(name, io.String, "", tooltip, multiline=True)
