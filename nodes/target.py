"""SliderTargetInjector: chooses the layers of the loaded model that the slider may move, and the size of its LoRA."""

from dataclasses import dataclass

from comfy_api.latest import io

from ..slider_core.config import AdapterSpec, Preset
from ..slider_core.targets import Selection, presets, survey
from .sockets import CATEGORY, TargetsSocket
from .words import say


@dataclass(frozen=True)
class Targets:
    """The adapter that was asked for and the layers it was found to fit."""

    spec: AdapterSpec
    selection: Selection


def patterns(text: str) -> tuple[str, ...]:
    """One regular expression per line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


class SliderTargetInjector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTargetInjector",
            display_name="Slider Target Injector",
            category=CATEGORY,
            description="Chooses the layers a slider is trained on: self-attention, projections and time embedding of the image "
            "side. Except with the presets all and custom, text layers are left alone.",
            search_aliases=["lora target", "slider layers", "attn1"],
            inputs=[
                io.Model.Input("model"),
                io.Combo.Input(
                    "preset",
                    options=presets(),
                    default=Preset.AUTO.value,
                    tooltip="auto recognises the architecture. reference: the lists of SimpleTuner's slider guide. all: every "
                    "layer, as other LoRA trainers do. custom: your own patterns. The others insist on one architecture.",
                ),
                io.Int.Input("rank", default=4, min=1, max=256, tooltip="Size of the LoRA. 4 is plenty for one concept."),
                io.Float.Input(
                    "alpha",
                    default=4.0,
                    min=0.01,
                    max=1024.0,
                    step=0.5,
                    tooltip="The update is scaled by alpha / rank.",
                ),
                io.String.Input(
                    "custom_patterns",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="For the preset custom: regular expressions on layer names, one per line.",
                ),
                io.String.Input(
                    "exclude",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="Regular expressions of layers to leave alone, one per line.",
                ),
            ],
            outputs=[TargetsSocket.Output(display_name="targets"), io.String.Output(display_name="report")],
        )

    @classmethod
    def execute(
        cls,
        model: io.Model.Type,
        preset: str,
        rank: int,
        alpha: float,
        custom_patterns: str = "",
        exclude: str = "",
    ) -> io.NodeOutput:
        own = patterns(custom_patterns) if preset == Preset.CUSTOM.value else ()
        spec = AdapterSpec(rank, alpha, preset, own, patterns(exclude))
        selection = survey(model.model.diffusion_model, spec.preset, spec.patterns, spec.exclude)
        report = selection.report(rank)
        say(report)
        return io.NodeOutput(Targets(spec, selection), report)


NODES = [SliderTargetInjector]
