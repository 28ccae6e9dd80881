"""SliderSweepOptions: what of a sweep seldom needs a change."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.sweep import parse_strengths
from ..slider_core.lora.calibration import Units
from .checked_inputs import refusal
from .inputs import units_input
from .sockets import USE_MENU, SweepOptionsSocket, option

AT_ONCE = "Strengths in one sampling call. 0: as many as the memory holds."


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """The inputs of the node, by name."""

    strengths_b: str = "-1, 0, 1"
    units: str = Units.CALIBRATED.value
    most_at_once: int = 0


class SliderSweepOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderSweepOptions",
            display_name="Slider Sweep Options",
            category=USE_MENU,
            description="Strengths of a second slider, units and memory, for Slider Strength Sweep and Slider Prompt Library.",
            search_aliases=["xy plot strengths", "lora weight units"],
            inputs=[
                option("strengths_b", io.String, "-1, 0, 1", "Strengths of slider_b: a list, or a range such as -1:1:0.5."),
                units_input(),
                option("most_at_once", io.Int, 0, AT_ONCE, min=0, max=1000),
            ],
            outputs=[SweepOptionsSocket.Output(display_name="options", tooltip="For the sweep and the prompt library.")],
        )

    @classmethod
    def validate_inputs(cls, strengths_b: str | None = None) -> bool | str:
        return refusal(parse_strengths, strengths_b)

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return io.NodeOutput(SweepOptions(**inputs))


NODES = [SliderSweepOptions]
