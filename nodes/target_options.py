"""SliderTargetOptions: alpha, exceptions and sizes of single layers, a LyCORIS configuration."""

from typing import Any

from comfy_api.latest import io

from ..slider_core.train.target_choices import TargetChoices
from .sockets import TRAINING_MENU, TargetOptionsSocket, lines, option

ALPHA = "The update is scaled by alpha / rank. 0: as the rank."
DROPOUT = "Share of a layer's input that the slider does not see in a training step."
EXCLUDE = "Regular expressions of layers to leave alone, one per line."
RANKS = "Ranks of single layers, one per line: regular expression = rank. The first that matches counts."
ALPHAS = "Alphas of single layers, one per line: regular expression = alpha."
LYCORIS = "A LyCORIS configuration as JSON, in place of algorithm, rank, alpha and their options."


class SliderTargetOptions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTargetOptions",
            display_name="Slider Target Options",
            category=TRAINING_MENU,
            description="What of a slider's layers seldom needs a change: alpha, dropout, layers to leave alone, sizes of single "
            "layers, a LyCORIS configuration.",
            search_aliases=["alpha", "exclude layers", "rank pattern", "lycoris"],
            inputs=[
                option("alpha", io.Float, 0.0, ALPHA, min=0.0, max=1024.0, step=0.5),
                option("dropout", io.Float, 0.0, DROPOUT, min=0.0, max=0.95, step=0.05),
                lines("exclude", EXCLUDE),
                lines("rank_pattern", RANKS),
                lines("alpha_pattern", ALPHAS),
                lines("lycoris_config", LYCORIS),
            ],
            outputs=[TargetOptionsSocket.Output(display_name="options", tooltip="For Slider Target Injector.")],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        return io.NodeOutput(TargetChoices(**inputs))


NODES = [SliderTargetOptions]
