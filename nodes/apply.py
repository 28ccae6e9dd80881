"""SliderLoRAApply: a slider from the graph or from a file onto a model, at any strength, negative too."""

from typing import Any

import folder_paths
from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.schedule import Mode, Window, parse_points
from ..slider_core.with_comfy.slider_schedule import applied
from ..slider_core.with_comfy.slider_with_controlnet import with_slider_on_control
from .files import file_mark, load_by_name
from .sockets import USE_MENU, SliderSocket

NO_FILE = "none"


def chosen(slider: Slider | None, file: str) -> Slider:
    """The slider on the socket, or else the file's. SliderError when both or neither are given."""
    if (slider is None) == (file == NO_FILE):
        raise SliderError("Slider LoRA Apply needs one slider: connect it, or choose a file, and not both.")
    return slider if slider is not None else load_by_name(file)


def units_input() -> io.Combo.Input:
    """What a strength means, where a slider is used."""
    return io.Combo.Input(
        "units",
        options=Units,
        default=Units.CALIBRATED,
        advanced=True,
        optional=True,
        tooltip="calibrated: 1 is what the images show, where the slider knows it. raw: the number that any LoRA loader takes.",
    )


def window_inputs() -> list[io.Input]:
    """When a slider acts, and how it comes onto a model. The curve is text and not ComfyUI's CURVE, whose editor ends at 0 and 1:
    a strength may change its sign."""
    percent = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001, "advanced": True, "optional": True}
    return [
        io.Float.Input(
            "start_percent",
            default=0.0,
            tooltip="The slider acts from here on. 0.2 to 0.4 leaves the layout of the picture as it is.",
            **percent,
        ),
        io.Float.Input(
            "end_percent",
            default=1.0,
            tooltip="The slider acts up to here. 0 is the first sigma of the model's schedule, 1 the last.",
            **percent,
        ),
        io.String.Input(
            "curve",
            default="",
            advanced=True,
            optional=True,
            tooltip="How much of the strength counts when, as percent: share, lines between: 0.2: 0, 0.5: 1. Empty: all of it.",
        ),
        io.Combo.Input(
            "mode",
            options=Mode,
            default=Mode.AUTO,
            advanced=True,
            optional=True,
            tooltip="merge: into the weights, as any LoRA loader does; full speed. live: beside the weights; no patching, and "
            "it may change during the sampling. auto: merge, and live where a window or a curve asks for it.",
        ),
    ]


class SliderLoRAApply(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderLoRAApply",
            display_name="Slider LoRA Apply",
            category=USE_MENU,
            description="Sets a slider on a model. +1 draws what the positive images show, -1 the negative ones, "
            "0 is the base model.",
            search_aliases=["slider strength", "adapter_strength", "lora strength"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the slider was trained on, or another of its kind."),
                SliderSocket.Input("slider", optional=True, tooltip="From Slider Train Step or Load Slider LoRA."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.05,
                    round=0.001,
                    tooltip="Signed: more of the concept above 0, less below, 0 is the model itself.",
                ),
                io.Combo.Input(
                    "file",
                    options=[NO_FILE, *folder_paths.get_filename_list("loras")],
                    default=NO_FILE,
                    optional=True,
                    tooltip="A saved slider. Leave it at none when a slider is connected.",
                ),
                units_input(),
                *window_inputs(),
                io.ControlNet.Input("control_net", optional=True, tooltip="For a slider that was trained in a ControlNet."),
            ],
            outputs=[
                io.Model.Output(),
                io.ControlNet.Output(display_name="control_net", tooltip="With the slider, when it is for a ControlNet."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str | None = NO_FILE, **_choices: object) -> str:
        return file if file in (None, NO_FILE) else file_mark(file)

    @classmethod
    def execute(
        cls,
        model: Any,
        strength: float,
        slider: Slider | None = None,
        file: str = NO_FILE,
        units: str = Units.CALIBRATED.value,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        curve: str = "",
        mode: str = Mode.AUTO.value,
        control_net: Any = None,
    ) -> io.NodeOutput:
        found, window = chosen(slider, file), Window(start_percent, end_percent, parse_points(curve))
        strength = found.info.lora_weight(strength, units)
        if not found.info.in_controlnet:
            return io.NodeOutput(applied(model, found, strength, window, mode), control_net)
        if window.changes or mode == Mode.LIVE.value:
            raise SliderError("A slider in a ControlNet is merged into it: leave start, end, curve and mode as they are.")
        return io.NodeOutput(model, with_slider_on_control(control_net, found, strength))


NODES = [SliderLoRAApply]
