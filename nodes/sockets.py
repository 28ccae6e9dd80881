"""What flows between the nodes, and the words they share."""

from comfy_api.latest import io

CATEGORY = "Slider"
# the canvas menu sorts by letter: so named, the groups stand in the order of use
DATASET_MENU, TRAINING_MENU, USE_MENU = f"{CATEGORY}/dataset", f"{CATEGORY}/training", f"{CATEGORY}/use"
DatasetSocket = io.Custom("SLIDER_DATASET")  # slider_core.data.dataset.Dataset
TargetsSocket = io.Custom("SLIDER_TARGETS")  # nodes.target.Targets
SliderSocket = io.Custom("SLIDER")  # slider_core.lora.slider_file.Slider: an immutable snapshot of trained weights
PromptsSocket = io.Custom("SLIDER_PROMPTS")  # slider_core.prompt_library.PromptLibrary
SweepSocket = io.Custom("SLIDER_SWEEP")  # slider_core.sweep_files.ShownSweep
PreviewSocket = io.Custom("SLIDER_PREVIEW")  # nodes.live_preview.LivePreview: how the strip of a training is drawn
