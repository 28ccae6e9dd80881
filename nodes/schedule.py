"""SliderSchedule: when a slider acts over the sampling, how it comes onto a model, and what its strength means."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.schedule import Mode, Window, parse_points
from ..slider_core.with_comfy.slider_apply import apply, found_on
from .checked_inputs import refusal
from .inputs import units_input
from .messages import say
from .sockets import USE_MENU, ScheduleSocket, option

START = "The slider acts from here on. 0.2 to 0.4 leaves the layout of the picture as it is."
END = "The slider acts up to here. 0 is the first sigma of the model's schedule, 1 the last."
CURVE = "How much of the strength counts when, as percent: share, lines between: 0.2: 0, 0.5: 1. Empty: all of it."
MODE = (
    "merge: into the weights, at full speed. live: beside the weights; it may change during the sampling. "
    "auto: merge, and live where a window or a curve asks for it."
)
PERCENT = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}


@dataclass(frozen=True, kw_only=True)
class SliderUse:
    """The inputs of the node, by name."""

    start_percent: float = 0.0
    end_percent: float = 1.0
    curve: str = ""
    mode: str = Mode.AUTO.value
    units: str = Units.CALIBRATED.value

    def apply(self, slider: Slider, strength: float, model: Any, control_net: Any = None) -> tuple[Any, Any]:
        """(MODEL, CONTROL_NET) with the slider on one of them."""
        if strength:
            slider = found_on(slider, model, control_net)
            lines = slider.left_out_lines()
            if lines:
                say("\n".join(lines))
        window = Window(self.start_percent, self.end_percent, parse_points(self.curve))
        return apply(slider, strength, model, control_net, window, self.mode, self.units)


class SliderSchedule(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderSchedule",
            display_name="Slider Schedule",
            category=USE_MENU,
            description="When a slider acts over the sampling, for Slider LoRA Apply and Slider Stack. Without this node it acts "
            "from the first step to the last.",
            search_aliases=["start percent", "strength schedule", "lora weight units"],
            inputs=[
                option("start_percent", io.Float, 0.0, START, **PERCENT),
                option("end_percent", io.Float, 1.0, END, **PERCENT),
                # text and not ComfyUI's CURVE, whose editor ends at 0 and 1: a strength may change its sign
                option("curve", io.String, "", CURVE),
                option("mode", io.Combo, Mode.AUTO, MODE, options=Mode),
                units_input(),
            ],
            outputs=[ScheduleSocket.Output(display_name="schedule", tooltip="For Slider LoRA Apply and Slider Stack.")],
        )

    @classmethod
    def validate_inputs(cls, curve: str | None = None) -> bool | str:
        return refusal(parse_points, curve)

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return io.NodeOutput(SliderUse(**inputs))


NODES = [SliderSchedule]
