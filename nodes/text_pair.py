"""SliderTextPair: prompts in the place of images."""

from comfy_api.latest import io

from ..slider_core.config.checks import SliderError
from ..slider_core.data.bucket_spec import Latents, TextSliderSpec, held
from ..slider_core.data.dataset import Dataset, add_text_slider
from .sockets import DATASET_MENU, DatasetSocket


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
                io.String.Input(
                    "target", default="a person", multiline=True, tooltip="Whom the slider is for. Empty: everything."
                ),
                io.String.Input("positive", default="a person, smiling", multiline=True, tooltip="What +1 shows, said in full."),
                io.String.Input("negative", default="a person, sad", multiline=True, tooltip="What -1 shows, said in full."),
                io.String.Input(
                    "hold",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What must stay as it is: man, woman, old, young. Each is said beside all three prompts in turn.",
                ),
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=0.1,
                    max=20.0,
                    step=0.1,
                    optional=True,
                    tooltip="How far +1 is pushed, in differences between both ends.",
                ),
                DatasetSocket.Input(
                    "dataset", optional=True, tooltip="Images, or other text sliders, to be trained beside these."
                ),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.05,
                    optional=True,
                    tooltip="Loss weight of a step of prompts beside a step of images.",
                ),
                io.Combo.Input(
                    "latents",
                    options=Latents,
                    default=Latents.OWN,
                    advanced=True,
                    optional=True,
                    tooltip="own: the model makes them. images: the dataset's images, which are then trained on by prompts alone.",
                ),
                io.Int.Input("count", default=16, min=1, max=1000, advanced=True, optional=True, tooltip="Latents to make."),
                io.Int.Input(
                    "width", default=0, min=0, max=4096, step=8, advanced=True, optional=True, tooltip="0: the run's resolution."
                ),
                io.Int.Input(
                    "height", default=0, min=0, max=4096, step=8, advanced=True, optional=True, tooltip="0: the run's resolution."
                ),
                io.Int.Input(
                    "steps", default=10, min=1, max=100, advanced=True, optional=True, tooltip="Steps to make a latent."
                ),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=1.0,
                    max=30.0,
                    step=0.5,
                    advanced=True,
                    optional=True,
                    tooltip="Guidance scale while latents are made. 1: none, as guidance-distilled models want it.",
                ),
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
        latents: str = Latents.OWN.value,
        **numbers: float,
    ) -> io.NodeOutput:
        if Latents(latents) is Latents.IMAGES and (dataset is None or not dataset.buckets):
            raise SliderError(
                "Slider Text Pair: latents is images, and no images are connected. Connect a dataset, or choose own."
            )
        whole = add_text_slider(TextSliderSpec(target, positive, negative, held(hold), latents=latents, **numbers), dataset)
        return io.NodeOutput(whole, str(whole.report))


NODES = [SliderTextPair]
