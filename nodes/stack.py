"""SliderStack: several sliders on one model at once, each at its own strength."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.config.sweep import parse_strengths
from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.schedule import Mode, Window, parse_points
from ..slider_core.with_comfy.slider_schedule import applied
from .apply import units_input, window_inputs
from .sockets import USE_MENU, SliderSocket

NAMES = [f"slider_{number}" for number in range(1, 17)]


def strength_of_each(text: str, count: int) -> tuple[float, ...]:
    """As many strengths as sliders; one number serves all of them. SliderError when the numbers do not match."""
    found = parse_strengths(text)
    if len(found) == 1:
        return found * count
    if len(found) != count:
        raise SliderError(f"Slider Stack: {len(found)} strengths for {count} sliders: write one for each, or one for all.")
    return found


class SliderStack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderStack",
            display_name="Slider Stack",
            category=USE_MENU,
            description="Sets several sliders on a model at once, each at its own strength. A new input appears as soon as the "
            "last one is connected.",
            search_aliases=["several sliders", "lora stack", "compose sliders"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the sliders were trained on, or another of its kind."),
                io.Autogrow.Input(
                    "sliders",
                    template=io.Autogrow.TemplateNames(SliderSocket.Input("slider"), NAMES, min=1),
                    tooltip="From Load Slider LoRA or Slider Train Step.",
                ),
                io.String.Input(
                    "strengths",
                    default="1",
                    tooltip="One for each slider in their order, such as 1, -0.5, 2; or one number for all of them.",
                ),
                units_input(),
                *window_inputs(),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        sliders: dict[str, Slider],
        strengths: str,
        units: str = Units.CALIBRATED.value,
        start_percent: float = 0.0,
        end_percent: float = 1.0,
        curve: str = "",
        mode: str = Mode.AUTO.value,
    ) -> io.NodeOutput:
        window = Window(start_percent, end_percent, parse_points(curve))
        found = [slider for slider in sliders.values() if slider is not None]
        for slider, strength in zip(found, strength_of_each(strengths, len(found)), strict=True):
            model = applied(model, slider, slider.info.lora_weight(strength, units), window, mode)
        return io.NodeOutput(model)


NODES = [SliderStack]
