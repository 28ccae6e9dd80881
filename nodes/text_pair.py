"""SliderTextPair: prompts in the place of images."""

from comfy_api.latest import io

from ..slider_core.data.bucket_spec import TextSliderSpec, held
from ..slider_core.data.dataset import Dataset, add_text_slider
from .sockets import DATASET_MENU, DatasetSocket, TextOptionsSocket
from .text_options import TextOptions

DATASET = "Images, or other text sliders, to be trained beside these."
HOLD = "Attributes to preserve: man, woman, old, young. Each joins all three prompts in turn."


class SliderTextPair(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SliderTextPair",
            display_name="Slider Text Pair",
            category=DATASET_MENU,
            description="A slider from prompts, without images: what the target becomes at +1 and at -1. Goes into Slider Train "
            "Step where a dataset would. The model teaches itself, on latents that it makes.",
            search_aliases=["text slider", "prompt slider", "concept slider", "LECO"],
            inputs=[
                io.String.Input("target", default="a person", multiline=True, tooltip="The subject prompt. Empty: everything."),
                io.String.Input("positive", default="a person, smiling", multiline=True, tooltip="The full prompt of +1."),
                io.String.Input("negative", default="a person, sad", multiline=True, tooltip="The full prompt of -1."),
                io.String.Input("hold", default="", multiline=True, optional=True, tooltip=HOLD),
                DatasetSocket.Input("dataset", optional=True, tooltip=DATASET),
                TextOptionsSocket.Input("options", optional=True, tooltip="From Slider Text Options."),
            ],
            outputs=[
                DatasetSocket.Output(display_name="dataset", tooltip="For Slider Train Step."),
                io.String.Output(display_name="report", tooltip="The prompts, as they will be trained on."),
            ],
        )

    @classmethod
    def execute(
        cls,
        target: str,
        positive: str,
        negative: str,
        hold: str = "",
        dataset: Dataset | None = None,
        options: TextOptions | None = None,
    ) -> io.NodeOutput:
        chosen = vars(options or TextOptions())
        whole = add_text_slider(TextSliderSpec(target, positive, negative, held(hold), **chosen), dataset)
        return io.NodeOutput(whole, whole.report)


NODES = [SliderTextPair]
