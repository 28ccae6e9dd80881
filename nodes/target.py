"""SliderTargetInjector: chooses the layers of the loaded model that the slider may move, and the size of its LoRA."""

from dataclasses import dataclass, replace
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import need
from ..slider_core.config.lora import PEFTS, AdapterSpec, Algorithm, Init, Preset
from ..slider_core.layers.select import Selection, presets, survey
from ..slider_core.train.target_choices import TargetChoices
from ..slider_core.with_comfy.control_hints import network
from ..slider_core.with_comfy.layer_names import named_layers
from .sockets import TRAINING_MENU, TargetOptionsSocket, TargetsSocket, chooser, flattened, lines, option

PRESET = (
    "auto recognises the architecture. reference: SimpleTuner's lists. all: every layer. custom: your own patterns. "
    "The others insist on one architecture."
)
ALGORITHM = (
    "lora is where to begin. rslora: for higher ranks. dora: direction and size apart. locon, loha, lokr, glora: LyCORIS' other "
    "shapes. full: whole weights, large files."
)
CUSTOM = "Regular expressions on layer names, one per line."
CONV = "Rank on larger kernels. -1: as elsewhere. 0: leave them alone."


@dataclass(frozen=True)
class Targets:
    """The adapter to be trained and the layers it fits."""

    spec: AdapterSpec
    selection: Selection
    control_net: Any = None  # the CONTROL_NET that the layers belong to, when it is not the model


def algorithm_fields() -> dict[str, list[io.Input]]:
    """The inputs of each algorithm."""
    init = option("init", io.Combo, Init.KAIMING, "How the first values are drawn.", options=Init)
    conv = option("conv_rank", io.Int, -1, CONV, min=-1, max=256)
    factor = option("lokr_factor", io.Int, -1, "Size of the small factor. -1: the smallest file.", min=-1, max=1024)
    whole = option("lokr_full_matrix", io.Boolean, False, "The large Kronecker factor without a rank.")
    fields = {}
    for kind in Algorithm:
        fields[kind.value] = [
            *([init] if kind in PEFTS else []),
            *([conv] if kind is not Algorithm.FULL else []),
            *([factor, whole] if kind is Algorithm.LOKR else []),
        ]
    return fields


def automatic_targets(model: Any) -> Targets:
    """The layers that suit the model's architecture, at the smallest useful size."""
    selection = survey(model.model.diffusion_model, AdapterSpec(), named_layers(model))
    return Targets(selection.spec, selection)


class SliderTargetInjector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        layers = {name: [lines("custom_patterns", CUSTOM)] if name == Preset.CUSTOM.value else [] for name in presets()}
        control = "Put the slider into this ControlNet instead: the layers are then its own."
        return io.Schema(
            node_id="SliderTargetInjector",
            display_name="Slider Target Injector",
            category=TRAINING_MENU,
            description="Chooses the layers that are trained, and how. Without this node Slider Train Step takes those that suit "
            "the model, at rank 4: self-attention, projections and time embedding, no text layers.",
            search_aliases=["lora target", "slider layers", "attn1"],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            has_intermediate_output=True,  # the report comes again when it is not run anew
            inputs=[
                io.Model.Input("model", tooltip="The model that the slider is for."),
                chooser("preset", PRESET, layers),
                chooser("algorithm", ALGORITHM, algorithm_fields()),
                io.Int.Input("rank", default=4, min=1, max=256, tooltip="Size of the LoRA. 4 is plenty for one concept."),
                TargetOptionsSocket.Input("options", optional=True, tooltip="From Slider Target Options."),
                io.ControlNet.Input("control_net", optional=True, tooltip=control),
            ],
            outputs=[
                TargetsSocket.Output(display_name="targets", tooltip="For Slider Train Step."),
                io.String.Output(display_name="report", tooltip="Which layers were found, and how many parameters that is."),
            ],
        )

    @classmethod
    def execute(
        cls, model: Any, rank: int, options: TargetChoices | None = None, control_net: Any = None, **inputs: Any
    ) -> io.NodeOutput:
        chosen = flattened(inputs)
        asked = (cls.hidden.prompt or {}).get(str(cls.hidden.unique_id), {}).get("inputs", {})
        unknown = [name for name in ("preset", "algorithm") if name in asked and name not in chosen]  # ComfyUI drops them
        need(not unknown, f"Slider Target Injector: {', '.join(unknown)} is none of the choices.", "target.unknown")
        spec, notes = replace(options or TargetChoices(), rank=rank, **chosen).adapter_spec()
        if control_net is None:
            selection = survey(model.model.diffusion_model, spec, named_layers(model))
        else:
            selection = survey(network(control_net), spec)
            notes = [*notes, "the layers are those of the ControlNet"]
        report = "\n".join([selection.report(), *(f"Note: {note}." for note in notes)])
        return io.NodeOutput(Targets(selection.spec, selection, control_net), report, ui={"text": (report,)})


NODES = [SliderTargetInjector]
