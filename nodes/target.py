"""SliderTargetInjector: chooses the layers of the loaded model that the slider may move, and the size of its LoRA."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.lora import AdapterSpec, Algorithm, Init, Preset
from ..slider_core.layers.select import Selection, presets, survey
from ..slider_core.train.target_choices import TargetChoices
from ..slider_core.with_comfy.control_hints import network
from ..slider_core.with_comfy.layer_names import named_layers
from .messages import say
from .sockets import TRAINING_MENU, TargetsSocket, lines, option

SHARE = {"min": 0.0, "max": 0.95, "step": 0.05}


@dataclass(frozen=True)
class Targets:
    """The adapter to be trained and the layers it fits."""

    spec: AdapterSpec
    selection: Selection
    control_net: Any = None  # the CONTROL_NET that the layers belong to, when it is not the model


class SliderTargetInjector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTargetInjector",
            display_name="Slider Target Injector",
            category=TRAINING_MENU,
            description="Chooses the layers that are trained: self-attention, projections and time embedding, no text layers.",
            search_aliases=["lora target", "slider layers", "attn1"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the slider is for."),
                io.Combo.Input(
                    "preset",
                    options=presets(),
                    default=Preset.AUTO.value,
                    tooltip="auto recognises the architecture. reference: SimpleTuner's lists. all: every layer. custom: your "
                    "own patterns. The others insist on one architecture.",
                ),
                io.Int.Input("rank", default=4, min=1, max=256, tooltip="Size of the LoRA. 4 is plenty for one concept."),
                io.Float.Input(
                    "alpha", default=4.0, min=0.01, max=1024.0, step=0.5, tooltip="The update is scaled by alpha / rank."
                ),
                lines("custom_patterns", "For the preset custom: regular expressions on layer names, one per line."),
                lines("exclude", "Regular expressions of layers to leave alone, one per line."),
                io.Combo.Input(
                    "algorithm",
                    options=Algorithm,
                    default=Algorithm.LORA,
                    optional=True,
                    tooltip="lora is where to begin. rslora: for higher ranks. dora: direction and size apart. locon, loha, "
                    "lokr, glora: LyCORIS' other shapes. full: whole weights, large files.",
                ),
                option(
                    "dropout", io.Float, 0.0, "Share of a layer's input that the slider does not see in a training step.", **SHARE
                ),
                option(
                    "conv_rank", io.Int, -1, "Rank on larger kernels. -1: as elsewhere. 0: leave them alone.", min=-1, max=256
                ),
                option("init", io.Combo, Init.KAIMING, "First values of lora, rslora and dora.", options=Init),
                option("lokr_factor", io.Int, -1, "lokr: size of the small factor. -1: the smallest file.", min=-1, max=1024),
                option("lokr_full_matrix", io.Boolean, False, "lokr: the large Kronecker factor without a rank."),
                lines(
                    "rank_pattern",
                    "Ranks of single layers, one per line: regular expression = rank. The first that matches counts.",
                ),
                lines("alpha_pattern", "Alphas of single layers, one per line: regular expression = alpha."),
                lines("lycoris_config", "A LyCORIS configuration as JSON, in place of algorithm, rank, alpha and their options."),
                io.ControlNet.Input(
                    "control_net",
                    optional=True,
                    tooltip="Put the slider into this ControlNet instead: the layers are then its own.",
                ),
            ],
            outputs=[
                TargetsSocket.Output(display_name="targets", tooltip="For Slider Train Step."),
                io.String.Output(display_name="report", tooltip="Which layers were found, and how many parameters that is."),
            ],
        )

    @classmethod
    def execute(cls, model: Any, preset: str, rank: int, alpha: float, control_net: Any = None, **options: Any) -> io.NodeOutput:
        spec, notes = TargetChoices(**options).adapter_spec(preset, rank, alpha)
        if control_net is None:
            selection = survey(model.model.diffusion_model, spec, named_layers(model))
        else:
            selection = survey(network(control_net), spec)
            notes = [*notes, "the layers are those of the ControlNet"]
        report = "\n".join([selection.report(spec), *(f"Note: {note}." for note in notes)])
        say(report)
        return io.NodeOutput(Targets(selection.spec or spec, selection, control_net), report)


NODES = [SliderTargetInjector]
