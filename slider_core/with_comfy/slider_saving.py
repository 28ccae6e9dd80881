"""Sliders saved for ComfyUI: a file goes to its place once it has been proven that it does there what the slider does.

In: a slider and where it goes. Out: the file, and lines that say how exact it is; no file when the proof fails.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch

from ..config.lora import FileDtype, FileFormat
from ..lora.keys import with_ratio
from ..lora.loader_notes import loader_notes
from ..lora.safe_files import move_in, refuse_existing, set_aside
from ..lora.slider_file import DTYPES, Slider, rounding, save_slider
from .layer_names import architecture, layer_aliases, on_model, written_names
from .proof import Proof, proven_in_control, proven_on_model

ON_CONTROLNET = "It is for a ControlNet: Slider LoRA Apply puts it on one; Load LoRA leaves it out."
NOT_PROVEN = "Not tried: connect the model to have the file compared with the slider."


@contextmanager
def _trial_file(path: Path, overwrite: bool, kept: Path | None) -> Iterator[Path]:
    """Where a file is written and proven; it moves to `path` when the block ends well, and nowhere when it does not. What lies
    there moves to `kept` then, where that is given."""
    temporary = Path(folder_paths.get_temp_directory())
    temporary.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=temporary, ignore_cleanup_errors=True) as folder:
        trial = Path(folder) / path.name
        yield trial
        if kept is not None:
            set_aside(path, kept)
        move_in(trial, path, overwrite)


def _model_of(slider: Slider, model: Any) -> Any:
    """The MODEL to prove a slider on: the one that is given, or that which it was trained on while it is in memory, or None."""
    if model is None and isinstance(slider.proof, Proof):
        return slider.proof.model()
    return model


def save_proven(
    path: Path,
    slider: Slider,
    form: FileFormat,
    dtype: FileDtype,
    overwrite: bool = False,
    model: Any = None,
    kept: Path | None = None,
) -> list[str]:
    """Save a slider once the proof of the file has gone well; lines about it. SliderError, and no file, when it fails.

    `model` is the MODEL it is for; without one that which it was trained on, while that is in memory. `kept`:
    the place that the file at `path` is moved to before.
    """
    refuse_existing(path, overwrite)
    slider = slider.cut()
    eps = 0.0 if dtype is FileDtype.FP32 else torch.finfo(DTYPES[dtype]).eps
    if slider.info.in_controlnet:
        with _trial_file(path, overwrite, kept) as trial, torch.inference_mode():
            save_slider(trial, slider, dtype, form=form)
            summary = proven_in_control(trial, slider, eps)
        return [*rounding(slider, dtype), summary, ON_CONTROLNET]
    model = _model_of(slider, model)
    aliases, names = None, None
    if model is not None:
        on_layers = on_model(slider, model)
        aliases, names = layer_aliases(model), written_names(model)
        info = replace(slider.info, architecture=slider.info.architecture or architecture(model))
        weights = with_ratio(on_layers.weights, model.model.diffusion_model)
        slider = replace(on_layers, weights=weights, info=info, proof=slider.proof)
    with _trial_file(path, overwrite, kept) as trial:
        save_slider(trial, slider, dtype, form=form, aliases=names)
        summary = NOT_PROVEN if model is None else proven_on_model(trial, slider, model, form, eps)
    return [*rounding(slider, dtype), summary, *loader_notes(slider.weights, form, aliases)]
