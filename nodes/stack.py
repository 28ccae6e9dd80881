"""SliderStack: several sliders on one model at once, each at its own strength."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import need
from ..slider_core.config.sweep import parse_strengths
from ..slider_core.lora.calibration import Units
from ..slider_core.lora.slider_file import Slider
from ..slider_core.use.sampling import SamplingRequest
from ..slider_core.with_comfy.solved_strengths import solved_strengths
from .apply import beyond
from .checked_inputs import refusal
from .messages import say
from .schedule import SliderUse
from .sockets import USE_MENU, SamplingSocket, ScheduleSocket, SliderSocket

SOLVE = (
    "From Slider Sampling: at its prompt strengths are solved so that each slider does what it does alone, although others act."
)
NAMES = [f"slider_{number}" for number in range(1, 17)]


def strength_of_each(text: str, count: int) -> Sequence[float]:
    """As many strengths as sliders; one number serves all of them. SliderError when the numbers do not match."""
    strengths = parse_strengths(text)
    if len(strengths) == 1:
        return strengths * count
    need(
        len(strengths) == count,
        f"Slider Stack: {len(strengths)} strengths for {count} sliders: write one for each, or one for all.",
        "stack.strengths",
    )
    return strengths


def as_calibrated(sliders: Sequence[Slider], strengths: Sequence[float], use: SliderUse) -> tuple[Sequence[float], SliderUse]:
    """Places of a dial as calibrated strengths, for what multiplies a strength; other units as they are."""
    if use.units != Units.EVEN_STEPS.value:
        return strengths, use
    calibrated = []
    for slider, strength in zip(sliders, strengths, strict=True):
        if note := slider.info.units_note(use.units):
            say(note)
        calibrated.append(slider.info.calibrated_strength(strength, use.units))
    return calibrated, replace(use, units=Units.CALIBRATED.value)


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
                io.String.Input("strengths", default="1", tooltip="One for each slider, such as 1, -0.5, 2; or one for all."),
                ScheduleSocket.Input("schedule", optional=True, tooltip="From Slider Schedule, for all of them."),
                SamplingSocket.Input("sampling", optional=True, tooltip=SOLVE),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def validate_inputs(cls, strengths: str | None = None, sliders: dict[str, Any] | None = None) -> bool | str:
        return refusal(strength_of_each, strengths, None if sliders is None else len(sliders))

    @classmethod
    def execute(
        cls,
        model: Any,
        sliders: dict[str, Slider],
        strengths: str,
        schedule: SliderUse | None = None,
        sampling: SamplingRequest | None = None,
    ) -> io.NodeOutput:
        use = schedule or SliderUse()
        connected = [slider for slider in sliders.values() if slider is not None]
        each = strength_of_each(strengths, len(connected))
        if sampling is not None:
            each, use = as_calibrated(connected, each, use)
            each, text = solved_strengths(model, connected, each, sampling, use.units)
            say(text)
        for slider, strength in zip(connected, each, strict=True):
            if note := beyond(slider, strength, use.units):
                say(f"{slider.info.name}: {note}" if slider.info.name else note)
            model, _ = use.apply(slider, strength, model)
        return io.NodeOutput(model)


NODES = [SliderStack]
