"""SliderPairPrompts: two prompts of your own and the subjects that they are drawn of, for Slider Pair Maker."""

from comfy_api.latest import io

from ..slider_core.data.pair_prompts import pair_prompts
from .sockets import DATASET_MENU, PairPromptsSocket

# no braces here: the browser takes them for placeholders
SUBJECTS = "One a line; pairs are drawn of each in turn. It comes first in a prompt that does not name its place."
NAME = "pairs"  # of their folder, where none is written


class SliderPairPrompts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderPairPrompts",
            display_name="Slider Pair Prompts",
            category=DATASET_MENU,
            description="A concept in your own words for Slider Pair Maker: more of it, less of it, and in whom.",
            search_aliases=["pair prompts", "before after prompts", "own concept"],
            inputs=[
                io.String.Input("positive", default="{subject}, smiling", multiline=True, tooltip="More of the concept."),
                io.String.Input("negative", default="{subject}, serious", multiline=True, tooltip="Less of it."),
                io.String.Input("subjects", default="", multiline=True, optional=True, tooltip=SUBJECTS),
            ],
            outputs=[PairPromptsSocket.Output(display_name="prompts", tooltip="For Slider Pair Maker.")],
        )

    @classmethod
    def execute(cls, positive: str, negative: str, subjects: str = "") -> io.NodeOutput:
        return io.NodeOutput(pair_prompts(positive, negative, subjects, NAME))


NODES = [SliderPairPrompts]
