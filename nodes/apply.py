"""SliderLoRAApply: a slider from the graph or from a file onto a model, at any strength, negative too."""

from typing import Any

import folder_paths
from comfy_api.latest import io

from ..slider_core.config.checks import need
from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.lora.useful_range import beyond_note, useful_range
from ..slider_core.train.progress_verdict import judged_note
from .checked_inputs import NOT_CONNECTED, refusal
from .files import file_fingerprint, found_path, load_by_name
from .inputs import strength_input
from .schedule import SliderUse
from .sockets import USE_MENU, ScheduleSocket, SliderSocket

NO_FILE = "none"
MINUS = "Acts at strengths below 0 in place of slider: -1 is this one at +1. For two one-way sliders, one for each side."


def check_one(connected: bool, file: str) -> None:
    """SliderError unless there is a slider on the socket or a file that is found, and not both."""
    message = "Slider LoRA Apply needs one slider: connect it, or choose a file, and not both."
    need(connected != (file != NO_FILE), message, "apply.one_slider")
    if file != NO_FILE:
        found_path(file)


def chosen(slider: Slider | None, file: str) -> Slider:
    """The slider on the socket, or else the file's. SliderError when both or neither are given."""
    check_one(slider is not None, file)
    return slider if slider is not None else load_by_name(file)


def beyond(slider: Slider, strength: float, units: str) -> str:
    """What a person should know of that strength: that the slider was judged not to be of use yet, that the strength lies beyond
    the useful range, that its units were not measured; else empty."""
    return " ".join(filter(None, [_beyond(slider, strength, units), judged_note(slider.info) if strength else ""]))


def _beyond(slider: Slider, strength: float, units: str) -> str:
    if slider.info.one_way and strength < 0 and units != Units.RAW.value:
        return f"Strength {strength:g} is the base model: this slider was trained from 0 to +1 alone."
    notes = slider.info.units_note(units), beyond_note([strength], useful_range(slider.info, units))
    return " ".join(filter(None, notes))


class SliderLoRAApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        files = [NO_FILE, *folder_paths.get_filename_list("loras")]
        return io.Schema(
            node_id="SliderLoRAApply",
            display_name="Slider LoRA Apply",
            category=USE_MENU,
            description="Sets a slider on a model. +1 draws what the positive images show, -1 the negative ones, "
            "0 is the base model.",
            has_intermediate_output=True,
            search_aliases=["slider strength", "adapter_strength", "lora strength"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the slider was trained on, or another of its kind."),
                SliderSocket.Input("slider", optional=True, tooltip="From Slider Train Step or Load Slider LoRA."),
                strength_input("strength", 1.0, "Signed: more of the concept above 0, less below, 0 is the model itself."),
                io.Combo.Input(
                    "file", options=files, default=NO_FILE, optional=True, tooltip="A saved slider, in place of slider."
                ),
                ScheduleSocket.Input("schedule", optional=True, tooltip="From Slider Schedule."),
                io.ControlNet.Input("control_net", optional=True, tooltip="For a slider that was trained in a ControlNet."),
                SliderSocket.Input("minus_slider", optional=True, tooltip=MINUS),
            ],
            outputs=[
                io.Model.Output(),
                io.ControlNet.Output(display_name="control_net", tooltip="With the slider, when it is for a ControlNet."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NO_FILE, **_choices: object) -> str | None:
        return file if file in (None, NO_FILE) else file_fingerprint(file)

    @classmethod
    def validate_inputs(cls, file: str | None = NO_FILE, slider: Any = NOT_CONNECTED) -> bool | str:
        return refusal(check_one, slider is not NOT_CONNECTED, file)

    @classmethod
    def execute(
        cls,
        model: Any,
        strength: float,
        slider: Slider | None = None,
        file: str = NO_FILE,
        schedule: SliderUse | None = None,
        control_net: Any = None,
        minus_slider: Slider | None = None,
    ) -> io.NodeOutput:
        use = schedule or SliderUse()
        slider = chosen(slider, file)
        if minus_slider is not None and strength < 0:
            slider, strength = minus_slider, -strength
        model, control_net = use.apply(slider, strength, model, control_net)
        warning = beyond(slider, strength, use.units)
        return io.NodeOutput(model, control_net, ui={"slider_note": (warning,)})


NODES = [SliderLoRAApply]
