"""How a slider comes onto a MODEL or a CONTROL_NET: merged or live, at a calibrated strength or a LoRA weight."""

from __future__ import annotations

from typing import Any

from ..config.checks import choice, need
from ..lora.calibration import Units
from ..lora.slider_file import Slider
from ..use.schedule import Mode, Window
from .control_hints import network
from .layer_names import FOR_CONTROLNET, on_control, on_model
from .live_slider import beside_model
from .merged_slider import merged_into_control, merged_into_model

WHOLE = Window()


def found_on(slider: Slider, model: Any, control_net: Any = None) -> Slider:
    """The slider with its layers found in the MODEL or CONTROL_NET that it is for, and what has no place there left out."""
    if not slider.info.in_controlnet:
        return on_model(slider, model)
    need(control_net is not None, FOR_CONTROLNET, "slider.controlnet")
    return on_control(slider, network(control_net))


def apply(
    slider: Slider,
    strength: float,
    model: Any,
    control_net: Any = None,
    window: Window = WHOLE,
    mode: Mode | str = Mode.AUTO,
    units: Units | str = Units.CALIBRATED,
) -> tuple[Any, Any]:
    """(MODEL, CONTROL_NET) with the slider at `strength` on the one that it is for; at 0 they are the very same objects.

    `auto` merges, and goes live where the strength changes over the sampling. SliderError when a change is to be merged, or the
    slider is for a ControlNet and there is none.
    """
    chosen: Mode = choice(Mode, mode, "Mode")
    weight = slider.info.lora_weight(strength, units)
    if slider.info.in_controlnet:
        return model, _on_control_net(slider, weight, control_net, window, chosen)
    return _on_model(slider, weight, model, window, chosen), control_net


def _on_model(slider: Slider, weight: float, model: Any, window: Window, mode: Mode) -> Any:
    merged_message = "A merged slider cannot change during the sampling: set mode to auto, or drop window and curve."
    need(not (mode is Mode.MERGE and window.changes), merged_message, "apply.merged_window")
    if weight == 0:
        return model
    if mode is Mode.LIVE or window.changes:
        return beside_model(model, slider, weight, window)
    return merged_into_model(model, slider, weight)


def _on_control_net(slider: Slider, weight: float, control_net: Any, window: Window, mode: Mode) -> Any:
    live_message = "A slider in a ControlNet is merged into it: leave start, end, curve and mode as they are."
    need(not (mode is Mode.LIVE or window.changes), live_message, "apply.controlnet_live")
    need(control_net is not None, FOR_CONTROLNET, "slider.controlnet")
    return merged_into_control(control_net, slider, weight)
