"""What flows between the nodes, their menus, and inputs that are folded away."""

from typing import Any

from comfy_api.latest import io

CATEGORY = "Slider"
# the canvas menu sorts by letter: so named, the groups stand in the order of use
DATASET_MENU, TRAINING_MENU, USE_MENU = f"{CATEGORY}/dataset", f"{CATEGORY}/training", f"{CATEGORY}/use"
DatasetSocket = io.Custom("SLIDER_DATASET")  # slider_core.data.dataset.Dataset
TargetsSocket = io.Custom("SLIDER_TARGETS")  # nodes.target.Targets
SliderSocket = io.Custom("SLIDER")  # slider_core.lora.slider_file.Slider: an immutable snapshot of trained weights
PromptsSocket = io.Custom("SLIDER_PROMPTS")  # slider_core.use.prompt_library.PromptLibrary
SweepSocket = io.Custom("SLIDER_SWEEP")  # slider_core.use.sweep_export.ShownSweep
SamplingSocket = io.Custom("SLIDER_SAMPLING")  # slider_core.use.sampling.SamplingRequest: how strips and sweeps are drawn


def option(name: str, kind: Any, default: Any, tooltip: str, **limits: Any) -> Any:
    """An input that seldom needs a change: folded away, and a graph may leave it out."""
    return kind.Input(name, default=default, tooltip=tooltip, advanced=True, optional=True, **limits)


def lines(name: str, tooltip: str) -> Any:
    """Such an input of several lines of text."""
    return option(name, io.String, "", tooltip, multiline=True)
