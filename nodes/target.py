"""SliderTargetInjector: chooses the layers of the loaded model that the slider may move, and the size of its LoRA."""

from dataclasses import dataclass
from typing import Any

from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.config.lora import AdapterSpec, Algorithm, Init, Preset
from ..slider_core.layers.select import Selection, presets, survey_for
from ..slider_core.lora.lycoris_config import read_lycoris
from ..slider_core.with_comfy.control_hints import network
from ..slider_core.with_comfy.layer_names import layer_aliases
from .sockets import TRAINING_MENU, TargetsSocket
from .words import say


@dataclass(frozen=True)
class Targets:
    """The adapter that was asked for and the layers it was found to fit."""

    spec: AdapterSpec
    selection: Selection
    control_net: Any = None  # the CONTROL_NET that the layers belong to, when it is not the model


def patterns(text: str) -> tuple[str, ...]:
    """One regular expression per line."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def numbers(text: str, what: str, kind: type) -> tuple[tuple[str, float], ...]:
    """`pattern = number` lines."""
    found = []
    for line in patterns(text):
        pattern, _, value = line.rpartition("=")
        try:
            found.append((pattern.strip(), kind(value)))
        except ValueError:
            raise SliderError(f'{what}: "{line}" is no "pattern = number".') from None
        if not pattern.strip():
            raise SliderError(f'{what}: "{line}" has no pattern before the "=".')
    return tuple(found)


class SliderTargetInjector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTargetInjector",
            display_name="Slider Target Injector",
            category=TRAINING_MENU,
            description="Chooses the layers a slider is trained on: self-attention, projections and time embedding of the image "
            "side. Except with the presets all and custom, text layers are left alone.",
            search_aliases=["lora target", "slider layers", "attn1"],
            inputs=[
                io.Model.Input("model", tooltip="The model that the slider is for."),
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
                io.Combo.Input(
                    "algorithm",
                    options=Algorithm,
                    default=Algorithm.LORA,
                    optional=True,
                    tooltip="lora is where to begin. rslora: higher ranks keep their effect. dora: direction and size apart. "
                    "locon, loha, lokr, glora: LyCORIS' other shapes. full: whole weights, large files. See the help page.",
                ),
                io.Float.Input(
                    "dropout",
                    default=0.0,
                    min=0.0,
                    max=0.95,
                    step=0.05,
                    advanced=True,
                    optional=True,
                    tooltip="Share of a layer's input that the slider does not see in a training step.",
                ),
                io.Int.Input(
                    "conv_rank",
                    default=-1,
                    min=-1,
                    max=256,
                    advanced=True,
                    optional=True,
                    tooltip="Rank on convolutions with a kernel larger than 1. -1: as elsewhere. 0: leave them alone.",
                ),
                io.Combo.Input(
                    "init",
                    options=Init,
                    default=Init.KAIMING,
                    advanced=True,
                    optional=True,
                    tooltip="First values of lora, rslora and dora. None of them changes the model before training.",
                ),
                io.Int.Input(
                    "lokr_factor",
                    default=-1,
                    min=-1,
                    max=1024,
                    advanced=True,
                    optional=True,
                    tooltip="lokr: size of the small Kronecker factor. -1: near the square root, the smallest file.",
                ),
                io.Boolean.Input(
                    "lokr_full_matrix",
                    default=False,
                    advanced=True,
                    optional=True,
                    tooltip="lokr: the large Kronecker factor without a rank.",
                ),
                io.String.Input(
                    "rank_pattern",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="Ranks of single layers, one per line: regular expression = rank. The first that matches counts.",
                ),
                io.String.Input(
                    "alpha_pattern",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="Alphas of single layers, one per line: regular expression = alpha.",
                ),
                io.String.Input(
                    "lycoris_config",
                    default="",
                    multiline=True,
                    advanced=True,
                    optional=True,
                    tooltip="A LyCORIS configuration as JSON, as SimpleTuner's guide has it. It takes the place of algorithm, "
                    "rank, alpha and their options; layers it does not choose are those of the preset above.",
                ),
                io.ControlNet.Input(
                    "control_net",
                    optional=True,
                    tooltip="Put the slider into this ControlNet instead of the model: the layers are then its own.",
                ),
            ],
            outputs=[
                TargetsSocket.Output(display_name="targets", tooltip="For Slider Train Step."),
                io.String.Output(display_name="report", tooltip="Which layers were found, and how many parameters that is."),
            ],
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
        algorithm: str = Algorithm.LORA.value,
        dropout: float = 0.0,
        conv_rank: int = -1,
        init: str = Init.KAIMING.value,
        lokr_factor: int = -1,
        lokr_full_matrix: bool = False,
        rank_pattern: str = "",
        alpha_pattern: str = "",
        lycoris_config: str = "",
        control_net: Any = None,
    ) -> io.NodeOutput:
        spec = AdapterSpec(
            rank,
            alpha,
            preset,
            patterns(custom_patterns) if preset == Preset.CUSTOM.value else (),
            patterns(exclude),
            algorithm,
            conv_rank=None if conv_rank < 0 else conv_rank,
            rank_pattern=numbers(rank_pattern, "rank_pattern", int),
            alpha_pattern=numbers(alpha_pattern, "alpha_pattern", float),
            dropout=dropout,
            init=init,
            factor=lokr_factor,
            full_matrix=lokr_full_matrix,
        )
        spec, notes = read_lycoris(lycoris_config, spec) if lycoris_config.strip() else (spec, [])
        if control_net is None:
            selection = survey_for(model.model.diffusion_model, spec, layer_aliases(model))
        else:
            selection = survey_for(network(control_net), spec)
            notes = [*notes, "the layers are those of the ControlNet"]
        report = "\n".join([selection.report(spec), *(f"Note: {note}." for note in notes)])
        say(report)
        return io.NodeOutput(Targets(spec, selection, control_net), report)


NODES = [SliderTargetInjector]
